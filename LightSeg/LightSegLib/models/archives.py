"""Unpack an untrusted zip or tar.gz file: checked as a whole first, into a folder that always disappears.

Nothing but plain files is taken, and of a tar.gz no more is in memory at once than a block, whatever its headers state.
"""

from __future__ import annotations

import gzip
import math
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.leftovers import temporary_folder
from ..core.progress import Reporter
from ..weights.download import TransferProgress
from ..weights.files import GZIP_START

MOST_FILES = 100_000
MOST_BYTES = 50 * 2**30  # five folds of nnU-Net's largest networks with their optimizers take about half of that
LONGEST_PART, LONGEST_NAME, DEEPEST = 240, 1000, 50  # bytes and folders that every file system takes
SPARE_BYTES = 2**28  # left free on the disk, for what else the computer does meanwhile
BLOCK = 1 << 20
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    ValueError,
    OverflowError,  # of tarfile, for numbers that no header should have
)


@dataclass(frozen=True)
class Entry:
    """One entry of an archive.

    Attributes:
        name: as the archive has it.
        size: in bytes, unpacked.
        refused: what is wrong with it, apart from its name.
    """

    name: str
    size: int
    is_folder: bool
    refused: Message | None = None

    @property
    def path(self) -> PurePosixPath:
        """Path in the archive."""
        return PurePosixPath(self.name)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder with the content of a zip or tar.gz file, gone afterwards.

    Raises:
        InputError: for a file that is damaged, encrypted, too large, or that reaches out of its folder with
            absolute names, "..", or links.
    """
    with temporary_folder() as folder:
        files = files_in(path)
        _check_space(files, path.name, shutil.disk_usage(folder).free)
        try:
            extract(path, files, folder)
        except OSError as error:
            raise InputError(
                _(
                    "{file} could not be unpacked into {folder} ({reason}). Free some space, "
                    "or unpack it elsewhere and use the folder."
                ).format(file=path.name, folder=folder.parent, reason=error.strerror or error)
            ) from error
        yield folder


def files_in(path: Path, reporter: Reporter | None = None) -> list[Entry]:
    """Return the files of an archive, of which all entries are safe to be unpacked.

    Raises:
        InputError: for an archive that is damaged, or has an entry that is refused.
        Canceled: through the reporter.
    """
    entries: list[Entry] = []
    taken: dict[PurePosixPath, bool] = {}  # whether it is a folder; names that differ in capitals are one for some
    size = 0
    with _readable(path), _opened(path, reporter or Reporter()) as archive:
        for entry in archive.entries():
            if trouble := _trouble(entry) or _collision(entry, taken):
                raise InputError(
                    _(
                        "{name} was not opened because its entry '{entry}' {reason}. If you trust it, "
                        "unpack it yourself and use the folder."
                    ).format(name=path.name, entry=entry.name, reason=trouble)
                )
            entries.append(entry)
            size += entry.size
            if len(entries) > MOST_FILES or size > MOST_BYTES:
                raise InputError(
                    _(
                        "{name} was not opened because it would unpack to at least {count} files with {size:.1f} GB, "
                        "more than any model has. If you trust it, unpack it yourself and use the folder."
                    ).format(name=path.name, count=len(entries), size=size / 1e9)
                )
    return [entry for entry in entries if not entry.is_folder]


def extract(
    path: Path, files: Collection[Entry], folder: Path, title: str = "", reporter: Reporter | None = None
) -> None:
    """Unpack some of the files that `files_in` found, at their paths below `folder`.

    Raises:
        InputError: for an archive that is damaged.
        OSError: if they cannot be written.
        Canceled: through the reporter.
    """
    reporter, wanted = reporter or Reporter(), {entry.name: entry for entry in files}
    transfer = TransferProgress(
        reporter, _("Unpacking {model}").format(model=title), 0, sum(entry.size for entry in files)
    )
    with _readable(path), _opened(path, reporter) as archive:
        for name, stream in archive.streams(set(wanted)):
            target = folder / wanted.pop(name).path
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream, target.open("wb") as copy:
                while block := stream.read(BLOCK):
                    copy.write(block)
                    transfer.add(len(block))
                    reporter.check_canceled()
        if wanted:
            raise ValueError(_("{name} is missing").format(name=next(iter(wanted))))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what readers raise for damaged archives into an InputError."""
    try:
        yield
    except DAMAGED as error:
        raise InputError(
            _("{file} is not a valid zip or tar.gz file ({reason}). Download or copy it again.").format(
                file=path.name, reason=error
            )
        ) from error


# --- the two formats -----------------------------------------------------------------------------


