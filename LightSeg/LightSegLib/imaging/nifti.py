"""NIfTI files, version 1 and 2: positions and values of their voxels.

The fields are those of nifti1.h and nifti2.h (NIfTI Data Format Working Group, https://nifti.nimh.nih.gov); where the
standard leaves a choice, it is made as nibabel does. Coordinates in a file are RAS, results are LPS.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.moment import moments
from .affine import snapped
from .frame_file import FrameLayout
from .geometry import FARTHEST, Geometry
from .headers import check_spacing
from .nifti_forms import NiftiForms, directions, farthest_voxel_apart
from .nifti_header import KINDS, VERSIONS, Header, frame_count, parse, shape_of
from .packed import damaged, incomplete, leading, read_leading
from .ras import RAS_TO_LPS

ENDINGS = (".nii", ".nii.gz")
GZIP = b"\x1f\x8b"
CONTRADICTION = 0.1  # voxels, by which two statements of the same place may differ through rounding


@dataclass(frozen=True)
class Image:
    """A NIfTI image as it was read.

    Attributes:
        voxels: [k, j, i].
        facts: what was done to find the place, for the provenance.
    """

    voxels: np.ndarray
    geometry: Geometry
    notices: tuple[Message, ...]
    facts: dict[str, Any]


def read_nifti(path: Path) -> Image:
    """Read a NIfTI-1 or NIfTI-2 file.

    Raises:
        InputError: for what is not a complete NIfTI file with one scalar 3D image at a place.
        OSError: if the file cannot be read or written.
    """
    with _opened(path) as (stream, _zipped):
        header = parse(path.name, stream.read(VERSIONS[1].size))
        shape = shape_of(path.name, header)
        check_spacing(path.name, header.pixdim[1:4].tolist())
        stream.seek(header.offset)
        content = read_leading(path.name, stream, math.prod(shape) * _kind(header).itemsize)
    geometry, notices, facts = place(path.name, header, shape)
    if header.is_labels:
        facts["intent"] = _("label map")
    return Image(_scaled(np.frombuffer(content, _kind(header)).reshape(shape), header), geometry, notices, facts)


def nifti_frames(path: Path) -> FrameLayout | None:
    """Return what a file states about its frames over time, or None for an image of three dimensions.

    Raises as `read_nifti`.
    """
    with _opened(path) as (stream, zipped):
        header = parse(path.name, stream.read(VERSIONS[1].size))
    if header.dim[0] <= 7 and frame_count(header) == 1:
        return None
    shape = shape_of(path.name, header, frames=True)
    check_spacing(path.name, header.pixdim[1:4].tolist())
    geometry, notices, facts = place(path.name, header, shape)
    if header.is_labels:
        facts["intent"] = _("label map")
    count = frame_count(header)

    def blocks() -> Iterator[bytes]:
        with _opened(path) as (content, _zipped):
            content.seek(header.offset)
            yield from leading(path.name, content, count * math.prod(shape) * _kind(header).itemsize)

    return FrameLayout(
        path,
        geometry,
        _kind(header),
        blocks,
        moments(count, header.times_ms),
        plain=None if zipped else header.offset,
        scaled=lambda voxels: _scaled(voxels, header),
        notices=notices,
        facts=facts,
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Give a stream of what a file holds, unpacked, and whether it was packed.

    Raises:
        InputError: for what is packed and ends early or is damaged.
    """
    with path.open("rb") as stream:
        zipped = stream.read(2) == GZIP
    try:
        with cast(IO[bytes], gzip.open(path)) if zipped else path.open("rb") as stream:
            yield stream, zipped
    except EOFError as error:
        raise incomplete(path.name) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path.name) from error


def _kind(header: Header) -> np.dtype:
    """Return the type of the voxels, with their order of bytes."""
    return np.dtype(header.order + KINDS[header.datatype])


