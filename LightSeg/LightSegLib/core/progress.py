"""Progress of a running job, and its cancellation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import Canceled
from .i18n import Message


@dataclass(frozen=True)
class Progress:
    """One report: the step by name, tiles finished out of tiles (0 where a step has none), seconds left if known.

    While a file is downloaded: bytes received, bytes in all (0 if unknown) and bytes per second.
    """

    step: Message
    tile: int = 0
    tiles: int = 0
    seconds_left: float | None = None
    received: int = 0
    size: int = 0
    bytes_per_second: float = 0.0

    def text(self) -> str:
        """Return the report as one line."""
        parts = [f"{self.step} {self.tile}/{self.tiles}" if self.tiles else self.step]
        if self.received:
            total = f" of {self.size / 1e6:.1f}" if self.size else ""
            parts.append(f"{self.received / 1e6:.1f}{total} MB, {self.bytes_per_second / 1e6:.1f} MB/s")
        if self.seconds_left:
            parts.append(f"{self.seconds_left:.0f} s left")
        return ", ".join(parts)


ProgressCallback = Callable[[Progress], None]
CancelCallback = Callable[[], bool]


class Reporter:
    """Passes reports on and raises Canceled as soon as the user asks for it."""

    def __init__(self, progress: ProgressCallback | None = None, canceled: CancelCallback | None = None) -> None:
        self._progress = progress
        self._canceled = canceled
        self._started = time.monotonic()

    def step(self, name: Message) -> None:
        """A new step begins."""
        self._started = time.monotonic()
        self._report(Progress(name))

    def tile(self, name: Message, finished: int, total: int) -> None:
        """`finished` of `total` tiles of this step are done."""
        elapsed = time.monotonic() - self._started
        left = elapsed / finished * (total - finished) if finished else None
        self._report(Progress(name, finished, total, left))

    def transfer(self, name: Message, received: int, size: int, bytes_per_second: float) -> None:
        """`received` of `size` bytes (0 if unknown) of a file have arrived."""
        left = (size - received) / bytes_per_second if size and bytes_per_second > 0 else None
        self._report(Progress(name, seconds_left=left, received=received, size=size, bytes_per_second=bytes_per_second))

    def check_canceled(self) -> None:
        """Stop here if the user has canceled.

        Raises:
            Canceled: if the user has asked for it.
        """
        if self._canceled is not None and self._canceled():
            raise Canceled

    def _report(self, progress: Progress) -> None:
        """Report progress, unless the user has canceled."""
        self.check_canceled()
        if self._progress is not None:
            self._progress(progress)