class _Zip:
    """A zip file, whose directory is at its end."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def entries(self) -> Iterator[Entry]:
        """Yield all entries."""
        for info in self._archive.infolist():
            yield Entry(info.filename, info.file_size, info.filename.endswith("/"), _refused(info))

    def streams(self, names: set[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield the named files; never more bytes of one than its entry states."""
        for name in sorted(names):
            yield name, self._archive.open(name)


class _Tar:
    """A tar.gz file, read from its beginning to its end, or as far as is needed."""

    def __init__(self, stream: _Unzipped) -> None:
        self._stream = stream
        self._archive = tarfile.open(fileobj=stream, mode="r:")  # type: ignore[call-overload]  # noqa: SIM115

    def entries(self) -> Iterator[Entry]:
        """Yield all entries, and check the sum at the end of the file."""
        for info in self._archive:
            plain = (info.isreg() and not info.issparse()) or info.isdir()
            if info.size < 0:
                raise tarfile.ReadError(_("a file has a size below 0"))
            yield Entry(info.name, info.size, info.isdir(), None if plain else _("is a link or a device, not a file"))
        while self._stream.read(BLOCK):
            if self._stream.tell() > MOST_BYTES:
                raise tarfile.ReadError(_("it has no end"))

    def streams(self, names: set[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield the named files, in the order of the archive."""
        for info in self._archive:
            if info.name in names and (stream := self._archive.extractfile(info)):
                yield info.name, stream
                names.remove(info.name)
            if not names:
                return


class _Unzipped:
    """What tarfile reads of a gzip file: forwards alone, and little at once, whatever a header states."""

    def __init__(self, stream: IO[bytes], reporter: Reporter) -> None:
        self._stream, self._reporter, self._at = stream, reporter, 0

    def tell(self) -> int:
        """Bytes before the next one."""
        return self._at

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        if not 0 <= size <= BLOCK:
            raise tarfile.ReadError(_("a header has {size} bytes").format(size=size))
        block = self._stream.read(size)
        self._at += len(block)
        return block

    def seek(self, place: int) -> None:
        """Go on to a later place, or to the end."""
        if place < self._at:
            raise tarfile.ReadError(_("its entries overlap"))
        while self._at < place and self.read(min(BLOCK, place - self._at)):
            self._reporter.check_canceled()


@contextmanager
def _opened(path: Path, reporter: Reporter) -> Iterator[_Zip | _Tar]:
    """An archive by its first bytes, not its name."""
    with path.open("rb") as file:
        zipped = not file.read(len(GZIP_START)).startswith(GZIP_START)
        file.seek(0)
        opened: Any = zipfile.ZipFile(file) if zipped else gzip.GzipFile(fileobj=file)
        with opened:
            yield _Zip(opened) if zipped else _Tar(_Unzipped(opened, reporter))


# --- what is refused -----------------------------------------------------------------------------


def _refused(info: zipfile.ZipInfo) -> Message | None:
    """Return what is wrong with an entry of a zip file, apart from its name."""
    if info.flag_bits & 0x1:
        return _("is encrypted")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return _("is a link or a device, not a file")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return _("uses an unsupported compression")
    return None


def _trouble(entry: Entry) -> Message | None:
    """Return what is wrong with an entry; None if nothing is.

    Windows' names count everywhere.
    """
    windows = PureWindowsPath(entry.name)
    if entry.name.startswith(("/", "\\")) or windows.drive:
        return _("has an absolute path")
    if ".." in (*windows.parts, *entry.path.parts):
        return _("points outside the archive")
    if not entry.path.parts and not entry.is_folder:
        return _("has no name")
    sizes = [len(part.encode("utf-8", "replace")) for part in entry.path.parts]
    if max(sizes, default=0) > LONGEST_PART or sum(sizes) > LONGEST_NAME or len(sizes) > DEEPEST:
        return _("has a name that is too long")
    return entry.refused


def _collision(entry: Entry, taken: dict[PurePosixPath, bool]) -> Message | None:
    """Return how an entry collides with those in `taken` before it, or an empty text."""
    path = PurePosixPath(entry.name.casefold())
    if path in taken and not (entry.is_folder and taken[path]):
        return _("occurs twice")
    taken[path] = entry.is_folder
    for parent in path.parents:
        if not taken.setdefault(parent, True):
            return _("has a file as its folder")
    return None


def _check_space(files: Collection[Entry], name: str, free: int) -> None:
    """Check that files have room among the temporary ones.

    Raises:
        InputError: if they have not.
    """
    needed = sum(entry.size for entry in files) + SPARE_BYTES
    if needed > free:
        raise InputError(
            _(
                "{name} needs {needed:,} MB of free space to be unpacked, but {folder} has only {free:,} MB. "
                "Free some space, or unpack it elsewhere and use the folder."
            ).format(
                name=name, needed=math.ceil(needed / 1e6), free=math.floor(free / 1e6), folder=tempfile.gettempdir()
            )
        )
