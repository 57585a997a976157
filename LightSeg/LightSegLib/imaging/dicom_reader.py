"""One DICOM series as a volume at its right place, with an account of what was done."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.figures import distinct
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from ..core.moment import Moment
from .dicom.files import DicomFiles, files_below, files_of_series, find_frames, only_series_of
from .dicom.frames import Frame, lacking_scaling
from .dicom.grid import Grid, grid_of
from .dicom.pixels import Pixels
from .dicom.series import Series, Stack, UnusedFrames, group
from .geometry import Geometry, triple
from .headers import no_such_frame, not_over_time, over_time
from .image_names import is_image
from .straighten import straighten
from .volume import Volume

LISTED = 3  # names in a message
LEAST_TILT = 1.0  # degrees: below, a slice of a head is moved aside by less than 4 mm


def read_dicom(
    path: Path, files: Sequence[Path] = (), part: str = "", allow_gaps: bool = False, frame: int | None = None
) -> Volume:
    """Return the one volume in a file, of whose series it is a slice, or in a folder and the folders in it.

    The volume's `reading` records what was done, its `notices` what a user should know.

    Args:
        files: those of the series, where the folder holds more.
        part: which volume of them, as `Stack.what` calls it.
        allow_gaps: interpolate where slices are missing.
        frame: number of the one to read, from 1, where they are frames over time.

    Raises:
        InputError: by file, place and remedy, for anything that is not one volume whose place is known.
    """
    found, slice_of_series = _found(path, files)
    if found.suspicious and not found.frames:
        raise InputError(_("{damaged}. Copy the files again.").format(damaged=_damaged(found)))
    series = group(found.frames)
    chosen = _only_series(path, series, found)
    stack = _only_stack(path, chosen, part) if frame is None else _stack_at(path, chosen, frame)
    if stack.problem:
        raise InputError(_("{part} of {file} {problem}").format(part=stack.what, file=path.name, problem=stack.problem))
    if found.suspicious:
        raise InputError(
            _("{damaged}. They may be slices of {folder}: copy them again, or remove them if they are not.").format(
                damaged=_damaged(found), folder=path.name
            )
        )
    unused = _unused_frames(chosen, series, found)
    try:
        grid = grid_of(stack, path.name, allow_gaps)
    except InputError as error:
        parts = [error, _unused(path.name, unused)] if unused else [error]
        raise InputError(joined(" ", parts)) from error
    with closing(Pixels([frame for same in grid.frames for frame in same])) as pixels:
        voxels, geometry, reading = _read(grid, pixels)
    if stack.study.modality:
        reading["modality"] = stack.study.modality
    if stack.moment is not None:
        reading["frame"] = asdict(stack.moment)
    if stack.study.inverted:
        reading["photometric_interpretation"] = "MONOCHROME1"
    notices = _notices(path.name, reading)
    if slice_of_series:
        notices.append(
            _("{file} is one slice of a series, so all files of this series in {folder} were read.").format(
                file=path.name, folder=path.parent
            )
        )
    if unused:
        reading["left_over"] = unused
        notices.append(_unused(path.name, unused))
    return Volume(voxels, geometry, path.name.split(".")[0] or "volume", reading, tuple(notices), grid)


def dicom_moments(path: Path) -> tuple[Moment, ...]:
    """Return the moments of the one series over time in a file or folder; none for another.

    Raises:
        InputError: if there is not one series.
    """
    found, _slice_of_series = _found(path)
    stacks = _only_series(path, group(found.frames), found).stacks
    moments = tuple(stack.moment for stack in stacks if stack.moment is not None)
    if len(moments) < len(stacks):
        return ()
    _check_one_over_time(path, stacks)
    return moments


def _found(path: Path, files: Sequence[Path] = ()) -> tuple[DicomFiles, bool]:
    """Return what DICOM files hold, and whether `path` is one slice of several.

    Raises:
        InputError: if the folder cannot be read.
    """
    try:
        input_files = files or (files_of_series(path) if path.is_file() else list(files_below(path)))
    except OSError as error:
        raise InputError(
            _("{file} cannot be opened ({reason}). Check its permissions or choose another folder.").format(
                file=error.filename, reason=error.strerror
            )
        ) from error
    found = find_frames(input_files)
    slice_of_series = not files and len(input_files) > 1 and path.is_file()
    return (only_series_of(path, found) if slice_of_series else found), slice_of_series


def _unused_frames(chosen: Series, series: Sequence[Series], found: DicomFiles) -> list[str]:
    """Return what is not used, and why."""
    words: list[str] = [joined(" ", (one.names, one.reason)) for one in chosen.unused]
    of_another = _("{files} {reason} and belongs to another series")
    for other in series:
        if other is not chosen:
            words += [of_another.format(files=one.names, reason=one.reason) for one in other.unused]
            others = [UnusedFrames(stack.frames, _("belongs to another series")) for stack in other.stacks]
            words += [joined(" ", (one.names, one.reason)) for one in others]
    words += [joined(" ", (file.name, reason)) for file, reason in found.damaged]
    return words + [joined(" ", (file.name, reason)) for file, _study, reason in found.others]


def _unused(name: str, unused: Sequence[str]) -> Message:
    """Return the sentence on unused files for a message."""
    return _("Some files in {folder} were not used: {files}.").format(folder=name, files=_first(unused, "; "))


def _first(texts: Sequence[str], separator: str) -> Message:
    more = [_("and {count} more").format(count=len(texts) - LISTED)] if len(texts) > LISTED else []
    return joined(separator, [*texts[:LISTED], *more])


def _only_series(path: Path, series: Sequence[Series], found: DicomFiles) -> Series:
    """Return the series directly in a folder, or else in its subfolders."""
    if not series:
        if found.damaged:
            raise InputError(
                _("{folder} does not contain a DICOM series: {damaged}. Choose the folder with the .dcm files.").format(
                    folder=path.name, damaged=_damaged(found)
                )
            )
        if any(is_image(file) for file in path.rglob("*")):
            raise InputError(
                _(
                    "{folder} is a folder with image files, but no DICOM series. "
                    "Choose one of the files, or use 'lightseg batch' to segment each of them."
                ).format(folder=path.name)
            )
        raise InputError(
            _("{folder} does not contain a DICOM series. Choose the folder with the .dcm files.").format(
                folder=path.name
            )
        )
    images = [one for one in series if one.stacks]
    near = [one for one in images if any(frame.path.parent == path for frame in _frames(one))]
    many = [one for one in near or images if len(one.stacks) > 1 or len(one.stacks[0].frames) > 1]
    candidates = many or near or images
    if not candidates:
        reason = series[0].unused[0].reason
        raise InputError(
            _(
                "{folder} does not contain a DICOM volume: its series {reason}. Choose a folder with a complete series."
            ).format(folder=path.name, reason=reason)
        )
    if len(candidates) > 1:
        names = _first([_title(one) for one in candidates], "; ")
        raise InputError(
            _(
                "{folder} contains {count} DICOM series ({series}). "
                "Put the one to segment into a separate folder, or use 'lightseg batch' to segment each of them."
            ).format(folder=path.name, count=len(candidates), series=names)
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
    size, counts = _("{volume} ({count} {slices})"), [len(one.frames) for one in series.stacks]
    sizes = [
        size.format(volume=one.what or "1", count=count, slices=_slices(count))
        for one, count in zip(series.stacks, counts, strict=True)
    ]
    volumes = _first(sizes, "; ")
    listed = _("{file} contains {count} volumes in one series: {volumes}.").format(
        file=path.name, count=len(series.stacks), volumes=volumes
    )
    if _are_frames(series.stacks):
        raise over_time(listed)
    if len({frame.path for frame in _frames(series)}) == 1:
        remedy = _("Use 'lightseg batch' to segment each of them.")
    else:
        remedy = _(
            "Put the files of one volume into a separate folder, or use 'lightseg batch' to segment each of them."
        )
    raise InputError(_("{volumes} {remedy}").format(volumes=listed, remedy=remedy))


def _are_frames(stacks: Sequence[Stack]) -> bool:
    """Return whether the volumes of a series are the frames of one image over time."""
    return all(stack.moment for stack in stacks) and len({stack.group for stack in stacks}) == 1


def _check_one_over_time(path: Path, stacks: Sequence[Stack]) -> None:
    """Check that frames over time are those of one image, since each image counts its own.

    Raises:
        InputError: for several images in one series, such as cine images along different axes of the heart.
    """
    if not _are_frames(stacks):
        raise InputError(
            _(
                "{file} contains {count} images over time in one DICOM series. "
                "Put the files of one image into a separate folder, or use 'lightseg batch' to segment each of them."
            ).format(file=path.name, count=len({stack.group for stack in stacks}))
        )


def _stack_at(path: Path, series: Series, frame: int) -> Stack:
    """Return the stack that is a frame over time, by its number from 1.

    Raises:
        InputError: if there is none.
    """
    count = len(series.stacks)
    if not all(stack.moment for stack in series.stacks):
        raise not_over_time(path.name)
    _check_one_over_time(path, series.stacks)
    if not 1 <= frame <= count:
        raise no_such_frame(path.name, frame, count)
    return series.stacks[frame - 1]


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
    if 0 < (derived := sum(same[0].study.origin == "DERIVED" for same in grid.frames)) < len(grid.frames):
        reading["derived"] = derived
    if frames[0].study.modality == "CT" and (unscaled := sum(not frame.rescaled for frame in frames)):
        reading["without_rescale_intercept"] = unscaled
    lacking = lacking_scaling(frames)
    if "without_rescale_intercept" in reading:  # of which `inference.fit` informs
        lacking.pop("RescaleIntercept", None)
    if lacking:
        reading["without_scaling"] = lacking
    if tilt := _tilt_that_no_position_shows(grid):
        reading["gantry_tilt_degrees"] = tilt

    def slice_of(number: int) -> np.ndarray:
        first, *others = grid.frames[number]
        values = pixels(first)
        for other in others:
            if not np.array_equal(pixels(other), values):
                place = ", ".join(f"{value:g}" for value in first.position)
                raise InputError(
                    _(
                        "{first} and {other} in {folder} have the same position ({position}) but are different images. "
                        "Export the series again, or remove the file that does not belong to it."
                    ).format(first=first.name, other=other.name, folder=first.path.parent, position=place)
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


def _tilt_that_no_position_shows(grid: Grid) -> float:
    """Return the degrees of gantry tilt that the first file states, where its slices are upright all the same, else 0.

    Scanners and programs that correct the tilt leave the attribute in the files; those that lose it do so, too.
    """
    stated = grid.frames[0][0].gantry_tilt
    turned = np.degrees(np.arccos(min(1.0, float(np.abs(grid.axes[2, 2])))))  # of the slices against the body's axis
    shows = grid.tilt > 0 and not grid.even
    return stated if abs(stated) >= LEAST_TILT and not shows and turned < abs(stated) / 2 else 0.0


def _notices(name: str, reading: dict[str, Any]) -> list[Message]:
    """Return what the user should know about how the slices became a volume."""
    notices: list[Message] = []
    if straight := reading.get("straightened"):
        low, high = reading["step_mm"]
        distance = _("{low:.3g} mm").format(low=low)
        if high - low >= 1e-3 * high:
            closest, widest = distinct(low, high, digits=3, kind="g")
            distance = _("{low} to {high} mm").format(low=closest, high=widest)
        moved = _(
            "The slices of {series} are {distance} apart. They were interpolated onto a regular grid of {slices} "
            "slices that are {step:.3g} mm apart; the result has this grid."
        )
        if straight["aside_mm"]:
            moved = _(
                "The slices of {series} are {distance} apart and shifted sideways by up to {shift:.3g} mm. They were "
                "interpolated onto a regular grid of {slices} slices that are {step:.3g} mm apart; the result has "
                "this grid."
            )
        notices.append(
            moved.format(
                series=name,
                distance=distance,
                shift=straight["aside_mm"],
                slices=straight["slices"],
                step=straight["step_mm"],
            )
        )
    if gaps := reading.get("interpolated_mm"):
        notices.append(
            _("{series} has missing slices (number of gaps: {count}), which were interpolated.").format(
                series=name, count=len(gaps)
            )
        )
    if derived := reading.get("derived"):
        notices.append(
            _(
                "{count} of the {slices} slices of {series} are marked as derived (ImageType), as by a program that "
                "removes faces, and were used with the original ones. Check that they are of this image."
            ).format(count=derived, slices=reading["frames"], series=name)
        )
    for attribute, count in reading.get("without_scaling", {}).items():
        notices.append(
            _(
                "{count} of {slices} slices of {series} have no {attribute}, as the others have, so their values may "
                "be in another unit. Check that no slice is darker or brighter, or export the series again with all "
                "attributes."
            ).format(count=count, slices=reading["frames"], series=name, attribute=attribute)
        )
    if tilt := reading.get("gantry_tilt_degrees"):
        notices.append(
            _(
                "{series} states a gantry tilt of {tilt:.3g} degrees, which the positions of its slices do not show: "
                "it was taken as corrected. Check that the body is not slanted in the image, "
                "or export the original series."
            ).format(series=name, tilt=tilt)
        )
    if "photometric_interpretation" in reading:
        notices.append(
            _(
                "{name} displays its lowest values as white (MONOCHROME1); "
                "its values were used as stored. Check that the model was made for such images."
            ).format(name=name)
        )
    if doubled := reading.get("doubled"):
        notices.append(
            _("{series} has duplicate slices with the same content ({count} of them); each was used once.").format(
                series=name, count=doubled
            )
        )
    return notices


def _frames(series: Series) -> list[Frame]:
    """Return all frames of a series that make volumes."""
    return [frame for stack in series.stacks for frame in stack.frames]


def _title(series: Series) -> Message:
    """Return a series as a message names it."""
    study = series.study
    count = sum(len(stack.frames) for stack in series.stacks)
    title = " ".join(filter(None, (study.modality, study.number, study.description))) or _("unnamed")
    return _("{series}, {count} {slices}").format(series=title, count=count, slices=_slices(count))


def _slices(count: int) -> Message:
    """Return the word for so many slices."""
    return _("slice") if count == 1 else _("slices")


def _damaged(found: DicomFiles) -> str:
    """Return the damaged files with reasons for a message."""
    words = ", ".join(f"{path} {reason}" for path, reason in found.damaged[:LISTED])
    more = f", and {len(found.damaged) - LISTED} more" if len(found.damaged) > LISTED else ""
    return f"{words}{more}"
