"""Labels on parallel planes, wherever these are: what a DICOM segmentation holds, of which slices may be left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .geometry import Geometry, triple

NEAR = 0.1  # of a voxel: how far one may be from that of another grid
SAME = 1e-2  # mm: positions that are one plane's


@dataclass(frozen=True)
class LabelPlanes:
    """Labels on parallel planes, in order along the normal; where there is no plane there is no label.

    Attributes:
        name: of the file, for messages.
        positions: [n, 3] of the planes' first voxels, in LPS mm.
        axes: unit vectors [3, 3] along a row, down a column and across, as columns.
        spacing: mm along a row and down a column.
        step: mm between slices, None where that is not stated.
        labels: [n, j, i].
        names: of the labels, by value.
    """

    name: str
    positions: np.ndarray
    axes: np.ndarray
    spacing: tuple[float, float]
    step: float | None
    labels: np.ndarray
    names: Mapping[int, str] = field(default_factory=dict)

    def holds(self, slices: np.ndarray, places: np.ndarray) -> bool:
        """Return whether these are exactly the labels of slices [n, j, i] whose first voxels are at `places` [n, 3]."""
        missing = set(range(len(self.positions)))
        for labels, place in zip(slices, places, strict=True):
            at = int(np.abs(self.positions - place).sum(axis=1).argmin())
            if np.abs(self.positions[at] - place).max() > SAME:
                if labels.any():
                    return False
            elif labels.shape != self.labels.shape[1:] or not np.array_equal(labels, self.labels[at]):
                return False
            else:
                missing.discard(at)
        return not missing

    def points(self) -> np.ndarray:
        """Return the LPS positions [n, 3] of the labeled voxels' centers."""
        plane, j, i = np.nonzero(self.labels)
        return np.asarray(self.positions[plane] + np.c_[i, j] * self.spacing @ self.axes[:, :2].T)

    def outline(self) -> np.ndarray:
        """Return LPS positions [n, 3] around all labeled voxels: opposite corners of each."""
        step = self.step or smallest_step(self.positions @ self.axes[:, 2]) or 2 * SAME
        half = self.axes @ [*self.spacing, step] / 2
        return np.concatenate([self.points() - half, self.points() + half])

    def on_grid(self, geometry: Geometry, other: str) -> np.ndarray:
        """Return the labels [k, j, i] on a grid that has all of these voxels.

        Args:
            geometry: of the grid.
            other: its name, for messages.

        Raises:
            InputError: for a label where the grid has no voxel.
        """
        to_index = np.linalg.inv(geometry.index_to_world)
        index = self.points() @ to_index[:3, :3].T + to_index[:3, 3]
        nearest = np.rint(index).astype(int)
        inside = ((nearest >= 0) & (nearest < geometry.shape[::-1])).all(axis=1)
        if not inside.all() or np.abs(index - nearest).max(initial=0) > NEAR or not self._as_large(geometry):
            raise InputError(
                _(
                    "{file} has labels on slices or voxels that {other} does not have. "
                    "Choose the segmentation of this image, or resample one to the other."
                ).format(file=self.name, other=other)
            )
        found = np.zeros(geometry.shape, self.labels.dtype)
        found[tuple(nearest[:, ::-1].T)] = self.labels[self.labels > 0]
        return found

    def _as_large(self, geometry: Geometry) -> bool:
        """Return whether the voxels are as large as those of a grid, as far as the file states it."""
        area = self.spacing[0] * self.spacing[1]
        if self.step is None:
            return True
        return bool(np.isclose(area * self.step, geometry.voxel_volume_ml * 1000, rtol=NEAR))

    def geometry(self, *others: LabelPlanes) -> Geometry:
        """Return the smallest regular grid that has all planes, those of other files of the same series too.

        Raises:
            InputError: for planes that are not evenly above one another.
        """
        positions = np.concatenate([one.positions for one in (self, *others)])
        local = (positions - self.positions[0]) @ self.axes
        heights = np.sort(local[:, 2])
        steps = np.diff(heights)
        steps = steps[steps > SAME]
        if not (step := self.step or smallest_step(heights)):
            raise InputError(
                _(
                    "{file} has a single slice and does not state its distance to others. "
                    "Compare it with a label map of the whole image."
                ).format(file=self.name)
            )
        counts = steps / step
        aside = np.ptp(local[:, :2], axis=0).max() / min(self.spacing)
        if np.abs(counts - np.rint(counts)).max(initial=0) > NEAR or aside > NEAR:
            raise InputError(
                _(
                    "The slices of {file} are not evenly above one another, so its volumes and surfaces cannot be "
                    "compared. Segment the image again into .seg.nrrd, and compare that."
                ).format(file=self.name)
            )
        origin = self.positions[0] + heights[0] * self.axes[:, 2]
        shape = (round(float(heights[-1] - heights[0]) / step) + 1, *self.labels.shape[1:])
        return Geometry(shape, (*self.spacing, step), triple(origin), tuple(map(float, self.axes.ravel())))


def smallest_step(heights: np.ndarray, same: float = SAME) -> float:
    """Return the smallest distance in mm between planes at these heights [n]; 0 where there is one plane alone.

    Args:
        heights: of labels or contours on the planes.
        same: mm, by which those of one plane may be apart.
    """
    ordered = np.sort(heights)
    planes = [np.median(part) for part in np.split(ordered, np.flatnonzero(np.diff(ordered) > same) + 1)]
    return float(np.diff(planes).min()) if len(planes) > 1 else 0.0
