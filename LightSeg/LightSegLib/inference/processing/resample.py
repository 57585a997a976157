"""From one grid to another with the same outer faces, row by row, as nnU-Net v2 does it.

Interpolation is separable, so each axis has one matrix of weights and the rows that are asked for need only the input
rows nearby. Source of the rules: nnU-Net v2's default resampling, which is scikit-image's `resize` with edge values
repeated and the result kept within the input's range; along a separate axis the nearest slice is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ...catalog.card import Resampling

ANISOTROPY = 3.0  # of the coarsest to the finest spacing; beyond it the coarsest axis is interpolated separately
ORDERS = {"linear": 1, "cubic": 3}
NEGLIGIBLE = 1e-9  # weights of a spline fall by 0.27 with every voxel and never reach 0

Shape = tuple[int, int, int]


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> Shape:
    """Return the shape of an array resampled to a new spacing.

    Args:
        shape: voxels [k, j, i].
        spacing: mm [k, j, i].
        target: mm [k, j, i].
    """
    k, j, i = (max(1, round(s / t * n)) for n, s, t in zip(shape, spacing, target, strict=True))
    return k, j, i


def separate_axis(rule: Resampling, spacing: Sequence[float], target: Sequence[float]) -> int | None:
    """Return the array axis that is interpolated on its own: the one coarsest axis, None where there is none."""
    if rule.separate_axis == "never":
        return None
    for candidate in (spacing, target):
        if rule.separate_axis == "always" or max(candidate) / min(candidate) > ANISOTROPY:
            coarsest = [axis for axis in range(3) if max(candidate) / candidate[axis] == 1]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def nearest_axes(rule: Resampling, spacing: Sequence[float], target: Sequence[float]) -> list[int]:
    """Return the array axes along which the nearest voxel is taken."""
    separated = separate_axis(rule, spacing, target)
    return [
        axis
        for axis in range(3)
        if (rule.separate_axis_interpolation if axis == separated else rule.interpolation) == "nearest"
    ]


def nearest(length: int, new: int) -> np.ndarray:
    """Return, for each of `new` voxels along an axis, the index of the nearest of `length`."""
    positions = length / new * (np.arange(new) + 0.5) - 0.5
    return np.clip(np.floor(positions + 0.5), 0, length - 1).astype(int)


class Resampler:
    """Rows, along the first axis, of an array [k, j, i] on a grid with other numbers of voxels.

    Args:
        axis: the axis to interpolate separately (see `separate_axis`).
    """

    def __init__(self, shape: Shape, new_shape: Shape, rule: Resampling, axis: int | None = None) -> None:
        self.shape, self.new_shape, self.rule, self.axis = shape, new_shape, rule, axis
        self._order = [a for a in (2, 1, 0) if a != axis] + ([] if axis is None else [axis])

    @property
    def overshoots(self) -> bool:
        """Whether splines are used, which leave the range of the input and are cut back to it."""
        return self.rule.interpolation == "cubic" and self.shape != self.new_shape

    def needed(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first input row, and the one after the last, that the new rows depend on.

        Args:
            start: first new row.
            stop: the one after the last.
        """
        weights = self._maps[0]
        if weights is None:
            return start, stop
        if weights.dim() == 1:
            return int(weights[start:stop].min()), int(weights[start:stop].max()) + 1
        columns = (weights[start:stop].abs() > NEGLIGIBLE).any(dim=0).nonzero()
        return int(columns.min()), int(columns.max()) + 1

    def __call__(self, rows: Tensor, start: int, stop: int, bounds: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """New rows [stop - start, j, i] from the input rows that `needed` names, float32.

        Args:
            bounds: lowest and highest value of the input, broadcastable to [k, j, i], where `overshoots`.
        """
        first, last = self.needed(start, stop)
        for axis in self._order:
            if axis == self.axis and bounds is not None:
                rows = self._within(rows, bounds, first, last)
            weights = self._maps[axis]
            if weights is None:
                continue
            if weights.dim() == 1:
                index = weights[start:stop] - first if axis == 0 else weights
                rows = rows.index_select(axis, index)
            elif axis == 2:
                rows = rows @ weights.T
            elif axis == 1:
                rows = weights @ rows
            else:
                rows = torch.tensordot(weights[start:stop, first:last], rows, dims=1)
        if self.axis is None and bounds is not None:
            rows = self._within(rows, bounds, first, last)
        return rows

    def _within(self, rows: Tensor, bounds: tuple[Tensor, Tensor], first: int, last: int) -> Tensor:
        """Return rows kept within bounds that broadcast to [k, j, i]."""
        lower, upper = (bound[first:last] if bound.shape[0] > 1 else bound for bound in bounds)
        return torch.clamp(rows, lower, upper)

    @cached_property
    def _maps(self) -> list[Tensor | None]:
        """Return, for each axis, weights [new, old], indices [new] of the nearest voxels, or None for no change."""
        return [self._map(axis) for axis in range(3)]

    def _map(self, axis: int) -> Tensor | None:
        """Return the matrix [new, old] that resamples along an axis, or None if its length stays."""
        length, new = self.shape[axis], self.new_shape[axis]
        if length == new:
            return None
        interpolation = self.rule.separate_axis_interpolation if axis == self.axis else self.rule.interpolation
        if interpolation == "nearest":
            return torch.from_numpy(nearest(length, new))
        # What becomes of each voxel alone is its weight in all others: splines are linear in the voxels.
        lone = np.eye(length)
        zoomed = ndimage.zoom(lone, (new / length, 1), order=ORDERS[interpolation], mode="nearest", grid_mode=True)
        return torch.from_numpy(np.ascontiguousarray(zoomed, np.float32))


def resample_labels(labels: np.ndarray, new_shape: Shape) -> np.ndarray:
    """Return the labels [k, j, i] at other numbers of voxels, each new voxel with the label of the nearest one."""
    for axis, (length, new) in enumerate(zip(labels.shape, new_shape, strict=True)):
        labels = np.take(labels, nearest(length, new), axis)
    return labels
