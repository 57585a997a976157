"""NIfTI files, version 1 and 2: where their voxels lie, and which values they have.

The fields are those of nifti1.h and nifti2.h (NIfTI Data Format Working Group, https://nifti.nimh.nih.gov); where the
standard leaves a choice, it is made as nibabel does. Coordinates in a file are RAS, results are LPS.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .geometry import FARTHEST, Geometry
from .headers import check_spacing, not_scalar
from .packed import damaged, incomplete, read_leading
from .ras import RAS_TO_LPS

ENDINGS = (".nii", ".nii.gz")
GZIP = b"\x1f\x8b"
LARGEST_OFFSET = 1 << 40  # bytes: more is no number of the format
LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL
CONTRADICTION = 0.1  # voxels, by which two statements of the same place may differ through rounding
UNITS = {1: 1000.0, 3: 0.001}  # codes of meters and micrometers in xyzt_units, in mm; all else is mm
COLORS = {128: 3, 2304: 4}  # datatype codes with several components, and how many
KINDS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


@dataclass(frozen=True)
class Image:
    """voxels: [k, j, i]. facts: what was done to find the place, for the provenance."""

    voxels: np.ndarray
    geometry: Geometry
    notices: tuple[str, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Layout:
    """Where a version of the format has its fields: byte offsets, and letters of `struct` for their kinds."""

    size: int
    length: str  # of dim and vox_offset
    real: str  # of pixdim and all that follows
    dim: int
    datatype: int
    pixdim: int
    offset: int
    offset_kind: str
    scale: int
    codes: int
    code_kind: str
    units: int
    quaternion: int  # b, c, d, then the offsets x, y, z
    rows: int
    intent: int  # of the kind of the codes
    magic: int
    single: bytes  # its magic, and that of a header whose voxels lie in another file
    pair: bytes


VERSIONS = (
    _Layout(348, "h", "f", 40, 70, 76, 108, "f", 112, 252, "h", 123, 256, 280, 68, 344, b"n+1\0", b"ni1\0"),
    _Layout(540, "q", "d", 16, 12, 104, 168, "q", 176, 344, "i", 500, 352, 400, 504, 4, b"n+2\0", b"ni2\0"),
)


@dataclass(frozen=True)
class Header:
    """What a file says of its voxels. dim: number of axes and their lengths. pixdim: its eight numbers.

    qform, sform: codes with the numbers that belong to them: quaternion and offset [6], three rows [3, 4].
    """

    order: str
    dim: tuple[int, ...]
    datatype: int
    pixdim: np.ndarray
    offset: int
    slope: float
    intercept: float
    unit: float
    qform_code: int
    quaternion: np.ndarray
    sform_code: int
    rows: np.ndarray
    intent: int


def read_nifti(path: Path) -> Image:
    """Raises InputError for what is no complete NIfTI file with one scalar 3D image at a place; OSError."""
    with path.open("rb") as stream:
        zipped = stream.read(2) == GZIP
    try:
        with gzip.open(path) if zipped else path.open("rb") as stream:
            header = _header(path.name, stream.read(VERSIONS[1].size))
            shape = _shape(path.name, header)
            check_spacing(path.name, header.pixdim[1:4].tolist())
            kind = np.dtype(header.order + KINDS[header.datatype])
            stream.seek(header.offset)
            content = read_leading(path.name, stream, math.prod(shape) * kind.itemsize)
    except EOFError as error:
        raise incomplete(path.name) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path.name) from error
    geometry, notices, facts = place(path.name, header, shape)
    if header.intent == LABEL_INTENT:
        facts["intent"] = _("label map")
    return Image(_scaled(np.frombuffer(content, kind).reshape(shape), header), geometry, notices, facts)


def place(name: str, header: Header, shape: tuple[int, int, int]) -> tuple[Geometry, tuple[str, ...], dict[str, Any]]:
    """Geometry by the matrix that counts, notices of what contradicts it, and facts for the provenance.

    The sform counts where its code is above 0, else the qform, else the spacing alone, with the image's center at 0
    and its first axis to the left, as nibabel reads it.
    """
    stated = {"sform": _sform(header)} if header.sform_code > 0 else {}
    if header.qform_code > 0:
        stated["qform"] = _qform(header)
    taken, matrix = next(iter(stated.items()), ("pixdim", _by_spacing(header, shape)))
    if not (np.abs(matrix) < FARTHEST).all() or abs(np.linalg.det(_directions(matrix))) < 1e-3:
        raise InputError(
            _(
                "The {taken} of {name} is no matrix that can place an image. "
                "Correct it in the file's header or export the image again."
            ).format(taken=taken, name=name)
        )
    geometry = Geometry.from_index_to_world(RAS_TO_LPS @ matrix, shape)
    facts: dict[str, Any] = {"matrix": taken, "sform_code": header.sform_code, "qform_code": header.qform_code}
    notices = []
    if taken == "pixdim":
        notices.append(
            _(
                "{name} does not say where its voxels lie (sform_code and qform_code are 0): "
                "its center was put at the origin and its first axis to the left. "
                "Check that right and left are not exchanged."
            ).format(name=name)
        )
    far = CONTRADICTION * min(geometry.spacing)
    for other, apart in _contradictions(header, stated, taken, matrix, shape).items():
        if apart > far:
            facts[f"{other}_apart_mm"] = round(apart, 3)
            notices.append(
                _(
                    "The {taken} and the {other} of {name} place its voxels differently, up to {apart:.3g} mm apart. "
                    "The {taken} was taken, as the NIfTI standard says: check the place of the result."
                ).format(taken=taken, other=other, name=name, apart=apart)
            )
    if header.unit != 1:
        facts["mm_per_unit"] = header.unit
    return geometry, tuple(notices), facts


def _contradictions(
    header: Header, stated: dict[str, np.ndarray], taken: str, matrix: np.ndarray, shape: tuple[int, int, int]
) -> dict[str, float]:
    """How far other statements of the file are from the matrix, in mm: the most over the corners of the image."""
    k, j, i = shape
    corners = np.array([[x, y, z, 1] for x in (0, i - 1) for y in (0, j - 1) for z in (0, k - 1)], float).T
    found = {
        which: float(np.linalg.norm(((other - matrix) @ corners)[:3], axis=0).max())
        for which, other in stated.items()
        if which != taken
    }
    if taken == "sform" and not found:  # the qform, where there is one, has its spacing from pixdim
        steps = np.linalg.norm(matrix[:3, :3], axis=0) - header.pixdim[1:4] * header.unit
        found["pixdim"] = float(np.linalg.norm(steps * (np.array(shape[::-1]) - 1)))
    return found


def _header(name: str, content: bytes) -> Header:
    for order in "<>":
        for layout in VERSIONS:
            if len(content) >= layout.size and content[:4] == struct.pack(f"{order}i", layout.size):
                magic = content[layout.magic : layout.magic + 4]
                if magic != layout.single:
                    what = _("a NIfTI header without its voxels") if magic == layout.pair else _("Analyze, not NIfTI")
                    raise InputError(
                        _(
                            "{file} cannot be read as an image (it is {what}). Convert the whole image to .nii.gz."
                        ).format(file=name, what=what)
                    )
                return _fields(name, content, order, layout)
    raise InputError(
        _(
            "{name} cannot be read as an image (it does not begin like a NIfTI file). Use NIfTI, NRRD, "
            "MetaImage or a folder with one DICOM series."
        ).format(name=name)
    )


def _fields(name: str, content: bytes, order: str, at: _Layout) -> Header:
    def read(kinds: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + kinds, content, offset)

    count, *dimensions = read(f"8{at.length}", at.dim)
    qform_code, sform_code = read(f"2{at.code_kind}", at.codes)
    slope, intercept = read(f"2{at.real}", at.scale)
    (offset,) = read(at.offset_kind, at.offset)
    (units,) = read("B" if at.code_kind == "h" else "i", at.units)
    datatype, bits = read("2h", at.datatype)
    if datatype in KINDS and bits != 8 * np.dtype(KINDS[datatype]).itemsize:
        raise _contradictory(
            name,
            _("{bits} bits a voxel, which its datatype {datatype} does not have").format(bits=bits, datatype=datatype),
        )
    if offset != 0 and not (at.size + 4 <= offset <= LARGEST_OFFSET and offset == int(offset)):
        raise _contradictory(name, _("voxels that begin at byte {offset:g}").format(offset=offset))
    return Header(
        order,
        (count, *dimensions),
        datatype,
        np.array(read(f"8{at.real}", at.pixdim), float),
        int(offset) or at.size + 4,
        slope,
        intercept,
        UNITS.get(units & 7, 1.0),
        qform_code,
        np.array(read(f"6{at.real}", at.quaternion), float),
        sform_code,
        np.array(read(f"12{at.real}", at.rows), float).reshape(3, 4),
        read(at.code_kind, at.intent)[0],
    )


def _contradictory(name: str, what: str) -> InputError:
    return InputError(
        _("{file} cannot be read as an image (its header states {what}). Export the image again.").format(
            file=name, what=what
        )
    )


def _shape(name: str, header: Header) -> tuple[int, int, int]:
    """[k, j, i]. Raises InputError for what is not one scalar 3D image."""
    count, *lengths = header.dim
    lengths = lengths[: max(count, 0)]
    if not 1 <= count <= 7 or min(lengths) < 1:
        raise InputError(
            _("{name} cannot be read as an image (its header states no size). Export the image again.").format(
                name=name
            )
        )
    components = COLORS.get(header.datatype, math.prod(lengths[4:]))
    if components > 1:
        raise not_scalar(name, components)
    if header.datatype not in KINDS:
        raise InputError(
            _(
                "{name} has voxels of NIfTI's datatype {datatype}, which are not numbers on a gray scale. "
                "Convert it to an integer or floating-point image."
            ).format(name=name, datatype=header.datatype)
        )
    dimensions = 4 if count > 3 and lengths[3] > 1 else min(count, 3)
    if dimensions != 3:
        raise not_scalar(name, dimensions=dimensions)
    i, j, k = lengths[:3]
    return k, j, i


def _sform(header: Header) -> np.ndarray:
    return np.vstack([header.rows * header.unit, [0, 0, 0, 1]])


def _qform(header: Header) -> np.ndarray:
    """nifti1.h, "QUATERNION REPRESENTATION OF ROTATION MATRIX" (method 2)."""
    b, c, d = header.quaternion[:3]
    norm = b * b + c * c + d * d
    if norm > 1:  # through rounding: a is 0 then
        b, c, d = header.quaternion[:3] / math.sqrt(norm)
    a = math.sqrt(max(0.0, 1 - norm))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handedness = header.pixdim[0]
    steps = header.pixdim[1:4] * [1, 1, -1 if handedness < 0 else 1 if math.isfinite(handedness) else math.nan]
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * steps * header.unit
    matrix[:3, 3] = header.quaternion[3:] * header.unit
    return matrix


def _by_spacing(header: Header, shape: tuple[int, int, int]) -> np.ndarray:
    steps = header.pixdim[1:4] * header.unit * [-1, 1, 1]
    matrix = np.diag([*steps, 1.0])
    matrix[:3, 3] = -steps * (np.array(shape[::-1]) - 1) / 2
    return matrix


def _directions(matrix: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    return matrix[:3, :3] / np.where(lengths > 0, lengths, 1)


def _scaled(voxels: np.ndarray, header: Header) -> np.ndarray:
    """Values in this computer's byte order, times the slope plus the intercept.

    Where the slope is 0 or no number, or changes nothing, the values stay as they are, of the stored type; scaled ones
    are float32 where that holds all stored values, else float64.
    """
    native = voxels.dtype.newbyteorder("=")
    slope, intercept = header.slope, header.intercept if math.isfinite(header.intercept) else 0.0
    if not math.isfinite(slope) or slope == 0 or (slope, intercept) == (1, 0):
        return voxels.astype(native, copy=False)
    exact = voxels.dtype.itemsize <= (2 if voxels.dtype.kind in "iu" else 4)
    found = np.empty(voxels.shape, np.float32 if exact else np.float64)
    for rows, result in zip(voxels, found, strict=True):  # a slice at a time, since the product takes 8 bytes a voxel
        result[...] = rows * np.float64(slope) + intercept
    return found
