"""The network's grid in template space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Axes along L, P, S.

    Attributes:
        size: voxels [k, j, i].
        spacing: mm, alike along all axes.
        origin: LPS mm of voxel 0.
    """

    size: tuple[int, int, int]
    spacing: float
    origin: tuple[float, float, float]

    def part(self, first: int) -> Grid:
        """Return the part of the grid from column i = `first` on."""
        k, j, i = self.size
        x, y, z = self.origin
        return Grid((k, j, i - first), self.spacing, (x + first * self.spacing, y, z))


@dataclass(frozen=True)
class Layout:
    """A grid and, where it is symmetric, how many voxels beyond the middle each half sees (0 without symmetry)."""

    grid: Grid
    overlap: int

    @property
    def half(self) -> Grid:
        """The left half with the overlap; the whole grid without symmetry."""
        return self.grid.part(self.grid.size[2] // 2 - self.overlap) if self.overlap else self.grid


def choose_grid(
    box: np.ndarray, spacing: float, margin: float, multiple: int, overlap: float, symmetric: bool
) -> Layout:
    """Return the grid around a box [2, 3] (LPS mm) with a margin in mm, its computed part a multiple of voxels long.

    Args:
        overlap: mm beyond the middle that each half needs at least. With symmetry the grid's middle is x = 0.
    """
    low, high = box[0] - margin, box[1] + margin

    def voxels(length: float) -> int:
        return math.ceil(length / spacing / multiple) * multiple

    size = [voxels(high[axis] - low[axis]) for axis in range(3)]
    middle = (low + high) / 2
    beyond = 0
    if symmetric:
        reach = math.ceil(max(high[0], -low[0]) / spacing)
        computed = voxels((reach * spacing) + overlap)
        beyond = computed - reach
        beyond = min(beyond, reach)
        reach = computed - beyond
        size[0], middle[0] = 2 * reach, 0.0
    x, y, z = (float(center - (length - 1) / 2 * spacing) for center, length in zip(middle, size, strict=True))
    return Layout(Grid((size[2], size[1], size[0]), spacing, (x, y, z)), beyond)
