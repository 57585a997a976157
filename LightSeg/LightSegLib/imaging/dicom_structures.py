"""Structures of radiotherapy (RT Structure Set, PS3.3 A.19): contours around organs, by pydicom alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from .dicom.attributes import text, texts
from .dicom.frames import number
from .geometry import Geometry
from .label_planes import NEAR
from .volume import LARGEST_LABEL

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
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

    def points(self) -> np.ndarray:
        """Return the LPS positions [n, 3] of all contours."""
        return np.concatenate([np.zeros((0, 3)), *(one for contours in self.contours.values() for one in contours)])

    def on_grid(self, geometry: Geometry, other: str) -> np.ndarray:
        """Return the numbers [k, j, i] of the structures that hold the voxels' centers; holes are contours inside.

        Args:
            geometry: of the image.
            other: its name, for messages.

        Raises:
            InputError: for a contour that is on no slice of the image, and for structures that overlap.
        """
        to_index = np.linalg.inv(geometry.index_to_world)
        found = np.zeros(geometry.shape, np.uint16)
        for value, contours in self.contours.items():
            inside = np.zeros(geometry.shape, bool)
            for points in contours:
                index = points @ to_index[:3, :3].T + to_index[:3, 3]
                across = int(np.ptp(index, axis=0).argmin())  # the axis along which they are on one slice
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

    Raises:
        ValueError: for coordinates that are no points.
    """
    found: dict[int, list[np.ndarray]] = {}
    for one in data.ROIContourSequence:
        for contour in one.get("ContourSequence") or ():
            if text(contour, "ContourGeometricType") not in CLOSED:
                continue
            points = np.array([number(word) for word in texts(contour, "ContourData")], float).reshape(-1, 3)
            if not np.isfinite(points).all():
                raise ValueError
            found.setdefault(int(one.ReferencedROINumber), []).append(points)
    return found


def _unusable(path: Path, reason: Message) -> InputError:
    """Return the error for a file that cannot be used."""
    return InputError(
        _("{file} cannot be used as a set of structures because {reason}. Export it again.").format(
            file=path.name, reason=reason
        )
    )
