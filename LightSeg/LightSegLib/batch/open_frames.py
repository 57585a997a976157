"""What a worker keeps of an image over time between two of its frames: the file unpacked, and its hash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..imaging.frame_file import FrameFile
from ..imaging.image_names import is_image
from ..imaging.readers import open_frames, read_frame
from ..imaging.volume import Volume
from .case import Case, Source

Version = tuple[str, int, int]  # of a file: path, bytes and time of the last change


class OpenFrames:
    """Reads cases; the files of the last one stay open where it was a frame of them."""

    def __init__(self) -> None:
        self._files: dict[Version, FrameFile] = {}
        self._hashed: tuple[tuple[Version, ...], str] = ((), "")

    def read(self, channels: Sequence[Source], allow_gaps: bool) -> list[Volume]:
        """Return the volumes of a case.

        Raises as `read_volume` and `read_frame`.
        """
        versions = {source: _version(source.paths[0]) for source in channels if _is_of_file(source)}
        for version in set(self._files) - set(versions.values()):
            self._files.pop(version).close()
        volumes = []
        for source in channels:
            if source not in versions or source.frame is None:
                volumes.append(source.read(allow_gaps))
                continue
            version = versions[source]
            if version not in self._files:
                self._files[version] = open_frames(source.paths[0])
            volumes.append(read_frame(self._files[version], source.frame))
        return volumes

    def sha256(self, case: Case) -> str:
        """Return `Case.sha256`; that of the frames of one file is computed once."""
        if case.moment is None or not all(map(_is_of_file, case.channels)):
            return case.sha256()
        versions = tuple(_version(path) for source in case.channels for path in source.files() if path.is_file())
        if self._hashed[0] != versions:
            self._hashed = (versions, case.sha256())
        return self._hashed[1]


def _is_of_file(source: Source) -> bool:
    """Return whether a source is a frame of an image file, which is not DICOM."""
    return source.frame is not None and is_image(source.paths[0]) and source.paths[0].is_file()


def _version(path: Path) -> Version:
    """Return what changes with a file.

    Raises:
        OSError: if it cannot be read.
    """
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns
