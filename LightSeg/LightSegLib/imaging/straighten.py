"""Resamples slices that are not evenly above one another onto a regular grid."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .geometry import Geometry, triple

NEAR = 1e-3  # of a step: so close to a slice or a voxel, nothing is interpolated
LARGEST = 20  # times the voxels that are given; more come from distances that differ too much for one grid
FINE = 0.1  # share of the distances that are at most as large as the new one


def straighten(
    slice_of: Callable[[int], np.ndarray], positions: np.ndarray, plane: Geometry
) -> tuple[np.ndarray, Geometry]:
    """Return the voxels [k, j, i] and geometry of a stack on an orthogonal grid, interpolated linearly once.

    Between two slices the value is that of both at the place right above and below; outside of all slices it is the
    lowest of the image. The distance of the new slices divides the height of the stack and is at most that of the
    closest tenth of the given ones.

    Args:
        slice_of: voxels [j, i] of a slice by its number; each is asked for once, in order.
        positions: [k, 3] of the centers of the slices' first voxels, in mm (LPS), ascending along the third axis of
            `plane`, whose shape is that of the given stack, and whose directions and spacings within the slices are
            those of the result.

    Raises:
        InputError: if the new grid would be far larger than the given voxels.
    """
    axes = np.reshape(plane.direction, (3, 3))
    local = (positions - positions[0]) @ axes
    slice_positions = local[:, 2]
    steps = np.diff(slice_positions)
    if len(steps) == 0 or steps.min() <= 0:
        raise ValueError(_("the positions do not ascend"))
    count = math.ceil(np.ptp(slice_positions) / float(np.quantile(steps, FINE, method="lower")) - NEAR) + 1
    step = np.ptp(slice_positions) / (count - 1)
    offsets = local[:, :2] / plane.spacing[:2]  # of columns and rows, in voxels
    low = offsets.min(axis=0)
    more = np.ceil(np.ptp(offsets, axis=0) - NEAR).astype(int).tolist()
    grid = (count, plane.shape[1] + more[1], plane.shape[2] + more[0])
    if math.prod(grid) > LARGEST * math.prod(plane.shape):
        aside = np.ptp(local[:, :2], axis=0).max()
        raise InputError(
            _(
                "The slices are {low:.3g} to {high:.3g} mm apart and shifted sideways by up to {shift:.3g} mm, "
                "which does not fit a regular grid. Export the whole series again."
            ).format(low=steps.min(), high=steps.max(), shift=aside)
        )
    placed = _Placed(slice_of, offsets - low, grid[1:])
    voxels = _between(placed, slice_positions, np.arange(count) * step, grid)
    origin = positions[0] + axes[:, :2] @ (low * plane.spacing[:2])
    spacing = (plane.spacing[0], plane.spacing[1], float(step))
    return voxels, Geometry(grid, spacing, triple(origin), plane.direction)


class _Placed:
    """Slices in the frame that holds all of them, NaN where there is none; the last two are kept."""

    def __init__(self, slice_of: Callable[[int], np.ndarray], offsets: np.ndarray, size: tuple[int, ...]) -> None:
        self._slice_of, self._offsets, self._size = slice_of, offsets, size
        self._kept: dict[int, np.ndarray] = {}
        self.dtype = np.dtype(np.int16)
        self.lowest = math.inf

    def __getitem__(self, number: int) -> np.ndarray:
        if number not in self._kept:
            slice_voxels = self._slice_of(number)
            self.dtype = slice_voxels.dtype
            self.lowest = min(self.lowest, slice_voxels.min())
            exact = slice_voxels.astype(
                np.float64 if slice_voxels.dtype.itemsize > 2 and slice_voxels.dtype.kind != "f" else np.float32
            )
            shifted = _shifted(exact, self._offsets[number, 0], self._size[1])
            shifted = _shifted(shifted.T, self._offsets[number, 1], self._size[0]).T
            self._kept = {one: kept for one, kept in self._kept.items() if one == number - 1} | {number: shifted}
        return self._kept[number]


def _shifted(rows: np.ndarray, offset: float, size: int) -> np.ndarray:
    """Return the values [n, size] of rows [n, m] that begin at `offset`, interpolated linearly; NaN outside of them."""
    whole = math.floor(offset + NEAR)
    part = offset - whole
    out = np.full((len(rows), size), np.nan, rows.dtype)
    count = rows.shape[1]
    if part <= NEAR:
        out[:, whole : whole + count] = rows
    else:
        out[:, whole + 1 : whole + count] = rows[:, 1:] * (1 - part) + rows[:, :-1] * part
    return out


def _between(placed: _Placed, slice_positions: np.ndarray, new: np.ndarray, grid: tuple[int, int, int]) -> np.ndarray:
    """Return the voxels [k, j, i] at the heights `new`, between neighboring slices, in the slices' type."""
    last = len(slice_positions) - 2
    placed[0]  # which determines the type
    voxels = np.empty(grid, placed.dtype)
    empty: list[tuple[int, np.ndarray]] = []
    below = 0
    for number, height in enumerate(new):
        while below < last and height > slice_positions[below + 1]:
            below += 1
            placed[below]
        share = float(
            np.clip((height - slice_positions[below]) / (slice_positions[below + 1] - slice_positions[below]), 0, 1)
        )
        if share < NEAR:
            mixed = placed[below]
        elif share > 1 - NEAR:
            placed[below]
            mixed = placed[below + 1]
        else:
            lower, upper = placed[below], placed[below + 1]
            mixed = lower * (1 - share) + upper * share
            mixed = np.where(np.isnan(lower), upper, np.where(np.isnan(upper), lower, mixed))
        nowhere = np.isnan(mixed)
        if nowhere.any():
            empty.append((number, nowhere))
            mixed = np.where(nowhere, 0, mixed)
        voxels[number] = np.rint(mixed) if placed.dtype.kind in "iu" else mixed
    for number, nowhere in empty:
        voxels[number][nowhere] = placed.lowest
    return voxels
