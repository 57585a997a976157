"""What SimpleITK forgives and LightSeg must not: impossible spacings and voxels that are not in the file.

ITK reads a NIfTI file that was cut off and fills the rest with zeros, takes a spacing of zero for 1 mm, and
a negative one for a mirrored axis. Each of these would give a wrong result without a word.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

from ..core.errors import InputError

NIFTI_HEADER_SIZE = 348
TEXT_HEADER_SIZE = 1 << 16
TEXT_SPACING = re.compile(rb"^(?:ElementSpacing|spacings)\s*[:=]\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)


def check_header(path: Path) -> None:
    """Raise InputError for a NIfTI, MetaImage or NRRD file with such a fault; pass whatever is not understood."""
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        _check_nifti(path)
    elif name.endswith((".mha", ".mhd", ".nrrd", ".nhdr")):
        with path.open("rb") as stream:
            header = stream.read(TEXT_HEADER_SIZE).split(b"\n\n")[0]
        words = found[1].split() if (found := TEXT_SPACING.search(header)) else []
        if len(words) == 3:  # more are components or a time series, which are refused for what they are
            _check_spacing(path, [_number(word) for word in words])


def _check_nifti(path: Path) -> None:
    """Header fields by their offsets in nifti1.h: dim 40, bitpix 72, pixdim 76, vox_offset 108."""
    packed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if packed else path.open("rb") as stream:
            header = stream.read(NIFTI_HEADER_SIZE)
    except (OSError, EOFError, zlib.error):
        header = b""
    order = next((order for order in "<>" if header[:4] == struct.pack(f"{order}i", NIFTI_HEADER_SIZE)), None)
    if order is None or len(header) < NIFTI_HEADER_SIZE:
        return  # SimpleITK says what it is, or refuses it
    count, *dimensions = struct.unpack_from(f"{order}8h", header, 40)
    (bits,) = struct.unpack_from(f"{order}h", header, 72)
    (offset,) = struct.unpack_from(f"{order}f", header, 108)
    if 1 <= count <= 7:
        _check_spacing(path, list(struct.unpack_from(f"{order}3f", header, 80))[:count])
        expected = int(max(offset, NIFTI_HEADER_SIZE + 4)) + math.prod(dimensions[:count]) * bits // 8
        if not (_packed_holds(path, expected) if packed else path.stat().st_size >= expected):
            raise InputError(
                f"{path.name} cannot be read as an image (the file ends before its last voxel). "
                "It was not copied or downloaded completely: get it again."
            )


def _packed_holds(path: Path, size: int) -> bool:
    """True when a gzip file unpacks to at least `size` bytes."""
    with path.open("rb") as stream:
        stream.seek(-4, 2)
        if struct.unpack("<I", stream.read(4))[0] == size % (1 << 32):
            return True  # the size that every gzip file ends with, RFC 1952, section 2.3.1
    unpacked = 0
    try:
        with gzip.open(path) as stream:  # files of several parts state only the last one's size
            while unpacked < size and (block := stream.read(1 << 20)):
                unpacked += len(block)
    except (OSError, EOFError, zlib.error):
        return False
    return unpacked >= size


def _check_spacing(path: Path, spacing: list[float]) -> None:
    if not all(math.isfinite(step) and step > 0 for step in spacing):
        raise InputError(
            f"{path.name} states a voxel spacing of {' x '.join(f'{step:g}' for step in spacing)} mm, which is not "
            "positive. Correct the spacing in the file's header or export the image again."
        )


def _number(word: bytes) -> float:
    """NaN where the word is no number."""
    try:
        return float(word)
    except ValueError:
        return math.nan
