"""Volumes of the scene whose grid is not at right angles: straightened, segmented there, and their labels back.

Slicer imports a CT with gantry tilt or uneven slices as an upright volume under a transform that puts every voxel at
its place. Such a volume, and any other under a shearing or bending transform, is interpolated once onto a regular grid
of the world, as the readers do with files. The labels come back to the voxels of the volume, so that they move along
with it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.errors import InputError
from ...core.i18n import tr as _
from ...imaging.affine import GROWTH, straight_grid
from ...imaging.geometry import Geometry
from ...imaging.lattice import Lattice
from ...imaging.ras import ras_to_lps
from ...imaging.straighten import FINE, NEAR
from ...imaging.volume import Segmentation, Volume
from .coordinates import moved, through

CLOSE = 0.05  # voxels by which an interpolated position may be off
OUTSIDE = 0.01  # voxels beyond the outermost ones that still have their values


class BentVolume:
    """A volume under a nonlinear transform, resampled to a straight grid.

    Args:
        voxels: [k, j, i].
        index_to_local: 4x4, in RAS.
        to_world: VTK transform of local positions to the world's.

    Raises:
        InputError: if no grid of a reasonable size covers the voxels.
    """

    def __init__(self, voxels: np.ndarray, index_to_local: np.ndarray, to_world: Any, name: str) -> None:
        self._voxels, self._name = voxels, name

        def to_lps(index: np.ndarray) -> np.ndarray:
            return ras_to_lps(through(to_world, moved(index, index_to_local)))

        scale = float(np.linalg.norm(index_to_local[:3, :3], axis=0).min())
        placed = Lattice(to_lps, voxels.shape, CLOSE * scale)
        self.grid = _covering(placed, name)
        matrix = self.grid.index_to_world
        to_grid = np.linalg.inv(matrix)
        back, to_index = to_world.GetInverse(), np.linalg.inv(index_to_local)

        def from_grid(index: np.ndarray) -> np.ndarray:
            return moved(through(back, ras_to_lps(moved(index, matrix))), to_index)

        self._in_grid = Lattice(lambda index: moved(to_lps(index), to_grid), voxels.shape, CLOSE)
        self._in_volume = Lattice(from_grid, self.grid.shape, CLOSE)

    def straightened(self) -> Volume:
        """Return the voxels on the straight grid, in their type, interpolated linearly.

        Outside the volume it has its lowest value.
        """
        from scipy import ndimage

        voxels = self._voxels
        exact = voxels.astype(np.float64 if voxels.dtype.itemsize > 2 and voxels.dtype.kind != "f" else np.float32)
        found, lowest = np.empty(self.grid.shape, voxels.dtype), voxels.min()
        last = np.array(voxels.shape) - 1
        for number, values in enumerate(found):
            index = self._in_volume.slice(number)[..., ::-1]
            nowhere = ((index < -OUTSIDE) | (index > last + OUTSIDE)).any(axis=-1)
            mixed = ndimage.map_coordinates(exact, np.moveaxis(index, -1, 0), order=1, mode="nearest")
            values[...] = np.where(nowhere, lowest, np.rint(mixed) if voxels.dtype.kind in "iu" else mixed)
        size, spacing = (" x ".join(f"{n:.4g}" for n in of) for of in (self.grid.shape[::-1], self.grid.spacing))
        notice = _(
            "The transform of {name} distorts its grid, "
            "so it was interpolated onto {size} voxels of {spacing} mm, "
            "and the labels were mapped back to its voxels."
        ).format(name=self._name, size=size, spacing=spacing)
        return Volume(found, self.grid, self._name, {"straightened_mm": list(self.grid.spacing)}, (notice,))

    def brought_back(self, segmentation: Segmentation) -> Segmentation:
        """Return the labels and confidence of the grid on the voxels of the volume: of the nearest one."""
        shape = self._voxels.shape
        labels = np.zeros(shape, segmentation.voxels.dtype)
        confidence = None if segmentation.confidence is None else np.zeros(shape, segmentation.confidence.dtype)
        limits = np.array(self.grid.shape)
        for number in range(shape[0]):
            index = np.rint(self._in_grid.slice(number)[..., ::-1]).astype(int)
            inside = ((index >= 0) & (index < limits)).all(axis=-1)
            chosen = tuple(index[inside].T)
            labels[number][inside] = segmentation.voxels[chosen]
            if confidence is not None and segmentation.confidence is not None:
                confidence[number][inside] = segmentation.confidence[chosen]
        provenance = dict(segmentation.provenance)
        if doubtful := provenance.get("low_confidence_slices"):
            provenance["low_confidence_slices"] = [[*self._nearest(place[:3]), place[3]] for place in doubtful]
        return replace(
            segmentation,
            voxels=labels,
            geometry=Geometry(shape),
            confidence=confidence,
            provenance=provenance,
        )

    def _nearest(self, index: list[int]) -> list[int]:
        """Voxel (i, j, k) of the volume at a voxel of the grid."""
        last = np.array(self._voxels.shape[::-1]) - 1
        return [int(value) for value in np.clip(np.rint(self._in_volume.at(np.array(index))), 0, last)]


def _covering(placed: Lattice, name: str) -> Geometry:
    """Return the grid at right angles that covers the voxels, along the directions that they have on average.

    Its steps are those of the closest tenth of the voxels, as for slices that are uneven.
    """
    knots, positions = placed.positions
    k, j, i = np.meshgrid(*knots, indexing="ij")
    known = np.stack([i, j, k, np.ones(k.shape)], axis=-1).reshape(-1, 4)
    fitted, *_rest = np.linalg.lstsq(known, positions.reshape(-1, 3), rcond=None)
    average = np.eye(4)
    average[:3] = fitted.T
    axes = np.reshape(straight_grid(Geometry.from_index_to_world(average, placed.shape)).direction, (3, 3))
    local = positions @ axes
    lower = local.reshape(-1, 3).min(axis=0)
    extent = local.reshape(-1, 3).max(axis=0) - lower
    steps, counts = np.empty(3), np.empty(3, int)
    for axis in range(3):  # along i, j, k
        between = np.diff(local[..., axis], axis=2 - axis) / np.diff(knots[2 - axis]).reshape(
            [-1 if other == 2 - axis else 1 for other in range(3)]
        )
        between = np.abs(between).ravel()
        step = float(np.quantile(between, FINE, method="lower")) if between.size else 1.0
        if step <= 0:
            raise _no_grid(name)
        counts[axis] = math.ceil(extent[axis] / step - NEAR) + 1
        uneven = np.ptp(between) > NEAR * step
        steps[axis] = extent[axis] / (counts[axis] - 1) if uneven and counts[axis] > 1 else step
    if math.prod(counts.tolist()) > GROWTH * math.prod(placed.shape):
        raise _no_grid(name)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes * steps, axes @ lower
    return Geometry.from_index_to_world(matrix, (int(counts[2]), int(counts[1]), int(counts[0])))


def _no_grid(name: str) -> InputError:
    """Return the error for a transform that bends a volume too much."""
    return InputError(
        _(
            "{name} is bent so much by its transform that no regular grid fits it. "
            "Correct the transform, or resample the volume to a regular grid."
        ).format(name=name)
    )
