"""The frames of a file over time, read one at a time, so that the memory is that of one frame.

Frames that are packed, or whose voxels alternate, are unpacked once into a temporary file, which verifies the checksum
of the whole before any frame is used.
"""

from __future__ import annotations

import math
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..core.atomic_io import output_error
from ..core.errors import IncompleteFileError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.leftovers import new_folder
from ..core.moment import Moment
from .geometry import Geometry
from .headers import no_such_frame

UNPACKED = "frames.raw"


@dataclass(frozen=True)
class FrameLayout:
    """What a file states about its frames, without their voxels.

    Attributes:
        kind: type of the numbers, with their order of bytes.
        blocks: yields the bytes of all numbers.
        moments: of the frames, in their order.
        inner: how many numbers of a frame follow each other before the next frame's; 0 where each frame is whole.
        plain: byte at which the frames begin in the file itself, where they are neither packed nor alternate.
        scaled: makes values of the numbers [k, j, i] as they are stored.
        facts: what was done to find the place.
    """

    path: Path
    geometry: Geometry
    kind: np.dtype
    blocks: Callable[[], Iterator[bytes]]
    moments: tuple[Moment, ...]
    inner: int = 0
    plain: int | None = None
    scaled: Callable[[np.ndarray], np.ndarray] = lambda voxels: voxels.astype(
        voxels.dtype.newbyteorder("="), copy=False
    )
    notices: tuple[Message, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return math.prod(self.geometry.shape) * self.kind.itemsize


class FrameFile(AbstractContextManager["FrameFile"]):
    """Reads single frames; close it to remove what was unpacked."""

    def __init__(self, layout: FrameLayout) -> None:
        self.layout = layout
        self._folder: Path | None = None
        self._remove: weakref.finalize[..., FrameFile] | None = None  # what was unpacked, at the end of the program too

    def read(self, number: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the voxels [k, j, i] of a frame by its number from 1, and facts for the provenance.

        Raises:
            InputError: if there is no such frame, or the file ends before it or is damaged.
            OutputError: if there is no room to unpack the file.
            OSError: if the file cannot be read.
        """
        layout, size = self.layout, self.layout.frame_bytes
        if not 1 <= number <= len(layout.moments):
            raise no_such_frame(layout.path.name, number, len(layout.moments))
        path, start = (layout.path, layout.plain) if layout.plain is not None else (self._unpacked(), 0)
        with path.open("rb") as stream:
            stream.seek(start + (number - 1) * size)
            content = stream.read(size)
        if len(content) < size:
            raise IncompleteFileError(
                _(
                    "Frame {number} of {file} is missing because the file ends before it. Copy or download it again."
                ).format(number=number, file=layout.path.name)
            )
        voxels = layout.scaled(np.frombuffer(content, layout.kind).reshape(layout.geometry.shape))
        return voxels, layout.facts | {"frame": asdict(layout.moments[number - 1])}

    def close(self) -> None:
        """Remove what was unpacked."""
        if self._remove is not None:
            self._remove()
        self._folder = self._remove = None

    def __exit__(self, *_error: object) -> None:
        """Close the file."""
        self.close()

    def _unpacked(self) -> Path:
        """Return a file with the frames one after the other, made at the first call."""
        if self._folder is None:
            folder = new_folder()
            try:
                with (folder / UNPACKED).open("wb") as target:
                    self._unpack(target)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                if error.filename == str(self.layout.path):
                    raise
                raise output_error(folder / UNPACKED, error) from error
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._folder, self._remove = folder, weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return self._folder / UNPACKED

    def _unpack(self, target: BinaryIO) -> None:
        """Write all frames, as far as the file has them; where they alternate, a file that ends early has none."""
        layout, rest, done = self.layout, b"", 0
        group = len(layout.moments) * layout.inner * layout.kind.itemsize
        try:
            for block in layout.blocks():
                if not layout.inner:
                    target.write(block)
                    continue
                rest += block
                whole = len(rest) - len(rest) % group
                own = np.frombuffer(rest[:whole], np.uint8).reshape(
                    -1, len(layout.moments), group // len(layout.moments)
                )
                for number in range(len(layout.moments)):
                    target.seek(number * layout.frame_bytes + done)
                    target.write(own[:, number].tobytes())
                rest, done = rest[whole:], done + whole // len(layout.moments)
        except IncompleteFileError:
            if layout.inner:
                raise
