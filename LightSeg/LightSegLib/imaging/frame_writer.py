"""Labels over time as one file, written a frame at a time.

NIfTI has the frames along its fourth axis, with one step in ms for all. NRRD has them along an axis of the kind "list",
with the time of each, as Slicer reads a sequence of volumes (Slicer's developer guide, "Sequences").
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np

from ..core.atomic_io import atomic_write
from ..core.errors import OutputError
from ..core.i18n import tr as _
from ..core.moment import TRIGGER, Moment, ms_text
from .geometry import Geometry
from .label_files import LEVEL, nifti_header, nrrd_header
from .write_check import check_ends_with

NIFTI_ENDINGS = (".nii.gz", ".nii")
ENDINGS = (".seq.nrrd", ".nrrd", *NIFTI_ENDINGS)
EVEN = 1e-3  # of a step, by which the times of frames may differ from even ones


def write_label_frames(
    path: Path, frames: Iterable[tuple[np.ndarray, Geometry]], moments: Sequence[Moment], dtype: type
) -> None:
    """Write labels over time.

    Args:
        path: of the file; its ending is the format.
        frames: labels [k, j, i] with their geometry, in the order of time; one is in memory at a time.
        moments: theirs.
        dtype: np.uint8 or np.uint16.

    Raises:
        OutputError: with nothing left behind, for frames of different grids, and for what goes wrong with the file.
    """
    nifti = path.name.lower().endswith(NIFTI_ENDINGS)
    with atomic_write(path) as part, part.open("wb") as stream:
        content = cast(IO[bytes], stream)
        header, grid, checksum = b"", None, 0
        for (voxels, geometry), moment in zip(frames, moments, strict=True):
            if grid is None:
                grid = geometry
                if nifti:
                    header = nifti_header(voxels.astype(dtype), geometry, len(moments), *_step(moments))
                else:
                    stream.write(nrrd_header(voxels.astype(dtype), geometry, *_list_axis(moments)))
                if not nifti or path.name.lower().endswith(".gz"):
                    content = cast(IO[bytes], gzip.GzipFile("", "wb", LEVEL, stream, mtime=0))
                content.write(header)
            elif not geometry.matches(grid):
                raise OutputError(
                    _(
                        "Frame {number} has another grid than the first, so they cannot be in one file. "
                        "Give a folder as --out, which takes a file for each frame."
                    ).format(number=moment.number)
                )
            data = np.ascontiguousarray(voxels, np.dtype(dtype).newbyteorder("<")).tobytes()
            checksum = zlib.crc32(data, checksum)
            content.write(data)
        if content is not stream:
            content.close()
        stream.flush()
        size = 0 if grid is None else len(moments) * int(np.prod(grid.shape)) * np.dtype(dtype).itemsize
        check_ends_with(part, size, checksum)


def _step(moments: Sequence[Moment]) -> tuple[float, float]:
    """Return the first time and the step in ms; a step of 0 where times are not known or not even."""
    ms = [moment.ms for moment in moments if moment.ms is not None]
    if len(ms) < len(moments) or len(ms) < 2:
        return 0.0, 0.0
    step = (ms[-1] - ms[0]) / (len(ms) - 1)
    even = all(abs(value - ms[0] - n * step) <= EVEN * step for n, value in enumerate(ms))
    return (ms[0], step) if even else (0.0, 0.0)


def _list_axis(moments: Sequence[Moment]) -> tuple[str, str, list[str], str]:
    """Return name and unit of the axis of frames, the values along it, and the class of Slicer's nodes."""
    known = all(moment.ms is not None for moment in moments)
    name = "frame" if not known else "trigger time" if moments[0].kind == TRIGGER else "time"
    values = [str(moment.number) if moment.ms is None or not known else ms_text(moment.ms) for moment in moments]
    return name, "ms" if known else "", values, "vtkMRMLLabelMapVolumeNode"
