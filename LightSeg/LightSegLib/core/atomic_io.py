"""Files appear under their names whole or not at all, and a place that cannot be written is told beforehand."""

from __future__ import annotations

import csv
import errno
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DiskFullError, OutputError
from .plain_text import cell


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it on success and removed on failure.

    Raises OutputError for what goes wrong with the file system meanwhile.
    """
    path = Path(path)
    # SimpleITK chooses the format by the ending, and some of its formats stumble over capitals and further dots.
    ending = next((e for e in (".seg.nrrd", ".nii.gz") if path.name.lower().endswith(e)), path.suffix.lower())
    part = path.with_name(f".{uuid.uuid4().hex}.part{ending}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def write_table(rows: Iterable[Iterable[object]], path: str | Path) -> None:
    """Write rows, the header first, as CSV without formulas. Raises OutputError as `whole_file` does."""
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        csv.writer(stream).writerows([cell(value) for value in row] for row in rows)


def check_folder(folder: Path) -> None:
    """Raise OutputError for a folder that does not exist or cannot be written."""
    if not folder.is_dir():
        raise OutputError(f"The folder {folder} does not exist. Create it or choose another one.")
    try:
        # Asking the file system beats reading permissions: it also knows of read-only and network disks.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise output_error(folder / "file", error) from error


def output_error(path: Path, error: OSError) -> OutputError:
    """What the user should know of `error`, which came up where `path` was written."""
    # numpy tells a file that could only be written in part without an errno
    if error.errno in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(
            f"{path.name} could not be written completely: the disk is full or a quota is reached. "
            f"Make room in {path.parent} or choose another folder."
        )
    return OutputError(
        f"The folder {path.parent} is not writable ({error.strerror or error}). "
        "Choose another folder or change its permissions."
    )
