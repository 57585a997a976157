"""DICOM segmentations (Segmentation IOD, PS3.3 A.51) of any program as labels on planes, by pydicom alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from .dicom.attributes import text
from .dicom.frames import number
from .dicom.label_value import value_of
from .dicom.multiframe import group_texts
from .label_planes import SAME, LabelPlanes
from .volume import LARGEST_LABEL

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
SAME_DIRECTION = 1e-4


@dataclass(frozen=True)
class _Plane:
    """The place of a frame as its file states it."""

    position: np.ndarray
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]


def read_dicom_segmentation(path: Path) -> LabelPlanes:
    """Read the segments of a file; of fractional ones the voxels that belong to it by half or more.

    Raises:
        InputError: for a file that cannot be read, whose frames have no place, and whose segments overlap.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path)
            return _planes(data, path)
    except InputError:
        raise
    except Exception as error:  # whatever pydicom stumbles over in bytes of strangers
        raise _unusable(path, _("it cannot be read ({kind})").format(kind=type(error).__name__)) from error


def _planes(data: Any, path: Path) -> LabelPlanes:
    rows, columns = int(data.Rows), int(data.Columns)
    groups = list(data.get("PerFrameFunctionalGroupsSequence") or ())
    shared = next(iter(data.get("SharedFunctionalGroupsSequence") or ()), None)
    count = int(data.get("NumberOfFrames") or 1)
    if len(groups) != count:
        stated = _("it has {count} frames, but gives a position for {placed} of them")
        raise _unusable(path, stated.format(count=count, placed=len(groups)))
    values = _values(data.SegmentSequence, path)
    placed = [_plane((group, shared), path) for group in groups]
    first = placed[0]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    axes = np.stack([row, column, np.cross(row, column)], axis=1)
    if any(
        not np.allclose(one.orientation, first.orientation, atol=SAME_DIRECTION)
        or not np.allclose(one.spacing, first.spacing, rtol=1e-3)
        for one in placed
    ):
        raise _unusable(path, _("its frames have different orientations or spacings"))
    at, positions = _distinct(np.array([one.position for one in placed]), axes[:, 2])
    labels = np.zeros((len(positions), rows, columns), np.uint16)
    for index, group in enumerate(groups):
        _add(labels[at[index]], _frame(data, index, rows, columns), _segment_of((group, shared), data), values, path)
    step = number(next(iter(group_texts((None, shared), "PixelMeasuresSequence", "SpacingBetweenSlices")), ""))
    names = {values[int(one.SegmentNumber)]: text(one, "SegmentLabel") for one in data.SegmentSequence}
    return LabelPlanes(path.name, positions, axes, (first.spacing[1], first.spacing[0]), step, labels, names)


def _values(segments: Iterable[Any], path: Path) -> dict[int, int]:
    """Return the label values of segments by their numbers; these themselves where two segments would have one value.

    Raises:
        InputError: for one that no label map has.
    """
    described = {int(one.SegmentNumber): text(one, "SegmentDescription") for one in segments}
    values = {number: value_of(description, number) for number, description in described.items()}
    if len(set(values.values())) < len(values):  # another program joined files or added segments
        values = {number: number for number in values}
    for value in values.values():
        if not 0 <= value <= LARGEST_LABEL:
            raise _unusable(path, _("it has a segment with the number {value}").format(value=value))
    return values


def _add(labels: np.ndarray, frame: np.ndarray, segment: int, values: dict[int, int], path: Path) -> None:
    """Add a frame to the labels [j, i] of its plane; segment 0 for a frame whose voxels are segment numbers."""
    found = frame if segment == 0 else frame * segment
    for one in np.unique(found[found > 0]).tolist():
        if one not in values:
            raise _unusable(
                path, _("it has a frame of segment {number}, which it does not describe").format(number=one)
            )
        mask = found == one
        if labels[mask].any():
            raise InputError(
                _("{file} has segments that overlap, which a label map cannot hold. Export them one by one.").format(
                    file=path.name
                )
            )
        labels[mask] = values[one]


def _frame(data: Any, index: int, rows: int, columns: int) -> np.ndarray:
    """Return the voxels [j, i] of a frame as uint16: 0 and 1, or the segment numbers of a label map."""
    size = rows * columns
    if int(data.BitsAllocated) == 1 and not data.file_meta.TransferSyntaxUID.is_compressed:
        start = index * size  # the frames follow each other bit by bit (PS3.5, section 8.1.1)
        packed = np.frombuffer(data.PixelData, np.uint8)[start // 8 : (start + size + 7) // 8]
        bits = np.unpackbits(packed, bitorder="little")[start % 8 : start % 8 + size]
        return bits.reshape(rows, columns).astype(np.uint16)
    voxels = np.asarray(data.pixel_array).reshape(-1, rows, columns)[index]
    if text(data, "SegmentationType") == "FRACTIONAL":
        return (2 * voxels.astype(np.uint16) >= int(data.MaximumFractionalValue)).astype(np.uint16)
    return voxels.astype(np.uint16)


def _segment_of(groups: tuple[Any, Any], data: Any) -> int:
    """Return the number of a frame's segment, 0 for all of them."""
    if text(data, "SOPClassUID") == LABEL_MAP:
        return 0
    return int(group_texts(groups, "SegmentIdentificationSequence", "ReferencedSegmentNumber")[0])


def _plane(groups: tuple[Any, Any], path: Path) -> _Plane:
    """Return the place of a frame.

    Raises:
        InputError: if it states none.
    """
    numbers = []
    for sequence, name, count in (
        ("PlanePositionSequence", "ImagePositionPatient", 3),
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        ("PixelMeasuresSequence", "PixelSpacing", 2),
    ):
        found = [number(word) for word in group_texts(groups, sequence, name)]
        if len(found) != count or None in found:
            raise _unusable(path, _("a frame has no valid {attribute}").format(attribute=name))
        numbers.append(tuple(value for value in found if value is not None))
    return _Plane(np.array(numbers[0]), numbers[1], numbers[2])


def _distinct(positions: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each position [n, 3] the number of its plane, and the positions of the planes along the normal."""
    order = np.lexsort((*positions.T, np.round(positions @ normal, 3)))
    starts = np.append(True, np.abs(np.diff(positions[order], axis=0)).max(axis=1) > SAME)
    at = np.empty(len(positions), int)
    at[order] = np.cumsum(starts) - 1
    return at, positions[order][starts]


def _unusable(path: Path, reason: Message) -> InputError:
    """Return the error for a file that cannot be used."""
    return InputError(
        _("{file} cannot be used as a DICOM segmentation because {reason}. Export it again.").format(
            file=path.name, reason=reason
        )
    )
