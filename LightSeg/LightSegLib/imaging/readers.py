"""Image files as volumes: NIfTI, NRRD, MetaImage, and folders with one DICOM series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.moment import Moment
from .affine import ROUNDED, shear_degrees, snapped, straightened
from .dicom.files import is_dicom
from .dicom_reader import dicom_moments, read_dicom
from .frame_file import FrameFile, FrameLayout
from .geometry import Geometry, GeometryError
from .headers import not_over_time
from .image_names import IMAGE_ENDINGS
from .metaimage import read_metaimage
from .nifti import ENDINGS as NIFTI_ENDINGS
from .nifti import nifti_frames, read_nifti
from .nrrd import nrrd_frames, read_nrrd
from .segmentation_file import on_reference
from .volume import Volume, check_voxels, few_values, voxels_sha256


def read_volume(
    path: str | Path,
    series: Sequence[Path] = (),
    part: str = "",
    allow_gaps: bool = False,
    frame: int | None = None,
) -> Volume:
    """Read a volume from NIfTI, NRRD, MetaImage, a multi-frame DICOM file or a folder with a DICOM series.

    An image on a sheared grid is interpolated once (see `affine.straightened`), with a notice.

    Args:
        path: file or folder.
        series: the files of the one to read among several DICOM series in the folder.
        part: which volume of a series that holds several (see `dicom.series.Stack`).
        allow_gaps: interpolate where slices of a DICOM series are missing.
        frame: number of the one to read, from 1, of an image over time.

    Returns:
        The volume, on a grid with right angles, in LPS mm.

    Raises:
        InputError: if the path is missing, unreadable, or holds anything but one scalar 3D image.
    """
    path = Path(path)
    if path.name in ("", ".."):  # as of ".", which no message could name
        path = path.resolve()
    if _holds_dicom(path):
        with _naming_geometry(path):
            volume = read_dicom(path, series, part, allow_gaps, frame)
        check_voxels(volume.voxels, path.name)
        return replace(volume, reading=volume.reading | _identity(volume.voxels))
    if frame is not None:
        with open_frames(path) as frames:
            return read_frame(frames, frame)
    return _volume(path.name, *_read(path))


def open_frames(path: Path) -> FrameFile:
    """Return the frames over time of a NIfTI or NRRD file.

    Raises:
        InputError: for a file that has none, or whose header cannot be used.
    """
    layout = _frames_by_name(path)
    if layout is None:
        raise not_over_time(path.name)
    return FrameFile(layout)


def frame_moments(path: Path) -> tuple[Moment, ...]:
    """Return the moments of an image's frames over time, none for a single volume; only headers are read.

    Raises:
        InputError: for a header that cannot be used.
    """
    if _holds_dicom(path):
        return dicom_moments(path)
    layout = _frames_by_name(path)
    return () if layout is None else layout.moments


def read_frame(frames: FrameFile, number: int) -> Volume:
    """Return one frame, by its number from 1, as `read_volume` returns a volume.

    Raises:
        InputError: if there is no such frame, or it cannot be used; the others may be read all the same.
        OutputError: if there is no room to unpack the file.
    """
    layout = frames.layout
    with _opening(layout.path):
        voxels, facts = frames.read(number)
    geometry, facts = _upright(layout.geometry, facts)
    return _volume(
        _("Frame {number} of {file}").format(number=number, file=layout.path.name),
        voxels,
        geometry,
        layout.notices,
        facts,
    )


def _frames_by_name(path: Path) -> FrameLayout | None:
    """Return the layout of the frames of a file, by the reader of its name's ending; None where it has none."""
    with _opening(path):
        name = path.name.lower()
        if name.endswith(NIFTI_ENDINGS):
            return nifti_frames(path)
        return nrrd_frames(path) if name.endswith((".nrrd", ".nhdr")) else None


def _volume(
    name: str, voxels: np.ndarray, geometry: Geometry, notices: tuple[Message, ...], reading: dict[str, Any]
) -> Volume:
    """Return the volume of an image as it was read, on a grid with right angles.

    Raises:
        InputError: for voxels that are no image.
    """
    if kind := reading.pop("intent", ""):
        raise InputError(
            _("{file} is a {kind}, not an image. Choose the image on which it was drawn.").format(file=name, kind=kind)
        )
    check_voxels(voxels, name)
    reading = reading | _identity(voxels)
    if few := few_values(voxels):
        notices += (
            _(
                "{file} has only {count} different values, as label maps and masks have. Check that it is the image."
            ).format(file=name, count=few),
        )
    if snapped(geometry) is None:
        angle = round(shear_degrees(geometry), 2)
        with _naming(name):
            voxels, geometry = straightened(voxels, geometry)
        size, spacing = (" x ".join(f"{n:.4g}" for n in of) for of in (geometry.shape[::-1], geometry.spacing))
        notices += (
            _(
                "The axes of {file} deviate from right angles by {angle:.2g} degrees, "
                "so it was interpolated onto a grid with right angles, {size} voxels of {spacing} mm. "
                "The result has this grid, at the same position."
            ).format(file=name, angle=angle, size=size, spacing=spacing),
        )
        reading["straightened_degrees"] = angle
    elif (moved := reading.get("snapped_voxels", 0.0)) > ROUNDED:
        notices += (
            _(
                "The axes of {file} deviate a little from right angles. The result has a grid with right angles, "
                "whose voxels are up to {moved:.2g} of a voxel away from those of the file."
            ).format(file=name, moved=moved),
        )
    return Volume(voxels, geometry, name.split(".", maxsplit=1)[0] or "volume", reading, notices)


