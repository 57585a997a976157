"""A case: the images that belong together, and what was found that is none."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.i18n import tr as _
from ..core.moment import Moment
from ..imaging.detached import voxel_files
from ..imaging.dicom.files import files_below, files_of_series, is_dicom
from ..imaging.readers import missing, read_volume
from ..imaging.volume import Volume

BLOCK = 1 << 20


@dataclass(frozen=True)
class Source:
    """One image: a file, a folder with one DICOM series, or the files of a series in slice order.

    Attributes:
        part: which volume of a DICOM series that holds several, as `dicom.series.Stack` calls it.
        frame: which of an image over time, by its number from 1.
    """

    paths: tuple[Path, ...]
    part: str = ""
    frame: int | None = None

    def read(self, allow_gaps: bool = False) -> Volume:
        """Read the volume.

        Raises:
            InputError: as `read_volume`.
        """
        first, *others = self.paths
        place, files = (first.parent, self.paths) if others else (first, ())
        return read_volume(place, files, self.part, allow_gaps, self.frame)

    @property
    def where(self) -> str:
        """The file, or the folders of the files."""
        places = dict.fromkeys(path.parent for path in self.paths) if len(self.paths) > 1 else self.paths
        return ", ".join(map(str, places))

    def files(self) -> list[Path]:
        """Return all files that the image depends on, whether they exist or not.

        Raises:
            OSError: if the file cannot be read or written.
            InputError: of a header.
        """
        first, *others = self.paths
        if others:
            return list(self.paths)
        if first.is_dir():
            return list(files_below(first))
        _check_ends(first)
        if is_dicom(first):
            return files_of_series(first)
        return [first, *voxel_files(first)]


@dataclass(frozen=True)
class Case:
    """One case of a batch.

    Attributes:
        id: unique, and fit for a file name.
        channels: one source for each channel of the model.
        series: unique name of the series over time of which the case is a frame, if any.
        moment: which frame of it.
        series_id: what identifies the series, where the hash of the case does not: its frames are files of their own.
    """

    id: str
    channels: tuple[Source, ...]
    series: str = ""
    moment: Moment | None = None
    series_id: str = ""

    @property
    def where(self) -> str:
        """The files, or the folders of a series, of each channel."""
        return printable("; ".join(source.where for source in self.channels))

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes of all files.

        Raises:
            InputError: for one that cannot be read.
        """
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
                raise InputError(
                    _("{where!r} is not a valid path ({reason}). Check the spelling.").format(
                        where=self.where, reason=error
                    )
                ) from error
            except FileNotFoundError as error:
                raise missing(Path(error.filename)) from error
            except OSError as error:
                raise InputError(
                    _("{file} cannot be read ({reason}). Check its permissions.").format(
                        file=error.filename, reason=error.strerror
                    )
                ) from error
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the case as a JSON object."""
        channels = [asdict(source) | {"paths": list(map(str, source.paths))} for source in self.channels]
        moment = None if self.moment is None else asdict(self.moment)
        over_time = {"series": self.series, "moment": moment, "series_id": self.series_id}
        return {"id": self.id, "channels": channels} | over_time

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Case:
        """Return the case of a JSON object that `to_json` made."""
        channels = tuple(Source(**one | {"paths": tuple(map(Path, one["paths"]))}) for one in data["channels"])
        moment = None if data["moment"] is None else Moment(**data["moment"])
        return cls(data["id"], channels, data["series"], moment, data["series_id"])


def _check_ends(path: Path) -> None:
    """Check that a file has an end: a pipe or a device may give bytes for ever, or none.

    Raises:
        InputError: for what may give bytes for ever, or none: a pipe, a device.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(
            _("{file} is a pipe, a device or a folder, not a file. Choose an image file.").format(file=path)
        )


@dataclass(frozen=True)
class SkippedInput:
    """An input that is not a case for this model, and why."""

    what: str
    reason: str


def printable(text: str) -> str:
    """Return a path with bytes that are not text replaced, so that it can be printed."""
    return text.encode("utf-8", "backslashreplace").decode()
