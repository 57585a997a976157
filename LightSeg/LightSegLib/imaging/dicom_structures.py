"""Structures of radiotherapy (RT Structure Set, PS3.3 A.19): contours around organs, by pydicom alone."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from .dicom.attributes import text, texts
from .dicom.frames import number
from .geometry import Geometry
from .label_planes import NEAR, SAME, smallest_step
from .volume import LARGEST_LABEL

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
JUST_LESS_THAN_HALF = 0.49  # of a step: a slice midway between two with contours is not gained by rounding
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True)
class Structures:
    """Closed contours on slices of an image.

    Attributes:
        name: of the file, for messages.
        contours: points [n, 3] in LPS mm, by the structure's number.
        names: of the structures, by number.
    """

    name: str
    contours: dict[int, list[np.ndarray]]
    names: dict[int, str]

    @property
    def axes(self) -> np.ndarray:
        """Unit vectors [3, 3] along which the box around the structures is taken: those of the patient."""
        return np.eye(3)

    def outline(self) -> np.ndarray:
        """Return LPS positions [n, 3] around all contours: half a step across, else as far as rounding moves them.

        Where slices are oblique, rounding moves points out of their plane, too, and contours of one slice apart.
        """
        contours = [one for contours in self.contours.values() for one in contours]
        within_planes = np.concatenate([points - points.mean(axis=0) for points in contours])
        normal = _extents(within_planes)[1][2]
        off_plane = float(np.abs(within_planes @ normal).max())
        heights = np.array([points.mean(axis=0) @ normal for points in contours])
        step = smallest_step(heights, max(SAME, 2 * off_plane))
        reach = np.maximum(np.abs(normal) * step * JUST_LESS_THAN_HALF, SAME)
        points = np.concatenate(contours)
        return np.concatenate([points - reach, points + reach])

    def only(self, numbers: Collection[int]) -> Structures:
        """Return the structures of these numbers."""
        return replace(self, contours={number: one for number, one in self.contours.items() if number in numbers})

    def on_grid(self, geometry: Geometry, other: str) -> np.ndarray:
        """Return the numbers [k, j, i] of the structures that hold the voxels' centers; holes are contours inside.

        Args:
            geometry: of the image.
            other: its name, for messages.

        Raises:
            InputError: for a contour that is on no slice of the image, and for structures that overlap.
        """
        to_index = np.linalg.inv(geometry.index_to_world)

        def indices(points: np.ndarray) -> np.ndarray:
            return np.asarray(points @ to_index[:3, :3].T + to_index[:3, 3])

        thickness = sum((np.ptp(indices(one), axis=0) for ones in self.contours.values() for one in ones), np.zeros(3))
        across = int(np.argmin(thickness))  # the axis along which all are on one slice each
        found = np.zeros(geometry.shape, np.uint16)
        for value, contours in self.contours.items():
            inside = np.zeros(geometry.shape, bool)
            for index in map(indices, contours):
                place = np.rint(index[:, across].mean())
                on_slice = np.abs(index[:, across] - place).max() <= NEAR
                if not on_slice or not 0 <= place < geometry.shape[::-1][across]:
                    raise InputError(
                        _(
                            "{file} has contours on slices that {other} does not have. "
                            "Choose the structures of this image."
                        ).format(file=self.name, other=other)
                    )
                plane = np.moveaxis(inside, 2 - across, 0)[int(place)]
                plane ^= within(np.delete(index, across, axis=1), plane.shape)
            if found[inside].any():
                raise InputError(
                    _(
                        "{file} has structures that overlap, which a label map cannot hold. Export them one by one."
                    ).format(file=self.name)
                )
            found[inside] = value
        return found


def within(polygon: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return which pixels [rows, columns] have their centers in a polygon, by the even-odd rule.

    Args:
        polygon: corners [n, 2] as column and row, in pixels.
        shape: rows and columns.
    """
    crossed = np.zeros((shape[0], shape[1] + 1), int)  # by how many edges, to the left of each pixel
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        low, high = sorted((y1, y2))
        rows = np.arange(max(0, int(np.ceil(low))), min(shape[0], int(np.ceil(high))))
        if len(rows):
            columns = np.ceil(x1 + (rows - y1) * (x2 - x1) / (y2 - y1)).astype(int)
            crossed[rows, np.clip(columns, 0, shape[1])] += 1
    return np.cumsum(crossed, axis=1)[:, :-1] % 2 == 1


def read_structures(path: Path) -> Structures:
    """Read the closed contours of a file; points and open curves have no inside and are left out.

    Raises:
        InputError: for a file that cannot be read or has none.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path)
            found = _contours(data)
            names = {int(one.ROINumber): text(one, "ROIName") for one in data.StructureSetROISequence}
    except Exception as error:  # whatever pydicom stumbles over in bytes of strangers
        raise _unusable(path, _("it cannot be read ({kind})").format(kind=type(error).__name__)) from error
    if not found:
        raise _unusable(path, _("it has no closed contours"))
    if not all(0 < value <= LARGEST_LABEL for value in found):
        raise _unusable(path, _("it numbers structures beyond {largest}").format(largest=LARGEST_LABEL))
    return Structures(path.name, found, names)


def _contours(data: Any) -> dict[int, list[np.ndarray]]:
    """Return the contours by number.

    Contours without an area, such as the single points that planning systems leave behind, have no inside; one that is
    given twice would be a hole in itself.

    Raises:
        ValueError: for coordinates that are no points.
    """
    found: dict[int, dict[bytes, np.ndarray]] = {}
    for one in data.ROIContourSequence:
        for contour in one.get("ContourSequence") or ():
            if text(contour, "ContourGeometricType") not in CLOSED:
                continue
            points = np.array([number(word) for word in texts(contour, "ContourData")], float).reshape(-1, 3)
            if not np.isfinite(points).all():
                raise ValueError
            distinct = np.unique(points, axis=0)
            if len(distinct) >= 3 and _extents(distinct)[0][1] > SAME:
                found.setdefault(int(one.ReferencedROINumber), {}).setdefault(distinct.tobytes(), points)
    return {value: list(contours.values()) for value, contours in found.items()}


def _extents(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far points [n, 3], at least three, spread along three axes, and these, the farthest first."""
    _each, far, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    return far, axes


def _unusable(path: Path, reason: Message) -> InputError:
    """Return the error for a file that cannot be used."""
    return InputError(
        _("{file} cannot be used as a set of structures because {reason}. Export it again.").format(
            file=path.name, reason=reason
        )
    )
