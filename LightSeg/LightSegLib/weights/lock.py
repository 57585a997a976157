"""One at a time: a lock between threads and processes that the system releases when its owner dies."""

from __future__ import annotations

import hashlib
import os
import stat
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
def locked(path: Path, reporter: Reporter, what: str, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of the file `path`, which is created and stays.

    `what` is at work, for messages.

    Where the file cannot be locked, as on some network disks, the lock is one in this computer's temporary folder; two
    computers may then do the same at once. Yields whether other computers see the lock, too.

    Raises:
        InputError: if another LightSeg holds it and `wait` is False.
        Canceled: while waiting.
        OSError: for a folder that cannot be written.
    """
    descriptor, held, everywhere = _open(path)
    try:
        if not held and not wait:
            raise InputError(
                _("Another LightSeg process is using {what}. Wait until it has finished, or cancel it.").format(
                    what=what
                )
            )
        if not held:
            reporter.step(_("Waiting for another LightSeg process that is using {what}").format(what=what))
        while not held:
            reporter.check_canceled()
            time.sleep(POLL)
            held = _try_lock(descriptor)
        yield everywhere
    finally:
        os.close(descriptor)  # which unlocks


def _open(path: Path) -> tuple[int, bool, bool]:
    """Descriptor of an open lock file, whether its lock was free and is now held, and whether others see it."""
    try:
        descriptor = _open_to_write(path)
    except PermissionError as error:  # perhaps a colleague's, in a folder that both may write to
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            raise error from None
    try:
        return descriptor, _try_lock(descriptor), True
    except OSError:
        os.close(descriptor)
    no_link = getattr(os, "O_NOFOLLOW", 0)  # the temporary folder is shared, and the name can be guessed
    descriptor = os.open(_local_path(path), os.O_RDWR | os.O_CREAT | no_link, 0o600)
    return descriptor, _try_lock(descriptor), False


def _open_to_write(path: Path) -> int:
    """Descriptor of the lock file; a new one can be written by all who can write to its folder."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.open(path, os.O_RDWR)
    _share(descriptor, path.parent)
    return descriptor


def _local_path(path: Path) -> Path:
    """Return the path of a lock in the temporary folder, for `path` and this user alone."""
    user = os.getuid() if hasattr(os, "getuid") else Path.home()
    name = hashlib.sha256(f"{user} {path.resolve()}".encode()).hexdigest()
    return Path(tempfile.gettempdir()) / f"lightseg-{name[:24]}.lock"


if sys.platform == "win32":
    import msvcrt

    def _share(descriptor: int, folder: Path) -> None:
        """Do nothing: a file has the permissions of its folder."""

    def _try_lock(descriptor: int) -> bool:
        """Return whether the lock was free.

        Raises:
            OSError: if the file cannot be locked.
        """
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _share(descriptor: int, folder: Path) -> None:
        """Let all who may write to the folder write to a new file of ours, too, whatever the umask.

        Linux's NFS client does not lock a file that is only open for reading.
        """
        rules = folder.stat()
        with suppress(OSError):  # we are not in the group of the folder
            os.fchown(descriptor, -1, rules.st_gid)
        own = os.fstat(descriptor)
        writers = rules.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if own.st_gid == rules.st_gid else 0))
        with suppress(OSError):  # a disk without permissions
            os.fchmod(descriptor, stat.S_IMODE(own.st_mode) | writers | writers << 1)  # to write and to read

    def _try_lock(descriptor: int) -> bool:
        """Return whether the lock was free.

        Raises:
            OSError: if the file cannot be locked.
        """
        try:
            # flock belongs to the open file, not to the process, so it also keeps two threads apart.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
