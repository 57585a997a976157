"""One DICOM series as a volume at its right place, with an account of what was done."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .dicom.files import DicomFiles, files_below, files_of_series, find_frames, only_series_of
from .dicom.frames import Frame
from .dicom.grid import Grid, grid_of
from .dicom.pixels import Pixels
from .dicom.series import Series, Stack, UnusedFrames, group
from .geometry import Geometry, triple
from .straighten import straighten
from .volume import Volume

LISTED = 3  # names in a message


def read_dicom(path: Path, files: Sequence[Path] = (), part: str = "", allow_gaps: bool = False) -> Volume:
    """Return the one volume in a file, of whose series it is a slice, or in a folder and the folders in it.

    The volume's `reading` records what was done, its `notices` what a user should know.

    Args:
        files: those of the series, where the folder holds more.
        part: which volume of them, as `Stack.what` calls it.
        allow_gaps: interpolate where slices are missing.

    Raises:
        InputError: by file, place and remedy, for anything that is not one volume whose place is known.
    """
    try:
        input_files = files or (files_of_series(path) if path.is_file() else list(files_below(path)))
    except OSError as error:
        raise InputError(
            _("{filename} cannot be opened ({strerror}). Check its permissions or choose another folder.").format(
                filename=error.filename, strerror=error.strerror
            )
        ) from error
    found = find_frames(input_files)
    slice_of_series = not files and len(input_files) > 1 and path.is_file()
    if slice_of_series:
        found = only_series_of(path, found)
    if found.suspicious and not found.frames:
        raise InputError(_("{damaged}. Get the files again.").format(damaged=_damaged(found)))
    series = group(found.frames)
    chosen = _only_series(path, series, found)
    stack = _only_stack(path, chosen, part)
    if found.suspicious:
        raise InputError(
            _("{damaged}. They may be slices of {file}: get them again, or remove them if they are not.").format(
                damaged=_damaged(found), file=path.name
            )
        )
    unused = _unused_frames(chosen, series, found)
    try:
        grid = grid_of(stack, path.name, allow_gaps)
    except InputError as error:
        raise InputError(f"{error} {_unused(path.name, unused)}".strip()) from error
    with closing(Pixels([frame for same in grid.frames for frame in same])) as pixels:
        voxels, geometry, reading = _read(grid, pixels)
    if stack.study.modality:
        reading["modality"] = stack.study.modality
    if stack.study.inverted:
        reading["photometric_interpretation"] = "MONOCHROME1"
    notices = _notices(path.name, reading)
    if slice_of_series:
        notices.append(
            _("{file} is one slice of a series, of which all files in {folder} were read.").format(
                file=path.name, folder=path.parent
            )
        )
    if unused:
        reading["left_over"] = unused
        notices.append(_unused(path.name, unused))
    return Volume(voxels, geometry, path.name.split(".")[0] or "volume", reading, tuple(notices))


def _unused_frames(chosen: Series, series: Sequence[Series], found: DicomFiles) -> list[str]:
    """Return what is not used, and why."""
    words = [f"{one.names} {one.reason}" for one in chosen.unused]
    for other in series:
        if other is not chosen:
            words += [f"{one.names} {one.reason}, in another series" for one in other.unused]
            words += [f"{UnusedFrames(one.frames, '').names} is of another series" for one in other.stacks]
    words += [f"{file.name} {reason}" for file, reason in found.damaged]
    return words + [f"{file.name} {reason}" for file, _, reason in found.others]


def _unused(name: str, unused: Sequence[str]) -> str:
    """Return the sentence on unused files for a message."""
    if not unused:
        return ""
    more = f"; and {len(unused) - LISTED} more" if len(unused) > LISTED else ""
    return f"Not everything in {name} was used: {'; '.join(unused[:LISTED])}{more}."


def _only_series(path: Path, series: Sequence[Series], found: DicomFiles) -> Series:
    """Return the series directly in a folder, or else in its subfolders."""
    if not series:
        what = f": {_damaged(found)}" if found.damaged else ""
        raise InputError(
            _("{file} holds no DICOM series{what}. Choose the folder that contains the .dcm files.").format(
                file=path.name, what=what
            )
        )
    images = [one for one in series if one.stacks]
    near = [one for one in images if any(frame.path.parent == path for frame in _frames(one))]
    many = [one for one in near or images if len(one.stacks) > 1 or len(one.stacks[0].frames) > 1]
    candidates = many or near or images
    if not candidates:
        reason = series[0].unused[0].reason
        raise InputError(
            _("{file} holds no DICOM series of slices: it {reason}. Choose the folder of a whole one.").format(
                file=path.name, reason=reason
            )
        )
    if len(candidates) > 1:
        names = ", ".join(_title(one) for one in candidates[:LISTED])
        more = f" and {len(candidates) - LISTED} more" if len(candidates) > LISTED else ""
        raise InputError(
            _(
                "{file} holds {count} DICOM series ({names}{more}). Put the one to segment in a folder of its own."
            ).format(file=path.name, count=len(candidates), names=names, more=more)
        )
    return candidates[0]


def _only_stack(path: Path, series: Series, part: str) -> Stack:
    """Return the stack named `part`, or the only one.

    Raises:
        InputError: if the choice is not clear.
    """
    chosen = [stack for stack in series.stacks if stack.what == part] if part else list(series.stacks)
    if len(chosen) == 1:
        return chosen[0]
    words = "; ".join(f"{stack.what or 'one'} ({len(stack.frames)} slices)" for stack in series.stacks[:LISTED])
    more = f"; and {len(series.stacks) - LISTED} more" if len(series.stacks) > LISTED else ""
    one_file = len({frame.path for frame in _frames(series)}) == 1
    apart = "" if one_file else "Put the files of one in a folder of its own, or let"
    raise InputError(
        _(
            "{file} holds {count} volumes in one series: {words}{more}. {apart} `lightseg batch` segment each of them."
        ).format(file=path.name, count=len(series.stacks), words=words, more=more, apart=apart or "Let")
    )


def _read(grid: Grid, pixels: Pixels) -> tuple[np.ndarray, Geometry, dict[str, Any]]:
    """Return the voxels, geometry and what was done."""
    frames = [frame for same in grid.frames for frame in same]
    reading: dict[str, Any] = {
        "format": "DICOM",
        "frames": len(grid.frames),
        "files": len({frame.path for frame in frames}),
        "step_mm": [round(step, 6) for step in grid.steps],
    }
    if len(frames) > len(grid.frames):
        reading["doubled"] = len(frames) - len(grid.frames)

    def slice_of(number: int) -> np.ndarray:
        first, *others = grid.frames[number]
        values = pixels(first)
        for other in others:
            if not np.array_equal(pixels(other), values):
                place = ", ".join(f"{value:g}" for value in first.position)
                raise InputError(
                    _(
                        "{first} and {other} in {folder} state the same place ({place}) and are different images. "
                        "Export the series again, or remove the one that does not belong to it."
                    ).format(first=first.name, other=other.name, folder=first.path.parent, place=place)
                )
        return values

    rows, columns = frames[0].shape
    direction = tuple(map(float, grid.axes.ravel()))
    plane = Geometry((len(grid.frames), rows, columns), grid.spacing, triple(grid.origin), direction)
    if grid.even:
        first = slice_of(0)  # before there is memory for all: a header may ask for more than its file holds
        voxels = np.empty(plane.shape, pixels.dtype)
        voxels[0] = first
        for number in range(1, len(grid.frames)):
            voxels[number] = slice_of(number)
        return voxels, plane, reading
    voxels, geometry = straighten(slice_of, grid.places, plane)
    reading["straightened"] = {
        "aside_mm": round(grid.tilt, 3),
        "step_mm": round(geometry.spacing[2], 6),
        "slices": geometry.shape[0],
    }
    if grid.gaps:
        reading["interpolated_mm"] = [[round(below, 3), round(above, 3)] for below, above in grid.gaps]
    return voxels, geometry, reading


def _notices(name: str, reading: dict[str, Any]) -> list[str]:
    """Return what the user should know about how the slices became a volume."""
    notices: list[str] = []
    if straight := reading.get("straightened"):
        low, high = reading["step_mm"]
        steps = f"{low:g} mm apart" if high - low < 1e-3 * high else f"{low:g} to {high:g} mm apart"
        notices.append(
            _(
                "The slices of {name} lie {steps} and up to {straight:g} mm aside of one another; "
                "they were straightened: "
                "interpolated onto a regular grid of {straight2} slices {straight3:g} mm apart, "
                "on which the result lies."
            ).format(
                name=name,
                steps=steps,
                straight=straight["aside_mm"],
                straight2=straight["slices"],
                straight3=straight["step_mm"],
            )
        )
    if gaps := reading.get("interpolated_mm"):
        notices.append(
            _("Slices of {name} are missing in {count} place(s); what lies there was interpolated.").format(
                name=name, count=len(gaps)
            )
        )
    if "photometric_interpretation" in reading:
        notices.append(
            _(
                "The lowest values of {name} are meant to be shown as white (MONOCHROME1); they were used as they are "
                "stored. Check that the model takes such images."
            ).format(name=name)
        )
    if doubled := reading.get("doubled"):
        notices.append(
            _("{doubled} slice(s) of {name} are there twice, with the same content; each was used once.").format(
                doubled=doubled, name=name
            )
        )
    return notices


def _frames(series: Series) -> list[Frame]:
    """Return all frames of a series that make volumes."""
    return [frame for stack in series.stacks for frame in stack.frames]


def _title(series: Series) -> str:
    """Return a series as a message names it."""
    study = series.study
    count = sum(len(stack.frames) for stack in series.stacks)
    return f"{' '.join(filter(None, (study.modality, study.number, study.description))) or 'unnamed'}, {count} slices"


def _damaged(found: DicomFiles) -> str:
    """Return the damaged files with reasons for a message."""
    words = ", ".join(f"{path} {reason}" for path, reason in found.damaged[:LISTED])
    more = f", and {len(found.damaged) - LISTED} more" if len(found.damaged) > LISTED else ""
    return f"{words}{more}"
