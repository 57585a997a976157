"""Whether a file holds what was written, to the last byte: some network disks lose voxels without a word.

The voxels are compared as they are in the file, and the checksum of what is packed (gzip, RFC 1952) covers the header,
too, where that is packed.
"""

from __future__ import annotations

import errno
import gzip
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np

NIFTI_OFFSET = 352  # bytes before the voxels of a single file without extensions, nifti1.h
LONGEST_HEADER = 1 << 24  # bytes of an NRRD file's
BLOCK = 1 << 22  # bytes compared at a time


def check_written(path: Path, voxels: np.ndarray) -> None:
    """Check that a file holds exactly the voxels that were written to it.

    Args:
        voxels: [k, j, i] or [k, j, i, component], in the type and byte order of this computer.

    Raises:
        OSError: if `path`, just written as .nrrd, .nii or .nii.gz, does not end with exactly these voxels.
    """
    try:
        with path.open("rb") as stream:
            content = _content(path.name.lower(), stream)
            if not _ends_with(content, np.ascontiguousarray(voxels).reshape(-1).view(np.uint8)):
                raise _incomplete()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _incomplete() from error


def check_ends_with(path: Path, size: int, checksum: int) -> None:
    """Check that a file holds exactly `size` bytes of voxels with a CRC-32.

    Raises:
        OSError: if `path`, just written as .nrrd, .nii or .nii.gz, does not end with these voxels.
    """
    try:
        with path.open("rb") as stream:
            content, found, given = _content(path.name.lower(), stream), 0, 0
            while block := content.read(BLOCK):
                found, given = zlib.crc32(block, found), given + len(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _incomplete() from error
    if (given, found) != (size, checksum):
        raise _incomplete()


def _content(name: str, stream: IO[bytes]) -> IO[bytes]:
    """Return the unpacked stream after the header."""
    if name.endswith((".nii", ".nii.gz")):
        content = cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if name.endswith(".gz") else stream
        if len(content.read(NIFTI_OFFSET)) < NIFTI_OFFSET:
            raise _incomplete()
        return content
    header = b""
    while not header.endswith(b"\n\n"):  # NRRD's definition: a blank line ends the header
        line = stream.readline(LONGEST_HEADER)
        header += line
        if not line or len(header) > LONGEST_HEADER:
            raise _incomplete()
    packed = b"\nencoding: gzip\n" in header.replace(b"\r\n", b"\n")
    return cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if packed else stream


def _ends_with(content: IO[bytes], expected: np.ndarray) -> bool:
    """Return whether a stream ends with exactly these bytes.

    Args:
        expected: bytes [n].
    """
    for start in range(0, len(expected), BLOCK):
        part = expected[start : start + BLOCK].tobytes()
        if content.read(len(part)) != part:
            return False
    return content.read(1) == b""  # at the end, where the checksum is compared


def _incomplete() -> OSError:
    """Return the error for a file that was not written completely."""
    return OSError(errno.EIO, "the file could not be written completely")
