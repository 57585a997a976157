"""Headers with their voxels in other files: MetaImage's ElementDataFile and NRRD's "data file".

MetaIO's documentation, "Reading a brick of bytes", and the definition of NRRD, "Detached headers".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .packed import RAW, incomplete, read_packed, unpacked

ENDINGS = (".mhd", ".mha", ".nhdr", ".nrrd")
FIRST_BYTES = 1 << 16  # in which most headers end
LONGEST_HEADER = 1 << 24  # bytes, with a list of files
MOST_FILES = 100_000
META = re.compile(rb"^[ \t]*ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*?)[ \t]*(?:\r?\n|\Z)", re.MULTILINE | re.IGNORECASE)
NRRD = re.compile(rb"^data ?file:[ \t]*([^\r\n]*?)[ \t]*(?:\r?\n|\Z)", re.MULTILINE | re.IGNORECASE)
META_END = re.compile(rb"^[ \t]*ElementDataFile[ \t]*[=:][ \t]*LOCAL[ \t]*\r?\n", re.IGNORECASE | re.MULTILINE)
NRRD_END = re.compile(rb"\r?\n\r?\n")
LONGEST_NUMBER = 64  # characters of one that is written as text
DIMENSIONS = re.compile(rb"^[ \t]*DimSize[ \t]*[=:].*?(\d+)[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """How numbers are stored in one or more files.

    Attributes:
        kind: numpy's name of their type, with the order of bytes.
        count: of all files.
        start: byte of a file without others at which they begin.
        lines: what comes before them in each file; skipped is -1 where they are at its end.
        skipped: what comes before them in each file; skipped is -1 where they are at its end.
        text: whether they are written as text.
    """

    kind: str
    count: int
    start: int
    packing: str = RAW
    lines: int = 0
    skipped: int = 0
    text: bool = False


def read_header(path: Path) -> tuple[bytes, int]:
    """Return the bytes up to where the voxels begin, or all of them if the voxels are elsewhere, and how many they are.

    Raises:
        OSError: if the file cannot be read or written.
    """
    header = _header(path, META_END if path.name.lower().endswith((".mhd", ".mha")) else NRRD_END)
    return header, len(header)


def number_blocks(path: Path, layout: Layout) -> Iterator[bytes]:
    """Yield the bytes of what `read_numbers` returns, in the file's order of bytes, a block at a time.

    Raises as `read_numbers`, and InputError for numbers that are written as text.
    """
    own, count, start = _parts(path, layout)
    if layout.text:
        raise InputError(
            _("{file} is a series over time written as text. Save it again, for example with 3D Slicer.").format(
                file=path.name
            )
        )
    size = count * np.dtype(layout.kind).itemsize
    for file in own:
        with file.open("rb") as stream:
            _skip(file, stream, layout, start, size)
            yield from unpacked(file.name, stream, size, layout.packing)


def read_numbers(path: Path, layout: Layout) -> np.ndarray:
    """Return all numbers [n] of the file, or of those that its header names, in their order, in native byte order.

    Raises:
        InputError: if a file is missing, damaged, or does not hold as many as it should.
        OSError: if the file cannot be read or written.
    """
    own, count, start = _parts(path, layout)
    numbers = np.empty(0, layout.kind)
    for at, file in enumerate(own):
        part = _numbers(file, layout, count, start)
        if len(own) == 1:
            return native(part)
        if at == 0:
            numbers = np.empty(layout.count, layout.kind)
        numbers[at * len(part) : (at + 1) * len(part)] = part
    return native(numbers)


def _parts(path: Path, layout: Layout) -> tuple[list[Path], int, int]:
    """Return the files that hold the numbers, how many each has, and the byte at which they begin.

    Raises:
        InputError: for a file that is missing, or numbers that cannot be divided among the files.
    """
    files = voxel_files(path)
    own = files or [path]
    if layout.count % len(own):
        raise InputError(
            _(
                "{file} cannot be read as an image (its voxels cannot be divided into the {count} "
                "files that its header names). "
                "Some files are missing: copy the header and all its files again."
            ).format(file=path.name, count=len(own))
        )
    for file in own:
        if not file.is_file():
            raise InputError(
                _(
                    "{file} cannot be read as an image (its voxels are missing: {voxels}). Put the files that "
                    "belong to the header where it names them."
                ).format(file=path.name, voxels=file)
            )
    return own, layout.count // len(own), 0 if files else layout.start


def native(numbers: np.ndarray) -> np.ndarray:
    """Return the numbers in this computer's byte order, the only one that torch and ITK take; swapped in place."""
    return numbers if numbers.dtype.isnative else numbers.byteswap(True).view(numbers.dtype.newbyteorder("="))


def _numbers(file: Path, layout: Layout, count: int, start: int) -> np.ndarray:
    """Return `count` voxels of a raw file."""
    kind = np.dtype(layout.kind)
    with file.open("rb") as stream:
        size = count * kind.itemsize
        _skip(file, stream, layout, start, size)
        if layout.text:
            words = stream.read(count * LONGEST_NUMBER + 1).split()
            return _written_numbers(file.name, words, count, kind)
        return np.frombuffer(read_packed(file.name, stream, size, layout.packing), kind)


def _skip(file: Path, stream: IO[bytes], layout: Layout, start: int, size: int) -> None:
    """Move a file's stream to where its numbers, `size` bytes of them, begin.

    Raises:
        IncompleteFileError: if the file ends before.
    """
    stream.seek(start)
    for _line in range(layout.lines):
        if not stream.readline(LONGEST_HEADER):  # a header may ask for more lines than any file has
            raise incomplete(file.name)
    if layout.text:
        return
    if layout.skipped < 0:
        if file.stat().st_size - stream.tell() < size:
            raise incomplete(file.name)
        stream.seek(-size, os.SEEK_END)
    else:
        stream.seek(layout.skipped, os.SEEK_CUR)


def _written_numbers(name: str, words: Sequence[bytes], count: int, kind: np.dtype) -> np.ndarray:
    """Return voxels that are written as decimal text."""
    try:
        if len(words) != count:
            raise incomplete(name)
        exact = int if kind.kind in "iu" else float
        return np.array([exact(word) for word in words], kind)
    except (ValueError, OverflowError):
        raise InputError(
            _(
                "{file} cannot be read as an image (some of its voxels are not numbers of its data type). "
                "Save it again."
            ).format(file=name)
        ) from None


def voxel_files(path: Path) -> list[Path]:
    """Return the voxel files that an image header names, in order; none for a file with its own voxels.

    They need not exist.

    Raises:
        OSError: if the header cannot be read.
        InputError: for a pattern without sense.
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
    """Return the bytes before the voxels, or the whole file if the voxels are elsewhere."""
    with path.open("rb") as stream:
        header = stream.read(FIRST_BYTES)
        if not end.search(header):
            header += stream.read(LONGEST_HEADER)
    return header[: found.end()] if (found := end.search(header)) else header


def _numbered(path: Path, words: list[bytes], count: int | None) -> list[bytes]:
    """Return the names of a pattern such as `slice%03d.raw 1 20 1`.

    Args:
        count: how many, where the last number is left out.
    """
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
                "The header of {file} does not name its voxel files in a supported way. "
                "Save the image as a single file, for example .nrrd or .nii.gz."
            ).format(file=path.name)
        ) from None
    before, zero, width, after = pattern.groups()
    return [before + f"{number:{zero.decode()}{width.decode()}}".encode() + after for number in numbers]
