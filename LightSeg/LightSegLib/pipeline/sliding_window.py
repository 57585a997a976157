"""The sliding window: where the tiles lie (sampler) and how their results come together (aggregator).

The aggregator keeps only the rows that later tiles still reach, as deep as one tile, and hands finished
rows on; its memory does not grow with the number of slices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

Position = tuple[int, int, int]


class TileSampler:
    """Tile positions [k, j, i] that cover `shape`, evenly spread, overlapping at least by `overlap` (a fraction).

    Positions come in order of k, as the aggregator needs them. Where a patch is larger than the volume, tiles
    become smaller, or are padded with zeros around the volume if `pad`.
    """

    def __init__(self, shape: Sequence[int], patch_size: Sequence[int], overlap: float, pad: bool = False) -> None:
        k, j, i = (min(tile, length) for tile, length in zip(patch_size, shape, strict=True))
        self.tile_size = (k, j, i)  # what a tile covers of the volume
        spare = [(patch - tile) if pad else 0 for patch, tile in zip(patch_size, self.tile_size, strict=True)]
        self._padding = [(extra // 2, extra - extra // 2) for extra in spare]
        self._starts = [_starts(length, tile, overlap) for length, tile in zip(shape, self.tile_size, strict=True)]

    @property
    def tile_voxels(self) -> int:
        """Voxels of one tile, with its padding."""
        return math.prod(tile + sum(extra) for tile, extra in zip(self.tile_size, self._padding, strict=True))

    def tile(self, volume: Tensor, position: Position) -> Tensor:
        """The tile [C, k, j, i] of `volume` [C, K, J, I] that starts at `position`."""
        for axis, (start, length) in enumerate(zip(position, self.tile_size, strict=True), start=1):
            volume = volume.narrow(axis, start, length)
        if not any(map(sum, self._padding)):
            return volume
        return F.pad(volume, [extra for pair in reversed(self._padding) for extra in pair])

    def covered(self, tile: Tensor) -> Tensor:
        """The part [..., k, j, i] of a tile or of its logits that lies in the volume."""
        for axis, ((before, _), length) in enumerate(zip(self._padding, self.tile_size, strict=True)):
            tile = tile.narrow(axis - 3, before, length)
        return tile

    def importance(self) -> Tensor:
        """Weight [k, j, i] of a tile's voxels in the mean of overlapping tiles."""
        padded = (tile + sum(extra) for tile, extra in zip(self.tile_size, self._padding, strict=True))
        k, j, i = padded
        return self.covered(gaussian((k, j, i)))

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
    """Weighted mean of overlapping tiles of logits, finished rows first.

    outputs: channels of the logits. importance: weight [k, j, i] of a tile's voxels. `add` takes tiles in
    the sampler's order and yields slabs [outputs, rows, J, I] from the first row to the last; `finish` the rest.
    """

    def __init__(self, outputs: int, shape: Sequence[int], importance: Tensor, device: torch.device) -> None:
        depth, height, width = shape
        self._weight = importance.to(device)
        self._depth = depth
        self._first = 0  # the row of the volume that is row 0 of the buffers
        self._sum = torch.zeros((outputs, importance.shape[0], height, width), device=device)
        self._total = torch.zeros((importance.shape[0], height, width), device=device)

    def add(self, logits: Tensor, position: Position) -> Iterator[Tensor]:
        """Add logits [outputs, k, j, i] of the tile at `position`; yields a slab when rows are finished."""
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
    """Importance of a tile's voxels [k, j, i], 1 at the centre (size // 2), nowhere 0.

    A unit impulse after a Gaussian filter of an eighth of the size; zeros become the smallest other value, so that
    a voxel seen only by a tile's corner still counts. This is nnU-Net's, whose models expect it.
    """
    weight = torch.ones(())
    for length in size:
        impulse = np.zeros(length)
        impulse[length // 2] = 1
        line = torch.from_numpy(ndimage.gaussian_filter(impulse, length / 8, mode="constant"))
        weight = weight[..., None] * line
    weight = (weight / weight.max()).float()
    return weight.clamp_min(float(weight[weight > 0].min()))


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    if length <= tile:
        return [0]
    steps = math.ceil((length - tile) / max(1.0, tile * (1 - overlap)))
    width = (length - tile) / steps  # multiplied after the division, so that halves round as in nnU-Net
    return [round(step * width) for step in range(steps + 1)]
