"""Progress of a running job, and its cancellation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

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


class Shares:
    """Shows jobs that follow each other, of equal shares, as one: its tiles and the time that is left are those of all.

    What is shown never goes back, whatever a job reports.

    Args:
        progress: takes the reports; None for none.
        count: how many jobs there are.
    """

    def __init__(self, progress: ProgressCallback | None, count: int) -> None:
        self._progress = progress
        self._count = count
        self._started = time.monotonic()
        self._tile, self._tiles = 0, 0  # of all jobs

    def of(
        self, number: int, name: Callable[[Message], Message] = lambda step: step, count: int = 1
    ) -> ProgressCallback | None:
        """Return what takes the reports of a job.

        Args:
            number: of the job, from 0.
            name: gives the name of a step of all jobs for one of this job.
            count: of how many shares it is, this one and those after it.
        """
        if self._progress is None:
            return None
        report = self._progress

        def on_progress(progress: Progress) -> None:
            own = progress.tiles or max(1, self._tiles // self._count)
            self._forward(number * own + (count * progress.tile if progress.tiles else 0), self._count * own)
            step = replace(progress, step=name(progress.step), tile=self._tile, tiles=self._tiles)
            if self._tile and not progress.received:
                elapsed = time.monotonic() - self._started
                step = replace(step, seconds_left=elapsed / self._tile * (self._tiles - self._tile))
            report(step)

        return on_progress

    def _forward(self, tile: int, tiles: int) -> None:
        """Go to a place, unless it is behind the present one."""
        if tile * self._tiles >= self._tile * tiles and (tile or self._tiles):
            self._tile, self._tiles = tile, tiles
