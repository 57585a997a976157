"""A case: the images that belong together, and what was found that is none."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..imaging.detached import voxel_files
from ..imaging.readers import read_volume
from ..imaging.volume import Volume

BLOCK = 1 << 20


@dataclass(frozen=True)
class Source:
    """One image: a file, a folder with one DICOM series, or the files of a series in the order of its slices."""

    paths: tuple[Path, ...]

    def read(self) -> Volume:
        """Raises InputError as `read_volume`."""
        first, *others = self.paths
        return read_volume(first.parent, self.paths) if others else read_volume(first)

    def files(self) -> list[Path]:
        """All that its content depends on, where they exist or not. Raises OSError, and InputError of a header."""
        first, *others = self.paths
        if others:
            return list(self.paths)
        if first.is_dir():
            return sorted(path for path in first.iterdir() if path.is_file())
        _check_ends(first)
        return [first, *voxel_files(first)]


@dataclass(frozen=True)
class Case:
    """id: unique, and fit for a file name. channels: one source for each channel of the model."""

    id: str
    channels: tuple[Source, ...]

    @property
    def where(self) -> str:
        """The files, or the folder of a series, of each channel."""
        places = (source.paths[0].parent if len(source.paths) > 1 else source.paths[0] for source in self.channels)
        return printable("; ".join(map(str, places)))

    def sha256(self) -> str:
        """Of the bytes of all files. Raises InputError for one that cannot be read."""
        digest = hashlib.sha256()
        for source in self.channels:
            try:
                for path in source.files():
                    _check_ends(path)
                    digest.update(b"file")  # so that bytes that move from one file to the next change it
                    with path.open("rb") as stream:
                        while block := stream.read(BLOCK):
                            digest.update(block)
            except ValueError as error:
                raise InputError(f"{self.where!r} is no path ({error}). Check the spelling.") from error
            except FileNotFoundError as error:
                raise InputError(f"{error.filename} does not exist. Check the path and the spelling.") from error
            except OSError as error:
                raise InputError(
                    f"{error.filename} cannot be read ({error.strerror}). Check its permissions."
                ) from error
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "channels": [[str(path) for path in source.paths] for source in self.channels]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Case:
        return cls(data["id"], tuple(Source(tuple(map(Path, paths))) for paths in data["channels"]))


def _check_ends(path: Path) -> None:
    """Raise InputError for what may give bytes for ever, or none: a pipe, a device."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path} is not a file with an end, but a pipe, a device or a folder. Name an image file.")


@dataclass(frozen=True)
class Misfit:
    """What was found and is no case for this model, and why."""

    what: str
    reason: str


def printable(text: str) -> str:
    """A path as it can be written: names of files may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()
