"""One file of the several that some models are published as: a zip archive without compression, dates or chance.

The store keeps one file of every model, and a card knows its SHA-256 beforehand: equal parts make equal bytes.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..core.errors import ModelError
from ..core.i18n import tr as _
from ..core.leftovers import temporary_folder
from .files import ZIP_START

MOST_FILES = 100
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time of a zip archive
UNIX, READABLE = 3, 0o644  # whichever system packs it


def pack(paths: Sequence[Path], names: Sequence[str], target: Path) -> None:
    """Put files into a new archive under the given names.

    Raises:
        OSError: if the file cannot be read or written.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path, name in zip(paths, names, strict=True):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = UNIX, READABLE << 16
            archive.writestr(entry, path.read_bytes())


def is_bundle(path: Path) -> bool:
    """Return whether a file is such an archive; one of torch.save has all its entries in a folder."""
    try:
        with path.open("rb") as stream:
            if stream.read(len(ZIP_START)) != ZIP_START:
                return False
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
    return bool(names) and not any("/" in name or "\\" in name for name in names)


@contextmanager
def unpacked(path: Path) -> Iterator[list[Path]]:
    """The files of an archive, in its order, gone afterwards.

    Raises:
        ModelError: for one that is damaged, or whose entries are compressed, many, or named like no plain file.
    """
    with temporary_folder() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                _check(entries, path.stat().st_size)
                for entry in entries:
                    with archive.open(entry) as source, (folder / entry.filename).open("wb") as target:
                        shutil.copyfileobj(source, target)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, OSError) as error:
            raise ModelError(
                _("The weights file {file} is damaged ({reason}). Remove it and download it again.").format(
                    file=path.name, reason=error
                )
            ) from error
        yield [folder / entry.filename for entry in entries]


def _check(entries: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Check the entries of a bundle before any is read.

    Raises:
        zipfile.BadZipFile: for the first that is refused.
    """
    names = [entry.filename for entry in entries]
    if len(names) > MOST_FILES or len({name.casefold() for name in names}) != len(names):
        raise zipfile.BadZipFile(_("it has too many entries, or two with the same name"))
    for entry in entries:
        name = entry.filename
        if name in (".", "..") or not name == PurePosixPath(name).name == PureWindowsPath(name).name:
            raise zipfile.BadZipFile(_("an entry points outside the archive"))
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise zipfile.BadZipFile(_("an entry is compressed or encrypted"))
    if sum(entry.file_size for entry in entries) > size:
        raise zipfile.BadZipFile(_("its entries are larger than the file"))
