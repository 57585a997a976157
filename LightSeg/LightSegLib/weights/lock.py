"""One at a time: a lock between threads and processes that the system releases when its owner dies."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.errors import InputError
from ..core.i18n import tr as _
from ..core.progress import Reporter

POLL = 0.1  # seconds between two attempts


@contextmanager
def locked(path: Path, reporter: Reporter, what: str, wait: bool = True) -> Iterator[None]:
    """Hold the lock of the file `path`, which is created, and removed afterwards.

    `what` is at work, for messages.

    Who gets the lock of a file that its last owner has removed meanwhile takes that of the new file: the lock counts
    only while the name leads to the file that is locked. On Windows a file that another process has open stays.

    On a file system without locks, as some network homes are, the lock is one in this computer's temporary folder; two
    computers may then download the same file at once.

    Raises:
        InputError: if another LightSeg holds it and `wait` is False.
        Canceled: while waiting.
        OSError: for a folder that cannot be written.
    """
    waiting = False
    while (lock := _try(path)) is None:
        if not wait:
            raise InputError(
                _("Another LightSeg process is using {what}. Wait until it has finished, or cancel it.").format(
                    what=what
                )
            )
        if not waiting:
            reporter.step(_("Waiting for another LightSeg process that is using {what}").format(what=what))
            waiting = True
        reporter.check_canceled()
        time.sleep(POLL)
    descriptor, file = lock
    try:
        yield
    finally:
        _remove(file)
        os.close(descriptor)  # which unlocks
        if sys.platform == "win32":
            _remove(file)


def _try(path: Path) -> tuple[int, Path] | None:
    """Return the descriptor and path of a lock file whose lock was free and is now held; None where it was not free."""
    no_link = getattr(os, "O_NOFOLLOW", 0)  # the temporary folder is shared, and the name can be guessed
    for file, flags, mode in ((path, 0, 0o666), (_local_path(path), no_link, 0o600)):
        while True:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | flags, mode)
            try:
                held = _try_lock(descriptor)
            except OSError:
                os.close(descriptor)
                if file != path:
                    raise
                _remove(file)  # which nobody can lock
                break
            if held and _leads_to(file, descriptor):
                return descriptor, file
            os.close(descriptor)
            if not held:
                return None
    return None


def _leads_to(file: Path, descriptor: int) -> bool:
    """Return whether a path is that of an open file, which another process may have removed."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove(file: Path) -> None:
    """Remove a lock file; where that is not possible it stays, which does no harm."""
    with suppress(OSError):
        file.unlink()


def _local_path(path: Path) -> Path:
    """Return the path of a lock in the temporary folder, for `path` and this user alone."""
    user = os.getuid() if hasattr(os, "getuid") else Path.home()
    name = hashlib.sha256(f"{user} {path.resolve()}".encode()).hexdigest()
    return Path(tempfile.gettempdir()) / f"lightseg-{name[:24]}.lock"


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        """Return whether the lock was free.

        Raises:
            OSError: if the file system knows no locks.
        """
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        """Return whether the lock was free.

        Raises:
            OSError: if the file system knows no locks.
        """
        try:
            # flock belongs to the open file, not to the process, so it also keeps two threads apart.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
