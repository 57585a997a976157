"""Atomic file writes, and early errors for folders that cannot be written."""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from .errors import DiskFullError, OutputError
from .i18n import tr as _
from .leftovers import PART, part_name, remove_abandoned
from .plain_text import cell

OPEN_ELSEWHERE = (32, 33)  # errors of Windows: a file, or a part of it, is in use by another process
WINDOWS = os.name == "nt"
LONG = 250  # characters of a path; most programs of Windows take 259


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it on success and removed on failure.

    It is on the disk before it is renamed, so that no power cut leaves a part of it under its name. What a killed
    program has left in the folder goes.

    Raises:
        OutputError: for what goes wrong with the file system meanwhile.
    """
    path = Path(path)
    _tidy(path.parent.absolute())
    # SimpleITK chooses the format by the ending, and some of its formats stumble over capitals and further dots.
    ending = next((e for e in (".seg.nrrd", ".nii.gz") if path.name.lower().endswith(e)), path.suffix.lower())
    part = path.with_name(part_name(ending))
    try:
        yield part
        to_disk(part)
        part.replace(path)
        with suppress(OSError):  # of a file system that does not know it
            to_disk(path.parent)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):  # Linux refuses it on a read-only disk even for a file that is not there
            part.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Return when a file, or the entries of a folder, are on the disk.

    Raises:
        OSError: if the file cannot be read or written.
    """
    if path.is_dir() and WINDOWS:
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@lru_cache(maxsize=1000)
def _tidy(folder: Path) -> None:
    """Remove abandoned files of a folder once per process, since folders of results may be large."""
    remove_abandoned(folder, PART)


def write_table(rows: Iterable[Iterable[object]], path: str | Path) -> None:
    """Write rows, the header first, as CSV without formulas.

    Raises:
        OutputError: as `atomic_write` does.
    """
    with atomic_write(path) as part:
        write_rows(rows, part)


def write_rows(rows: Iterable[Iterable[object]], path: Path) -> None:
    """Write rows as CSV without formulas, into a file that is still on its way to its name.

    Raises:
        OSError: if the file cannot be written.
    """
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        csv.writer(stream).writerows([cell(value) for value in row] for row in rows)


def check_folder(folder: Path) -> None:
    """Check that a folder exists and can be written.

    Raises:
        OutputError: for a folder that does not exist or cannot be written.
    """
    if not folder.is_dir():
        raise _no_folder(folder)
    if (error := refusal(folder)) is not None:
        raise output_error(folder / "file", error) from error


def refusal(folder: Path) -> OSError | None:
    """Return the error of the file system where a folder takes no new file, None where it takes one.

    Asking the file system beats reading permissions: it also knows of read-only and network disks, and on Windows
    permissions do not show it.
    """
    probe = folder / part_name("")
    try:
        probe.touch(exist_ok=False)
    except OSError as error:
        return error
    with suppress(OSError):
        probe.unlink()
    return None


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the error for the user of an OSError that occurred where `path` was written."""
    # numpy reports a partly written file without an errno
    if error.errno in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(
            _(
                "{file} could not be written completely because the disk is full or a quota is reached. "
                "Free some space in {folder} or choose another folder."
            ).format(file=path.name, folder=path.parent)
        )
    if error.errno == errno.EIO:
        return OutputError(
            _(
                "{file} could not be written completely: "
                "reading it back from the disk in {folder} gives something else. "
                "Check the disk or choose another folder."
            ).format(file=path.name, folder=path.parent)
        )
    longest = max(len(str(name.absolute())) for name in (path, path.with_name(part_name(path.suffix))))
    if WINDOWS and longest > LONG:
        return OutputError(
            _(
                "{file} could not be written: its path is too long for Windows, with {count} characters while it is "
                "written. Choose a folder with a shorter path."
            ).format(file=path, count=longest)
        )
    reason, refused = error.strerror or error, refusal(path.parent)
    if isinstance(refused, FileNotFoundError | NotADirectoryError) and not path.parent.is_dir():
        return _no_folder(path.parent)
    if getattr(error, "winerror", None) in OPEN_ELSEWHERE or error.errno in (errno.EBUSY, errno.ETXTBSY):
        return _open_elsewhere(path, reason)
    if refused is not None:
        return OutputError(
            _(
                "The folder {folder} is not writable ({reason}). Choose another folder or change its permissions."
            ).format(folder=path.parent, reason=reason)
        )
    if error.errno in (errno.EACCES, errno.EPERM):  # of the file alone: Windows calls it so when it is to be replaced
        return _open_elsewhere(path, reason)
    return OutputError(
        _("{file} could not be written to {folder} ({reason}). Check this folder, or choose another one.").format(
            file=path.name, folder=path.parent, reason=reason
        )
    )


def _no_folder(folder: Path) -> OutputError:
    """Return the error for a folder that is not there, or not any more."""
    return OutputError(_("The folder {folder} does not exist. Create it or choose another one.").format(folder=folder))


def _open_elsewhere(path: Path, reason: object) -> OutputError:
    """Return the error for a file that another program does not let go."""
    return OutputError(
        _(
            "{file} could not be written ({reason}), probably because it is open in another program. "
            "Close it there and try again, or choose another folder."
        ).format(file=path, reason=reason)
    )
