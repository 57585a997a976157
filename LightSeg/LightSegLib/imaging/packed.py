"""The bytes of voxels, plain or packed, complete and with the checksum that the packing has verified.

gzip has a CRC-32 and the size of what is packed (RFC 1952), zlib an Adler-32 (RFC 1950), bzip2 a CRC-32 of each block.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from typing import IO, cast

from ..core.errors import IncompleteFileError, InputError
from ..core.i18n import tr as _

BLOCK = 1 << 24  # bytes read at a time, since a header may promise more than there is memory for
PART = 1 << 20  # bytes yielded at a time
RAW, GZIP, ZLIB, BZIP2 = "raw", "gzip", "zlib", "bzip2"
ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS  # zlib's manual, inflateInit2: the first bytes show which


def read_packed(name: str, stream: IO[bytes], size: int, packing: str = RAW) -> bytearray:
    """Return the `size` bytes that a stream holds to its end.

    Raises as `unpacked`.
    """
    content = bytearray()
    for block in unpacked(name, stream, size, packing):
        content += block
    return content


def unpacked(name: str, stream: IO[bytes], size: int, packing: str = RAW) -> Iterator[bytes]:
    """Yield the `size` bytes that a stream holds to its end, block by block, as far as there are any.

    Args:
        name: what a message calls the file.

    Raises:
        IncompleteFileError: if there are fewer.
        InputError: if there are more, or others than were packed.
        OSError: if the file cannot be read or written.
    """
    given = 0
    try:
        for block in _unzlib(stream, size) if packing == ZLIB else _up_to(_opened(stream, packing), size + 1):
            given += len(block)
            yield block
    except EOFError:
        raise incomplete(name) from None
    except (zlib.error, gzip.BadGzipFile, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, where bz2 has none
            raise
        raise damaged(name) from error
    if given < size:
        raise incomplete(name)
    if given > size:
        raise InputError(
            _(
                "{file} cannot be read as an image (it contains more than the {size} bytes of voxels "
                "that its header describes). "
                "Its header was changed or damaged: copy or download it again."
            ).format(file=name, size=size)
        )


def read_leading(name: str, stream: IO[bytes], size: int) -> bytearray:
    """Return the first `size` bytes.

    Raises as `leading`.
    """
    content = bytearray()
    for block in leading(name, stream, size):
        content += block
    return content


def leading(name: str, stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes; what follows is read, too, since a packed stream has its checksum at the end.

    Raises as `unpacked`, but for more bytes.
    """
    given = 0
    try:
        for block in _up_to(stream, size):
            given += len(block)
            yield block
        while stream.read(PART):
            pass
    except EOFError:
        raise incomplete(name) from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise damaged(name) from error
    if given < size:
        raise incomplete(name)


def incomplete(name: str) -> IncompleteFileError:
    """Return the error for a file that ends early."""
    return IncompleteFileError(
        _(
            "{file} cannot be read as an image (the file ends before its last voxel). "
            "It is incomplete: copy or download it again."
        ).format(file=name)
    )


def damaged(name: str) -> InputError:
    """Return the error for a file with a wrong checksum."""
    return InputError(
        _(
            "{file} cannot be read as an image (its checksum does not match). The file is damaged: "
            "copy or download it again."
        ).format(file=name)
    )


def _opened(stream: IO[bytes], packing: str) -> IO[bytes]:
    """Return a stream of the unpacked bytes."""
    if packing == GZIP:
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    return cast(IO[bytes], bz2.BZ2File(stream)) if packing == BZIP2 else stream


def _up_to(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield at most `size` bytes of a stream."""
    # Not `read`, which loses what a packed stream has before an end that comes early.
    while size > 0 and (part := stream.read1(min(size, PART))):  # type: ignore[attr-defined]
        size -= len(part)
        yield part


def _unzlib(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield all unpacked bytes, or one more than `size`.

    Raises:
        EOFError: for an end before the checksum.
    """
    unpacker, left = zlib.decompressobj(ZLIB_OR_GZIP), size + 1
    while not unpacker.eof and left > 0:
        given = unpacker.unconsumed_tail or stream.read(BLOCK)
        part = unpacker.decompress(given, min(left, BLOCK)) if given else unpacker.flush()
        left -= len(part)
        yield part
        if not given and not unpacker.eof:
            raise EOFError
    if unpacker.unused_data or stream.read(1):
        raise zlib.error(_("there is further data after the compressed voxels"))
