"""Regions of interest: a box in the world, and the voxels it covers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .geometry import Geometry
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
        bounds = [(part.start, part.stop - 1) for part in slices[::-1]]
        index = np.array([[*corner, 1] for corner in itertools.product(*bounds)], float)
        return cls((index @ geometry.index_to_world.T)[:, :3])

    def slices(self, geometry: Geometry) -> Slices:
        """Return the array slices [k, j, i] of the voxels whose centers are within the box's bounds.

        Raises:
            InputError: if the box has no voxel of the volume inside.
        """
        homogeneous = np.c_[self.corners, np.ones(len(self.corners))].T
        index = (np.linalg.inv(geometry.index_to_world) @ homogeneous)[2::-1]  # rows k, j, i
        lower = np.maximum(np.ceil(index.min(axis=1) - 1e-6), 0).astype(int)
        upper = np.minimum(np.floor(index.max(axis=1) + 1e-6) + 1, geometry.shape).astype(int)
        if (upper <= lower).any():
            raise InputError(
                _(
                    "The region of interest is outside the volume. Move it over the structure to segment, "
                    "or omit it to segment the whole volume."
                )
            )
        k, j, i = (slice(int(a), int(b)) for a, b in zip(lower, upper, strict=True))
        return k, j, i
