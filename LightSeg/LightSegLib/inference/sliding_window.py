"""The sliding window: tile positions (sampler) and the mean of their results (aggregator).

A tile is one position of a patch-sized window over the volume.

The aggregator keeps only the rows that later tiles still reach, as deep as one tile, and hands finished
rows on; its memory does not grow with the number of slices.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

SLAB_ROWS = 8  # handed on together

Position = tuple[int, int, int]


class TileSampler:
    """Tile positions [k, j, i] that cover `shape`, evenly spread, overlapping at least by `overlap` (a fraction).

    Positions come in order of k, as the aggregator needs them. Where a patch is larger than the volume, tiles become
    smaller, or are padded with zeros around the volume if `pad`.
    """

    def __init__(self, shape: Sequence[int], patch_size: Sequence[int], overlap: float, pad: bool = False) -> None:
        k, j, i = (min(tile, length) for tile, length in zip(patch_size, shape, strict=True))
        self.tile_size = (k, j, i)  # what a tile covers of the volume
        spare = [(patch - tile) if pad else 0 for patch, tile in zip(patch_size, self.tile_size, strict=True)]
        self._padding = [(extra // 2, extra - extra // 2) for extra in spare]
        self._starts = [_starts(length, tile, overlap) for length, tile in zip(shape, self.tile_size, strict=True)]

    @property
    def patch(self) -> Position:
        """Voxels [k, j, i] that the network gets: of one tile with its padding."""
        k, j, i = (tile + sum(extra) for tile, extra in zip(self.tile_size, self._padding, strict=True))
        return k, j, i

    def tile(self, volume: Tensor, position: Position) -> Tensor:
        """Return the tile [C, k, j, i] of `volume` [C, K, J, I] that starts at `position`."""
        for axis, (start, length) in enumerate(zip(position, self.tile_size, strict=True), start=1):
            volume = volume.narrow(axis, start, length)
        if not any(map(sum, self._padding)):
            return volume
        return F.pad(volume, [extra for pair in reversed(self._padding) for extra in pair])

    def covered(self, tile: Tensor) -> Tensor:
        """Return the part [..., k, j, i] of a tile, or of its logits, that is within the volume."""
        for axis, ((before, _), length) in enumerate(zip(self._padding, self.tile_size, strict=True)):
            tile = tile.narrow(axis - 3, before, length)
        return tile

    def importance(self) -> Tensor:
        """Weight [k, j, i] of a tile's voxels in the mean of overlapping tiles."""
        return self.covered(gaussian(self.patch))

    @property
    def rows(self) -> list[int]:
        """First voxels of the tiles along k."""
        return self._starts[0]

    @property
    def columns(self) -> list[tuple[int, int]]:
        """First voxels of the tiles along j and i."""
        return [(j, i) for j, i in itertools.product(*self._starts[1:])]

    def __len__(self) -> int:
        return math.prod(len(starts) for starts in self._starts)

    def __iter__(self) -> Iterator[Position]:
        return iter((k, j, i) for k, j, i in itertools.product(*self._starts))


class TileAggregator:
    """Weighted mean of overlapping tiles of logits, finished rows first.

    Args:
        outputs: channels of the logits.
        importance: weight [k, j, i] of a tile's voxels. `add` takes tiles in the sampler's order and yields slabs
            [outputs, rows, J, I] from the first row to the last; `finish` the rest. Sums are kept row by row with
            the channels last: a row is there from its first tile to its last, and what is added up, interpolated
            and compared later is contiguous in memory.
        allocate: gives the zeros [J, I, outputs] of a row.
    """

    def __init__(
        self,
        outputs: int,
        shape: Sequence[int],
        importance: Tensor,
        allocate: Callable[[tuple[int, ...]], Tensor] = torch.zeros,
    ) -> None:
        self._depth, height, width = shape
        self._importance = importance
        self._size = (height, width, outputs)
        self._allocate = allocate
        self._first = 0  # row of the volume that is the first of these:
        self._rows: deque[tuple[Tensor, Tensor]] = deque()  # sum [J, I, outputs] and weights [J, I, 1]

    def add(self, logits: Tensor, position: Position) -> Iterator[Tensor]:
        """Add logits [outputs, k, j, i] of the tile at `position`; yields slabs when rows are finished."""
        k, j, i = position
        yield from self._take(k - self._first)
        depth, height, width = self._importance.shape
        while len(self._rows) < depth:
            weights = torch.zeros((*self._size[:2], 1), device=logits.device)
            self._rows.append((self._allocate(self._size), weights))
        logits, importance = logits.permute(1, 2, 3, 0), self._importance[..., None]
        for row, weight, (total, weights) in zip(logits, importance, self._rows, strict=True):
            total[j : j + height, i : i + width].addcmul_(row, weight)
            weights[j : j + height, i : i + width] += weight

    def finish(self) -> Iterator[Tensor]:
        """Yield the remaining rows."""
        yield from self._take(self._depth - self._first)

    def _take(self, rows: int) -> Iterator[Tensor]:
        """Yield finished rows [outputs, rows, j, i], a slab at a time."""
        for count in [SLAB_ROWS] * (rows // SLAB_ROWS) + [rows % SLAB_ROWS]:
            finished = [self._rows.popleft() for _ in range(count)]
            if finished:
                yield torch.stack([total.div_(weights) for total, weights in finished]).permute(3, 0, 1, 2)
        self._first += rows


@cache
def gaussian(size: tuple[int, int, int]) -> Tensor:
    """Importance of a tile's voxels [k, j, i], 1 at the center (size // 2), nowhere 0.

    A unit impulse after a Gaussian filter of an eighth of the size; zeros become the smallest other value, so that a
    voxel seen only by a tile's corner still counts. This is nnU-Net's, whose models expect it.
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
    """Return the first voxels of evenly spread tiles along an axis."""
    if length <= tile:
        return [0]
    steps = math.ceil((length - tile) / max(1.0, tile * (1 - overlap)))
    width = (length - tile) / steps  # multiplied after the division, so that halves round as in nnU-Net
    return [round(step * width) for step in range(steps + 1)]
