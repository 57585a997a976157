"""The sliding window: where the tiles lie (sampler) and how their results come together (aggregator).

The aggregator keeps only the rows that later tiles still reach, as deep as one tile, and hands finished
rows on; its memory does not grow with the number of slices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import Tensor

Position = tuple[int, int, int]


class TileSampler:
    """Tile positions [k, j, i] that cover `shape`, evenly spread, overlapping at least by `overlap` (a fraction).

    Positions come in order of k, as the aggregator needs them. Tiles are never larger than the volume.
    """

    def __init__(self, shape: Sequence[int], patch_size: Sequence[int], overlap: float) -> None:
        k, j, i = (min(tile, length) for tile, length in zip(patch_size, shape, strict=True))
        self.tile_size = (k, j, i)
        self._starts = [_starts(length, tile, overlap) for length, tile in zip(shape, self.tile_size, strict=True)]

    @property
    def tile_voxels(self) -> int:
        """Voxels of one tile."""
        return math.prod(self.tile_size)

    def tile(self, volume: Tensor, position: Position) -> Tensor:
        """The tile [C, k, j, i] of `volume` [C, K, J, I] that starts at `position`."""
        for axis, (start, length) in enumerate(zip(position, self.tile_size, strict=True), start=1):
            volume = volume.narrow(axis, start, length)
        return volume

    def batches(self, size: int) -> Iterator[list[Position]]:
        """All positions in order, `size` at a time."""
        positions = iter(self)
        while batch := list(itertools.islice(positions, size)):
            yield batch

    def __len__(self) -> int:
        return math.prod(len(starts) for starts in self._starts)

    def __iter__(self) -> Iterator[Position]:
        return iter((k, j, i) for k, j, i in itertools.product(*self._starts))


class TileAggregator:
    """Gaussian-weighted mean of overlapping tiles of logits, finished rows first.

    `add` takes tiles in the sampler's order and yields slabs [classes, rows, J, I] from the first row to the
    last; `finish` yields the rest.
    """

    def __init__(self, classes: int, shape: Sequence[int], tile_size: Sequence[int], device: torch.device) -> None:
        depth, height, width = shape
        self._weight = gaussian(tuple(tile_size)).to(device)
        self._depth = depth
        self._first = 0  # the row of the volume that is row 0 of the buffers
        self._sum = torch.zeros((classes, tile_size[0], height, width), device=device)
        self._total = torch.zeros((tile_size[0], height, width), device=device)

    def add(self, logits: Tensor, position: Position) -> Iterator[Tensor]:
        """Add logits [classes, k, j, i] of the tile at `position`; yields a slab when rows are finished."""
        k, j, i = position
        if k > self._first:
            yield self._take(k - self._first)
        _, height, width = self._weight.shape
        self._sum[:, :, j : j + height, i : i + width] += logits.float() * self._weight
        self._total[:, j : j + height, i : i + width] += self._weight

    def finish(self) -> Iterator[Tensor]:
        """The remaining rows."""
        yield self._take(self._depth - self._first)

    def _take(self, rows: int) -> Tensor:
        finished = self._sum[:, :rows] / self._total[:rows]
        kept = self._sum.shape[1] - rows
        for buffer, axis in ((self._sum, 1), (self._total, 0)):
            if kept > 0:
                buffer.narrow(axis, 0, kept).copy_(buffer.narrow(axis, rows, kept).clone())
            buffer.narrow(axis, kept, rows).zero_()
        self._first += rows
        return finished


@cache
def gaussian(size: tuple[int, int, int]) -> Tensor:
    """Importance of a tile's voxels [k, j, i]: a Gaussian of an eighth of the size, 1 at the centre.

    It never falls below 1e-3, so that a voxel seen only by a tile's corner still counts.
    """
    weight = torch.ones(size)
    for axis, length in enumerate(size):
        x = (torch.arange(length) - (length - 1) / 2) / (length / 8)
        shape = [1, 1, 1]
        shape[axis] = length
        weight = weight * torch.exp(-0.5 * x**2).reshape(shape)
    return (weight / weight.max()).clamp_min(1e-3)


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    if length <= tile:
        return [0]
    steps = math.ceil((length - tile) / max(1, math.floor(tile * (1 - overlap))))
    return [round(step * (length - tile) / steps) for step in range(steps + 1)]
