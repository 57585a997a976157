"""The header of NIfTI files, version 1 and 2: its fields, checked, without the voxels.

The fields are those of nifti1.h and nifti2.h (NIfTI Data Format Working Group, https://nifti.nimh.nih.gov).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .headers import not_scalar, other_format, several_images

LARGEST_OFFSET = 1 << 40  # bytes: more is not a number of the format
UNITS = {1: 1000.0, 3: 0.001}  # codes of meters and micrometers in xyzt_units, in mm; all else is mm
TIME_UNITS = {8: 1000.0, 16: 1.0, 24: 0.001}  # codes of s, ms and µs there, in ms
COLORS = {128: 3, 2304: 4}  # datatype codes with several components, and how many
KINDS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL


@dataclass(frozen=True)
class _Layout:
    """Byte offsets of a NIfTI version's fields, and the `struct` letters of their types."""

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
    toffset: int
    magic: int
    single: bytes  # its magic, and that of a header whose voxels are in another file
    pair: bytes


VERSIONS = (
    _Layout(348, "h", "f", 40, 70, 76, 108, "f", 112, 252, "h", 123, 256, 280, 68, 136, 344, b"n+1\0", b"ni1\0"),
    _Layout(540, "q", "d", 16, 12, 104, 168, "q", 176, 344, "i", 500, 352, 400, 504, 216, 4, b"n+2\0", b"ni2\0"),
)
INTACT = b"\r\n\x1a\n"  # what follows the magic of NIfTI-2, and what a transfer as text would change


@dataclass(frozen=True)
class Header:
    """The fields of a NIfTI header.

    qform, sform: codes with the numbers that belong to them: quaternion and offset [6], three rows [3, 4].

    Attributes:
        dim: number of axes and their lengths.
        ms_per_unit: of the time between frames; None where the header does not state its unit.
        toffset: time of the first frame.
        pixdim: its eight numbers.
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
    ms_per_unit: float | None
    toffset: float

    @property
    def times_ms(self) -> list[float] | None:
        """When each frame is, in ms; None where the header states no time between them, or not its unit."""
        step = float(self.pixdim[4])
        if self.ms_per_unit is None or not (math.isfinite(step) and step > 0 and math.isfinite(self.toffset)):
            return None
        return [(self.toffset + number * step) * self.ms_per_unit for number in range(self.dim[4])]

    @property
    def is_labels(self) -> bool:
        """Whether the header marks a label map."""
        return self.intent == LABEL_INTENT


def parse(name: str, content: bytes) -> Header:
    """Return the fields of the first bytes of a file.

    Raises:
        InputError: for what is not a NIfTI header, or contradicts itself.
    """
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
                if layout is VERSIONS[1] and content[layout.magic + 4 : layout.magic + 8] != INTACT:
                    raise InputError(
                        _(
                            "{file} cannot be read as an image (it was changed where a transfer as text changes "
                            "a file). The file is damaged: copy or download it again."
                        ).format(file=name)
                    )
                return _fields(name, content, order, layout)
    raise other_format(name, content, _("a NIfTI file"))


def _fields(name: str, content: bytes, order: str, at: _Layout) -> Header:
    """Return the fields of a header."""

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
            _("{bits} bits per voxel, which does not fit its datatype {datatype}").format(bits=bits, datatype=datatype),
        )
    if offset != 0 and not (at.size + 4 <= offset <= LARGEST_OFFSET and offset == int(offset)):
        raise _contradictory(name, _("{offset:g} as the position of its voxels").format(offset=offset))
    if math.isfinite(slope) and slope != 0 and not math.isfinite(intercept):
        raise _contradictory(
            name, _("the slope of its values, but {intercept:g} as the intercept").format(intercept=intercept)
        )
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
        TIME_UNITS.get(units & 0x38),
        *read(at.real, at.toffset),
    )


def _contradictory(name: str, what: str) -> InputError:
    """Return the error for a header that contradicts itself."""
    return InputError(
        _("{file} cannot be read as an image (its header gives {reason}). Export the image again.").format(
            file=name, reason=what
        )
    )


def frame_count(header: Header) -> int:
    """Return how many images there are along the fourth axis, as over time; 1 for an image of three dimensions."""
    return header.dim[4] if header.dim[0] > 3 and header.dim[4] > 1 else 1


def shape_of(name: str, header: Header, frames: bool = False) -> tuple[int, int, int]:
    """[k, j, i].

    Args:
        frames: take an image of several frames over time, too.

    Raises:
        InputError: for what is not one scalar 3D image.
    """
    count, *lengths = header.dim
    lengths = lengths[: max(count, 0)]
    if not 1 <= count <= 7 or min(lengths) < 1:
        raise InputError(
            _("{name} cannot be read as an image (its header gives no valid size). Export the image again.").format(
                name=name
            )
        )
    components = COLORS.get(header.datatype, math.prod(lengths[4:]))
    if components > 1:
        raise not_scalar(name, components)
    if header.datatype not in KINDS:
        raise InputError(
            _(
                "{name} has voxels of the NIfTI data type {datatype}, which is not grayscale. "
                "Convert it to an integer or floating-point image."
            ).format(name=name, datatype=header.datatype)
        )
    if frame_count(header) > 1 and not frames:
        raise several_images(name, frame_count(header), header.times_ms is not None)
    if count < 3:
        raise not_scalar(name, dimensions=count)
    i, j, k = lengths[:3]
    return k, j, i
