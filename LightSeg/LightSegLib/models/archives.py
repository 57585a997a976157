"""Unpack an untrusted zip file: checked as a whole first, into a folder that always disappears."""

from __future__ import annotations

import math
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.leftovers import temporary_folder

MOST_FILES = 100_000
MOST_BYTES = 50 * 2**30  # five folds of nnU-Net's largest networks with their optimizers take about half of that
LONGEST_PART, LONGEST_NAME, DEEPEST = 240, 1000, 50  # bytes and folders that every file system takes
SPARE_BYTES = 2**28  # left free on the disk, for what else the computer does meanwhile
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder with the content of a zip file, gone afterwards.

    Raises:
        InputError: for a file that is damaged, encrypted, too large, or that reaches out of its folder with
            absolute names, "..", or links.
    """
    with temporary_folder() as folder:
        _unpack(path, folder)
        yield folder


def _unpack(path: Path, folder: Path) -> None:
    """Unpack a zip archive into a folder.

    Raises:
        InputError: if it is damaged or not a plain archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive.infolist(), path.name, shutil.disk_usage(folder).free)
            archive.extractall(folder)  # never more bytes of a file than its entry states
    except DAMAGED as error:
        raise InputError(
            _("{file} is not a valid zip file ({reason}). Download or copy it again.").format(
                file=path.name, reason=error
            )
        ) from error
    except OSError as error:
        raise InputError(
            _(
                "{file} could not be unpacked into {folder} ({reason}). Free some space, "
                "or unpack it elsewhere and import the folder."
            ).format(file=path.name, folder=folder.parent, reason=error.strerror or error)
        ) from error


def _check(entries: list[zipfile.ZipInfo], name: str, free: int) -> None:
    """Check the entries of an archive before any is unpacked.

    Raises:
        InputError: for the first that is refused.
    """
    taken: dict[PurePosixPath, bool] = {}  # whether it is a folder; names that differ in capitals are one for some
    for entry in entries:
        if trouble := _trouble(entry) or _collision(entry, taken):
            raise InputError(
                _(
                    "{name} was not opened because its entry '{entry}' {reason}. If you trust it, "
                    "unpack it yourself and import the folder."
                ).format(name=name, entry=entry.filename, reason=trouble)
            )
    size = sum(entry.file_size for entry in entries)
    if len(entries) > MOST_FILES or size > MOST_BYTES:
        raise InputError(
            _(
                "{name} was not opened because it would unpack to {count} files with {size:.1f} GB, "
                "more than any model has. If you trust it, unpack it yourself and import the folder."
            ).format(name=name, count=len(entries), size=size / 1e9)
        )
    if size + SPARE_BYTES > free:
        raise InputError(
            _(
                "{name} needs {needed:,} MB of free space to be unpacked, but {folder} has only {free:,} MB. "
                "Free some space, or unpack it elsewhere and import the folder."
            ).format(
                name=name,
                needed=math.ceil((size + SPARE_BYTES) / 1e6),
                free=math.floor(free / 1e6),
                folder=tempfile.gettempdir(),
            )
        )


def _trouble(entry: zipfile.ZipInfo) -> Message | None:
    """Return what is wrong with an entry; None if nothing is.

    Windows' names count everywhere.
    """
    mode, path = entry.external_attr >> 16, PurePosixPath(entry.filename)
    if entry.flag_bits & 0x1:
        return _("is encrypted")
    windows = PureWindowsPath(entry.filename)
    if entry.filename.startswith(("/", "\\")) or windows.drive:
        return _("has an absolute path")
    if ".." in (*windows.parts, *path.parts):
        return _("points outside the archive")
    if not path.parts:
        return _("has no name")
    sizes = [len(part.encode("utf-8", "replace")) for part in path.parts]
    if max(sizes) > LONGEST_PART or sum(sizes) > LONGEST_NAME or len(sizes) > DEEPEST:
        return _("has a name that is too long")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return _("is a link or a device, not a file")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return _("uses an unsupported compression")
    return None


def _collision(entry: zipfile.ZipInfo, taken: dict[PurePosixPath, bool]) -> Message | None:
    """Return how an entry collides with those in `taken` before it, or an empty text."""
    path = PurePosixPath(entry.filename.casefold())
    is_folder = entry.is_dir()
    if path in taken and not (is_folder and taken[path]):
        return _("occurs twice")
    taken[path] = is_folder
    for parent in path.parents:
        if not taken.setdefault(parent, True):
            return _("has a file as its folder")
    return None
