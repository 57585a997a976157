"""Names for temporary files that identify their process, so that what a killed program leaves can be removed.

A name holds the computer and the process. Whatever has no such name, to the last letter, belongs to another program.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

FOLDER, PART, IMPORT, REPLACED = "lightseg-", ".lightseg-", ".import-", ".replaced-"  # how such names begin
DAY = 86400.0  # seconds after which what a process of another computer has left counts as abandoned
STILL_ACTIVE = 259  # GetExitCodeProcess of the Windows API, of a process that runs


@contextmanager
def temporary_folder(beginning: str = FOLDER, parent: Path | None = None) -> Iterator[Path]:
    """Create a folder that is removed afterwards, in `parent` or among the temporary files.

    Raises:
        OSError: if the file cannot be read or written.
    """
    folder = new_folder(beginning, parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_folder(beginning: str = FOLDER, parent: Path | None = None) -> Path:
    """Return a new folder for this process, which has to remove it; abandoned ones beside it go.

    Raises:
        OSError: if the file cannot be read or written.
    """
    parent = parent or Path(tempfile.gettempdir())
    remove_abandoned(parent, beginning)
    return Path(tempfile.mkdtemp(prefix=f"{beginning}{_maker()}-", dir=parent))


def part_name(ending: str) -> str:
    """Return the temporary name of a file that is being written; short, for Windows limits the length of paths."""
    return f"{PART}{_maker()}-{uuid.uuid4().hex[:8]}.part{ending}"


def remove_abandoned(folder: Path, *beginnings: str) -> None:
    """Remove what killed programs have left in a folder, of these kinds; what cannot be removed stays."""
    for path in abandoned(folder, *beginnings):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def abandoned(folder: Path, *beginnings: str) -> list[Path]:
    """Return what killed programs of this user have left in a folder: their processes are gone."""
    found: list[Path] = []
    with suppress(OSError), os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.startswith(beginnings) and _is_abandoned(entry)]
    return found


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    """Return whether a file or folder was left by a program that is not running any more."""
    names = {PART: r"[0-9a-f]{8}(?:[0-9a-f]{24})?\.part[.a-z0-9]*"}  # the longer one of earlier versions
    for beginning in (FOLDER, PART, IMPORT, REPLACED):
        rest = names.get(beginning, r"[a-z0-9_]{8}")
        if named := re.fullmatch(rf"{re.escape(beginning)}([0-9a-f]{{12}})-(\d{{1,10}})-{rest}", entry.name):
            break
    else:
        return False
    try:
        if (beginning == PART) == entry.is_dir(follow_symlinks=False) or entry.is_symlink() or not _is_own(entry):
            return False
        if named[1] == _computer():
            return not _runs(int(named[2]))
        return time.time() - _last_change(Path(entry.path)) > DAY
    except OSError:  # it is gone meanwhile, or out of reach
        return False


def _is_own(entry: os.DirEntry[str]) -> bool:
    """Return whether it belongs to this user: temporary folders are shared."""
    return not hasattr(os, "getuid") or entry.stat(follow_symlinks=False).st_uid == os.getuid()


def _last_change(path: Path) -> float:
    """Return the time of the last change of a file, or of a folder and what is in it."""
    paths = [path, *path.iterdir()] if path.is_dir() else [path]
    return max(one.lstat().st_mtime for one in paths)


def _maker() -> str:
    """Return the name of this process on this computer."""
    return f"{_computer()}-{os.getpid()}"


@cache
def _computer() -> str:
    """This computer, or the container on it: where a process has its number."""
    numbers = ""
    with suppress(OSError):
        numbers = str(Path("/proc/self/ns/pid").readlink())
        numbers += Path("/etc/machine-id").read_text(encoding="ascii")  # two computers may have one name
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:12]


def _runs(process: int) -> bool:
    """Return whether a process of this computer has this number; when in doubt, yes."""
    if sys.platform == "win32":
        return _runs_on_windows(process)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _runs_on_windows(process: int) -> bool:
    """Return whether a process with this number runs, by the Windows API."""
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    handle = kernel.OpenProcess(0x1000, False, process)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return bool(kernel.GetLastError() == 5)  # ERROR_ACCESS_DENIED: there is one, of another user
    code = ctypes.c_ulong()
    known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return not known or code.value == STILL_ACTIVE
