"""A smooth map of voxel indices to positions, known at some voxels and interpolated between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

COARSE = 16  # voxels between those at which the map is computed, where that is close enough


class Lattice:
    """A map of voxels to positions, computed at few voxels and interpolated linearly in between.

    Along each axis it is computed at as few voxels as keep the tolerance, in units of the positions, halfway between
    them along one axis or several; where it bends at every voxel, at each.

    Args:
        mapping: positions [n, 3] of indices [n, 3] (i, j, k).
        shape: [k, j, i] of the voxels.
    """

    def __init__(
        self, mapping: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int, int], tolerance: float
    ) -> None:
        self.shape = shape
        steps = [COARSE] * 3  # along k, j, i
        while True:
            self._knots = [_knots(length, step) for length, step in zip(shape, steps, strict=True)]
            self._values = _mapped(mapping, self._knots)
            coarse = [axis for axis in range(3) if steps[axis] > 1]
            rough = [axis for axis in coarse if self._error(mapping, axis) > tolerance]
            for axes in (*itertools.combinations(coarse, 2), *itertools.combinations(coarse, 3)):
                if not rough and self._error(mapping, *axes) > tolerance:
                    rough = list(axes)  # it bends where no line of knots passes
            if not rough:
                return
            steps = [step // 2 if axis in rough else step for axis, step in enumerate(steps)]

    def slice(self, number: int) -> np.ndarray:
        """Return the positions [j, i, 3] of the voxels of the slice k = `number`."""
        along, down, across = self._knots
        rows = _between(self._values, along, np.array([number]), 0)[0]
        rows = _between(rows, down, np.arange(self.shape[1]), 0)
        return _between(rows, across, np.arange(self.shape[2]), 1)

    def at(self, index: np.ndarray) -> np.ndarray:
        """Return the position [3] of one index (i, j, k)."""
        i, j, k = (round(float(value)) for value in index)
        return np.asarray(self.slice(k)[j, i])

    @property
    def positions(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Indices along k, j and i at which the map was computed, and the positions [k, j, i, 3] there."""
        return self._knots, self._values

    def _error(self, mapping: Callable[[np.ndarray], np.ndarray], *axes: int) -> float:
        """Return how far the interpolation is from the map halfway between the knots along the axes, at most."""
        places, found = list(self._knots), self._values
        for axis in axes:
            knots = self._knots[axis]
            places[axis] = (knots[:-1] + knots[1:]) / 2
            if not len(places[axis]):
                return 0.0
            found = _between(found, knots, places[axis], axis)
        return float(np.abs(found - _mapped(mapping, places)).max())


def _knots(length: int, step: int) -> np.ndarray:
    """Return the voxels along an axis at which the map is computed."""
    return np.unique(np.append(np.arange(0, length, step), length - 1)).astype(float)


def _mapped(mapping: Callable[[np.ndarray], np.ndarray], axes: list[np.ndarray]) -> np.ndarray:
    """Return the positions [k, j, i, 3] of the lattice's knots."""
    k, j, i = np.meshgrid(*axes, indexing="ij")
    return mapping(np.stack([i, j, k], axis=-1).reshape(-1, 3)).reshape(*k.shape, 3)


def _between(values: np.ndarray, knots: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Return the values at `places` along an axis, interpolated linearly between those at the knots."""
    if len(knots) == 1:
        return np.repeat(values, len(places), axis=axis)
    cell = np.clip(np.searchsorted(knots, places, side="right") - 1, 0, len(knots) - 2)
    share = (places - knots[cell]) / (knots[cell + 1] - knots[cell])
    share = share.reshape(-1, *[1] * (values.ndim - axis - 1))
    return np.take(values, cell, axis=axis) * (1 - share) + np.take(values, cell + 1, axis=axis) * share
