"""The bytes of voxels, plain or packed, complete and with the checksum that the packing has verified.

gzip has a CRC-32 and the size of what is packed (RFC 1952), zlib an Adler-32 (RFC 1950), bzip2 a CRC-32 of each block.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from typing import IO, cast

from ..core.errors import InputError
from ..core.i18n import tr as _

BLOCK = 1 << 24  # bytes read at a time, since a header may promise more than there is memory for
RAW, GZIP, ZLIB, BZIP2 = "raw", "gzip", "zlib", "bzip2"
ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS  # zlib's manual, inflateInit2: the first bytes show which


def read_packed(name: str, stream: IO[bytes], size: int, packing: str = RAW) -> bytearray:
    """Return the `size` bytes that a stream holds to its end.

    Args:
        name: what a message calls the file.

    Raises:
        InputError: if there are fewer or more, or others than were packed.
        OSError: if the file cannot be read or written.
    """
    try:
        content = _unzlib(stream, size) if packing == ZLIB else _up_to(_opened(stream, packing), size + 1)
    except EOFError:
        raise incomplete(name) from None
    except (zlib.error, gzip.BadGzipFile, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, where bz2 has none
            raise
        raise damaged(name) from error
    if len(content) < size:
        raise incomplete(name)
    if len(content) > size:
        raise InputError(
            _(
                "{file} cannot be read as an image (it contains more than the {size} bytes of voxels "
                "that its header describes). "
                "Its header was changed or damaged: copy or download it again."
            ).format(file=name, size=size)
        )
    return content


def read_leading(name: str, stream: IO[bytes], size: int) -> bytearray:
    """Return the first `size` bytes; what follows is read, too, since a packed stream has its checksum at the end.

    Raises as `read_packed`, but for more bytes.
    """
    try:
        content = _up_to(stream, size)
        while stream.read(BLOCK):
            pass
    except EOFError:
        raise incomplete(name) from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise damaged(name) from error
    if len(content) < size:
        raise incomplete(name)
    return content


def incomplete(name: str) -> InputError:
    """Return the error for a file that ends early."""
    return InputError(
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


def _up_to(stream: IO[bytes], size: int) -> bytearray:
    """Return at most `size` bytes of a stream."""
    content = bytearray()
    while len(content) < size and (part := stream.read(min(size - len(content), BLOCK))):
        content += part
    return content


def _unzlib(stream: IO[bytes], size: int) -> bytearray:
    """Return all unpacked bytes, or one more than `size`.

    Raises:
        EOFError: for an end before the checksum.
    """
    unpacker, content = zlib.decompressobj(ZLIB_OR_GZIP), bytearray()
    while not unpacker.eof and len(content) <= size:
        given = unpacker.unconsumed_tail or stream.read(BLOCK)
        content += unpacker.decompress(given, min(size + 1 - len(content), BLOCK)) if given else unpacker.flush()
        if not given and not unpacker.eof:
            raise EOFError
    if unpacker.unused_data or stream.read(1):
        raise zlib.error(_("there is further data after the compressed voxels"))
    return content
