"""The images that a DICOM segmentation is of: what it refers to and takes over, looked at before any computation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .dicom.attributes import text
from .dicom.frames import Frame
from .dicom.grid import Grid
from .dicom.uids import derived_uid
from .geometry import Geometry

NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


@dataclass(frozen=True)
class Reference:
    """What identifies a slice: the UIDs of its file, and the number of the frame, from 1, where that holds many."""

    sop_class: str
    instance: str
    frame: int | None


@dataclass(frozen=True)
class SourceImages:
    """The slices of a DICOM series as they are stored, whatever grid they were read onto.

    Attributes:
        grid: their positions.
        header: attributes of the first file, those of patient and study among them, without its frames.
        references: one for each slice.
        frame_of_reference: UID; where the series states none, one that belongs to the series.
    """

    grid: Grid
    header: Any
    references: tuple[Reference, ...]
    frame_of_reference: str

    @property
    def first(self) -> Frame:
        """The first slice."""
        return self.grid.frames[0][0]


def source_images(grid: Grid) -> SourceImages:
    """Return what a segmentation of these slices refers to.

    Raises:
        InputError: for a series whose study, series or images have no UIDs, and for files that cannot be read again.
    """
    frames = [same[0] for same in grid.frames]
    headers: dict[Path, tuple[str, str]] = {}
    first = _header(frames[0].path)
    for frame in frames:
        if frame.path not in headers:
            header = first if frame.path == frames[0].path else _header(frame.path, only=NEEDED)
            for name in NEEDED:
                if not text(header, name):
                    raise InputError(
                        _(
                            "{file} does not state its {attribute}, to which a DICOM segmentation refers. "
                            "Write another format, or export the series again with its UIDs."
                        ).format(file=frame.path.name, attribute=name)
                    )
            headers[frame.path] = text(header, "SOPClassUID"), text(header, "SOPInstanceUID")
    for name in GROUPS:
        if name in first:
            delattr(first, name)
    numbers = [None if frame.number is None else frame.number + 1 for frame in frames]
    return SourceImages(
        grid,
        first,
        tuple(Reference(*headers[frame.path], number) for frame, number in zip(frames, numbers, strict=True)),
        text(first, "FrameOfReferenceUID") or derived_uid(f"frame of reference of {text(first, 'SeriesInstanceUID')}"),
    )


def on_original_slices(labels: np.ndarray, geometry: Geometry, grid: Grid) -> np.ndarray:
    """Return labels on the slices as they are stored: [n, j, i], those of the nearest voxels.

    Args:
        labels: [k, j, i], on the grid onto which `read_dicom` put the slices.
        geometry: of the labels; its axes are those of the slices.
        grid: the slices.
    """
    if grid.even:
        return labels
    rows, columns = grid.frames[0][0].shape
    steps = np.asarray(geometry.spacing)
    offsets = ((grid.places - geometry.origin) @ grid.axes) / steps  # of the first voxels, in voxels i, j, k
    found = np.empty((len(offsets), rows, columns), labels.dtype)
    for number, (i, j, k) in enumerate(offsets):
        down, along = (
            np.clip(np.rint(start + np.arange(count)).astype(int), 0, size - 1)
            for start, count, size in ((j, rows, labels.shape[1]), (i, columns, labels.shape[2]))
        )
        found[number] = labels[min(max(round(k), 0), len(labels) - 1)][np.ix_(down, along)]
    return found


def _header(path: Path, only: tuple[str, ...] = ()) -> Any:
    """Return the attributes of a file without its voxels.

    Raises:
        InputError: for one that cannot be read any more.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(only) or None)
    except Exception as error:  # whatever pydicom stumbles over in bytes of strangers
        raise InputError(
            _("{file} cannot be read any more ({kind}). Copy the series again.").format(
                file=path.name, kind=type(error).__name__
            )
        ) from error