def _identity(voxels: np.ndarray) -> dict[str, str]:
    """Return what identifies an image in the provenance of its results."""
    return {"voxels_sha256": voxels_sha256(voxels)}


def read_grid(path: str | Path) -> tuple[np.ndarray, Geometry]:
    """Return the voxels [k, j, i] and geometry of a file, without judging the voxels (label maps may be constant).

    The voxels are those of the file, and files with one matrix have one geometry, sheared where it is.
    """
    path = Path(path)
    if _holds_dicom(path):
        with _naming_geometry(path):
            volume = read_dicom(path)
        return volume.voxels, volume.geometry
    return _read(path)[:2]


def read_labels(path: str | Path) -> tuple[np.ndarray, Geometry]:
    """Read a label map like `read_grid`, on the grid that `read_volume` gives an image with the same matrix."""
    voxels, geometry = read_grid(path)
    if snapped(geometry) is not None:
        return voxels, geometry
    with _naming(Path(path).name):
        return straightened(voxels, geometry, labels=True)


def _read(path: Path) -> tuple[np.ndarray, Geometry, tuple[Message, ...], dict[str, Any]]:
    """Return the voxels, geometry without the shear that rounding explains, notices and facts."""
    with _opening(path):
        voxels, geometry, notices, facts = _by_name(path)
    geometry, facts = _upright(geometry, facts)
    return voxels, geometry, notices, facts


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Check that a file exists; what keeps it from being opened becomes an InputError."""
    try:
        if not path.exists():
            raise missing(path)
        if not path.is_file():
            raise InputError(_("{file} is a pipe or a device, not a file. Choose an image file.").format(file=path))
        with _naming_geometry(path):
            yield
    except OSError as error:
        raise InputError(
            _("{file} cannot be opened ({reason}). Check its permissions or choose another file.").format(
                file=path, reason=error.strerror or error
            )
        ) from error


def missing(path: Path) -> InputError:
    """Return the error for a path at which there is nothing, or a link to nothing."""
    if path.is_symlink():
        return InputError(
            _(
                "{file} is a link to a file that is missing. Get the file to which it links, "
                "for example by 'datalad get', or choose another file."
            ).format(file=path)
        )
    return InputError(_("{file} does not exist. Check the path and the spelling.").format(file=path))


def _upright(geometry: Geometry, facts: dict[str, Any]) -> tuple[Geometry, dict[str, Any]]:
    """Return a geometry without the shear that rounding explains, and the facts with what that changed."""
    if (near := snapped(geometry)) is None:
        return geometry, facts
    geometry, moved = near
    return geometry, facts | ({"snapped_voxels": round(moved, 4)} if moved >= 1e-4 else {})


def _by_name(path: Path) -> tuple[np.ndarray, Geometry, tuple[Message, ...], dict[str, Any]]:
    """Read an image by the reader of its file name's ending.

    Raises:
        InputError: for another ending.
    """
    name = path.name.lower()
    if name.endswith(NIFTI_ENDINGS):
        image = read_nifti(path)
        return image.voxels, image.geometry, image.notices, image.facts
    if name.endswith((".nrrd", ".nhdr")):
        voxels, geometry, header = read_nrrd(path)
        if not header.is_segmentation:
            return voxels, geometry, header.notices, {}
        return *on_reference(voxels, geometry, header.pairs), header.notices, {"intent": _("segmentation")}
    if name.endswith((".mha", ".mhd")):
        return *read_metaimage(path), {}
    raise InputError(_not_read(path))


def _not_read(path: Path) -> Message:
    """Return the message for a file format that is not read."""
    name, ending = path.name, path.suffix.lower()
    if ending in (".hdr", ".img"):
        other = path.with_suffix(".img" if ending == ".hdr" else ".hdr")
        without = "" if other.exists() else _(" and whose other file, {file}, is missing").format(file=other.name)
        return _(
            "{file} is one of the two files of an Analyze or NIfTI image, "
            "which LightSeg does not read{more}. Convert it to a single NIfTI or NRRD file."
        ).format(file=name, more=without)
    if not ending:
        return _(
            "{file} cannot be read as an image (it has no file extension and is not a DICOM file). "
            "Give it the extension of its format, such as .nii.gz, or choose another file."
        ).format(file=name)
    return _(
        "{file} cannot be read as an image (the extension {ending} is not supported). Use NIfTI, NRRD, "
        "MetaImage or a folder with one DICOM series; give a DICOM file the extension .dcm."
    ).format(file=name, ending=path.suffix)


@contextmanager
def _naming_geometry(path: Path) -> Iterator[None]:
    """Errors of an image's geometry have the name of its file."""
    try:
        yield
    except GeometryError as error:
        raise error.of(path.name) from error


@contextmanager
def _naming(file: str) -> Iterator[None]:
    """Errors of an image's geometry name its file."""
    try:
        yield
    except InputError as error:
        raise InputError(_("{file} cannot be used. {reason}").format(file=file, reason=error)) from error


def _holds_dicom(path: Path) -> bool:
    """Return whether a path is read as DICOM: a folder, or a DICOM file."""
    try:
        return path.is_dir() or (not path.name.lower().endswith(IMAGE_ENDINGS) and is_dicom(path))
    except OSError:  # opening it next reports why it cannot be read
        return False
