"""Regions of interest: a box in the world, and the voxels it covers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .geometry import Geometry
from .nifti_forms import FLOAT32_MOVE
from .ras import ras_to_lps

Slices = tuple[slice, slice, slice]


@dataclass(frozen=True)
class RegionOfInterest:
    """A box, possibly rotated, by its eight corners [8, 3] in LPS mm."""

    corners: np.ndarray

    @classmethod
    def from_ras(cls, r1: float, a1: float, s1: float, r2: float, a2: float, s2: float) -> RegionOfInterest:
        """Upright box between two opposite corners in RAS mm, the coordinates that Slicer shows.

        Raises:
            InputError: for a box without extent.
        """
        if r1 == r2 or a1 == a2 or s1 == s2:
            raise InputError(_("The region of interest is empty. Give two opposite corners of a box."))
        corners = np.array(list(itertools.product((r1, r2), (a1, a2), (s1, s2))), float)
        return cls(ras_to_lps(corners))

    @classmethod
    def of_slices(cls, slices: Slices, geometry: Geometry) -> RegionOfInterest:
        """Return the box of the voxels [k, j, i] of a grid, from center to center."""
        return cls._between([(part.start, part.stop - 1) for part in slices[::-1]], geometry)

    @classmethod
    def around_voxels(cls, slices: Slices, geometry: Geometry) -> RegionOfInterest:
        """Return the box of the voxels [k, j, i] of a grid with all that they cover, from outer face to outer face."""
        return cls._between([(part.start - 0.5, part.stop - 0.5) for part in slices[::-1]], geometry)

    @classmethod
    def _between(cls, bounds: Sequence[tuple[float, float]], geometry: Geometry) -> RegionOfInterest:
        """Return the box between two indices, of voxels or parts of them, along i, j and k of a grid."""
        index = np.array([[*corner, 1] for corner in itertools.product(*bounds)], float)
        return cls((index @ geometry.index_to_world.T)[:, :3])

    def slices(self, geometry: Geometry) -> Slices:
        """Return the array slices [k, j, i] of the voxels whose centers are within the box's bounds.

        Raises:
            InputError: if the box has no voxel center of the volume inside.
        """
        low, high = self._bounds(geometry)
        lower = np.maximum(np.ceil(low - FLOAT32_MOVE), 0).astype(int)
        upper = np.minimum(np.floor(high + FLOAT32_MOVE) + 1, geometry.shape).astype(int)
        if (upper <= lower).any():
            if (high > -0.5).all() and (low < np.array(geometry.shape) - 0.5).all():
                raise InputError(
                    _(
                        "The region of interest is thinner than a voxel and has no voxel's center inside. "
                        "Enlarge it, or omit it to segment the whole volume."
                    )
                )
            raise InputError(
                _(
                    "The region of interest is outside the volume. Move it over the structure to segment, "
                    "or omit it to segment the whole volume."
                )
            )
        k, j, i = (slice(int(a), int(b)) for a, b in zip(lower, upper, strict=True))
        return k, j, i

    def share_outside(self, geometry: Geometry) -> float:
        """Return how much of the box's bounds is beyond what the voxels of a volume cover, from 0 to 1."""
        low, high = self._bounds(geometry)
        inside = np.minimum(high, np.array(geometry.shape) - 0.5) - np.maximum(low, -0.5)
        return float(1 - np.prod(np.clip(inside, 0, None) / (high - low)))

    def _bounds(self, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest index [k, j, i] of the box in a volume."""
        homogeneous = np.c_[self.corners, np.ones(len(self.corners))].T
        index = (np.linalg.inv(geometry.index_to_world) @ homogeneous)[2::-1]  # rows k, j, i
        return index.min(axis=1), index.max(axis=1)