def place(
    name: str, header: Header, shape: tuple[int, int, int]
) -> tuple[Geometry, tuple[Message, ...], dict[str, Any]]:
    """Geometry by the matrix that counts, notices of what contradicts it, and facts for the provenance.

    The sform counts where its code is above 0, else the qform, else the spacing alone, with the image's center at 0 and
    its first axis to the left, as nibabel reads it. The geometry keeps what the header states, for NIfTI files of
    labels on the same grid.
    """
    forms = NiftiForms.of_header(header)
    taken, matrix = forms.taken(shape)
    if not (np.abs(matrix) < FARTHEST).all() or abs(np.linalg.det(directions(matrix))) < 1e-3:
        raise InputError(
            _(
                "The {taken} of {name} is not a valid matrix. Correct it in the file header or export the image again."
            ).format(taken=taken, name=name)
        )
    geometry = Geometry.from_index_to_world(RAS_TO_LPS @ matrix, shape)
    facts: dict[str, Any] = {"matrix": taken, "sform_code": header.sform_code, "qform_code": header.qform_code}
    notices = []
    if taken == "pixdim":
        notices.append(
            _(
                "{name} does not define its position (sform_code and qform_code are 0): "
                "its center was placed at the origin, with the first axis pointing left. "
                "Check that left and right are not swapped."
            ).format(name=name)
        )
    far = CONTRADICTION * min(geometry.spacing)
    for other, apart in _contradictions(forms, taken, matrix, shape).items():
        if apart > far:
            facts[f"{other}_apart_mm"] = round(apart, 3)
            notices.append(
                _(
                    "The {taken} and the {other} of {name} place its voxels up to {apart:.3g} mm apart. "
                    "The {taken} was used, as in nibabel, FSL and SPM: check the position of the result."
                ).format(taken=taken, other=other, name=name, apart=apart)
            )
    shown, elsewhere = forms.in_slicer()
    if (apart := farthest_voxel_apart(elsewhere, matrix, shape)) > far:
        facts["slicer_apart_mm"] = round(apart, 3)
        notices.append(
            _(
                "3D Slicer and other programs with ITK show {name} up to {apart:.3g} mm from this place, by {shown}. "
                "{advice}"
            ).format(name=name, apart=apart, shown=_shown_by(shown), advice=_advice(geometry))
        )
    if header.unit != 1:
        facts["mm_per_unit"] = header.unit
        notices.append(
            _(
                "The lengths in {name} are in {unit} and were converted to mm, as in 3D Slicer. "
                "Check that voxels of {spacing} mm are right."
            ).format(
                name=name,
                unit=_("meters") if header.unit > 1 else _("micrometers"),
                spacing=" x ".join(f"{step:.4g}" for step in geometry.spacing),
            )
        )
    return replace(geometry, nifti=forms), tuple(notices), facts


def _shown_by(form: str) -> Message:
    """Return what 3D Slicer places an image by, in words."""
    if form == "pixdim":
        return _("the size of its voxels alone, from the origin on")
    return _("its {form}, with the size of the voxels from its pixdim").format(form=form)


def _contradictions(forms: NiftiForms, taken: str, matrix: np.ndarray, shape: tuple[int, int, int]) -> dict[str, float]:
    """Return how far other matrices of the file are from the one taken, in mm, over the image's corners."""
    others = {which: other for which, other in forms.stated.items() if which != taken}
    found = {which: farthest_voxel_apart(other, matrix, shape) for which, other in others.items()}
    if taken == "sform" and not found:  # the qform, where there is one, has its spacing from pixdim
        steps = np.linalg.norm(matrix[:3, :3], axis=0) - forms.pixdim[1:]
        found["pixdim"] = float(np.linalg.norm(steps * (np.array(shape[::-1]) - 1)))
    return found


def _scaled(voxels: np.ndarray, header: Header) -> np.ndarray:
    """Return the values in this computer's byte order, times the slope plus the intercept.

    Where the slope is 0 or no number, or changes nothing, the values stay as they are, of the stored type; scaled ones
    are float32 where that holds all stored values, else float64.
    """
    native = voxels.dtype.newbyteorder("=")
    slope, intercept = header.slope, header.intercept
    if not math.isfinite(slope) or slope == 0 or (slope, intercept) == (1, 0):
        return voxels.astype(native, copy=False)
    exact = voxels.dtype.itemsize <= (2 if voxels.dtype.kind in "iu" else 4)
    found = np.empty(voxels.shape, np.float32 if exact else np.float64)
    for rows, result in zip(voxels, found, strict=True):  # a slice at a time, since the product takes 8 bytes a voxel
        result[...] = rows * np.float64(slope) + intercept
    return found


def _advice(geometry: Geometry) -> Message:
    """Return where results are in programs that show the image elsewhere."""
    if snapped(geometry) is None:  # which is interpolated onto a grid that the file does not state
        return _("The result is beside the image in these programs: correct the header, and segment it again.")
    return _(
        "A NIfTI result keeps what the file states and is in its place in every program; "
        ".seg.nrrd and .nrrd are beside the image in 3D Slicer: choose .nii.gz there."
    )
