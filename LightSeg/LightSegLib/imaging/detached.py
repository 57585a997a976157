"""The files in which the voxels of a header lie: MetaImage's ElementDataFile and NRRD's "data file".

MetaIO's documentation, "Reading a brick of bytes", and the definition of NRRD, "Detached headers".
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..core.errors import InputError
from ..core.i18n import tr as _

ENDINGS = (".mhd", ".mha", ".nhdr", ".nrrd")
FIRST_BYTES = 1 << 16  # in which most headers end
LONGEST_HEADER = 1 << 24  # bytes, with a list of files
MOST_FILES = 100_000
META = re.compile(rb"^[ \t]*ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*?)[ \t]*(?:\r?\n|\Z)", re.MULTILINE | re.IGNORECASE)
NRRD = re.compile(rb"^data ?file:[ \t]*([^\r\n]*?)[ \t]*(?:\r?\n|\Z)", re.MULTILINE | re.IGNORECASE)
META_END = re.compile(rb"ElementDataFile[ \t]*[=:][ \t]*LOCAL", re.IGNORECASE)
NRRD_END = re.compile(rb"\r?\n\r?\n")
DIMENSIONS = re.compile(rb"^[ \t]*DimSize[ \t]*[=:].*?(\d+)[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)


def voxel_files(path: Path) -> list[Path]:
    """Those that the header of an image file names, in its order; none for a file that holds its voxels itself.

    They need not exist. Raises OSError where the header cannot be read, InputError for a pattern without sense.
    """
    name = path.name.lower()
    if not name.endswith(ENDINGS):
        return []
    meta = name.endswith((".mhd", ".mha"))
    header = _header(path, META_END if meta else NRRD_END)
    found = (META if meta else NRRD).search(header)
    if found is None or found[1].upper() == b"LOCAL":
        return []
    words = found[1].split()
    if words and words[0].upper() == b"LIST":
        names = [line.strip() for line in header[found.end() :].splitlines()]
    elif b"%" in found[1]:
        size = DIMENSIONS.search(header)
        names = _numbered(path, words, int(size[1]) if size and meta else None)
    else:
        names = [found[1]]
    return [path.parent / os.fsdecode(one) for one in names if one]


def _header(path: Path, end: re.Pattern[bytes]) -> bytes:
    """The bytes up to where the voxels begin, or all where these lie elsewhere."""
    with path.open("rb") as stream:
        header = stream.read(FIRST_BYTES)
        if not end.search(header):
            header += stream.read(LONGEST_HEADER)
    return header[: found.end()] if (found := end.search(header)) else header


def _numbered(path: Path, words: list[bytes], count: int | None) -> list[bytes]:
    """The names of a pattern such as `slice%03d.raw 1 20 1`. count: how many, where the last number is left out."""
    pattern = re.fullmatch(rb"([^%]*)%(0?)(\d{0,2})[diu]([^%]*)", words[0])
    try:
        first, *rest = [int(word) for word in words[1:4]] or [1]
        last = rest[0] if rest else first + (count or 0) - 1
        step = rest[1] if len(rest) > 1 else 1
        numbers = range(first, last + (1 if step > 0 else -1), step)
        if pattern is None or not 0 < len(numbers) <= MOST_FILES:
            raise ValueError
    except (ValueError, OverflowError):
        raise InputError(
            _(
                "The header of {file} names its files in a way that cannot be understood. "
                "Save the image as one file, for example .nrrd or .nii.gz."
            ).format(file=path.name)
        ) from None
    before, zero, width, after = pattern.groups()
    return [before + f"{number:{zero.decode()}{width.decode()}}".encode() + after for number in numbers]
