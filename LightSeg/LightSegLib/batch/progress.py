"""How far a batch is: as a whole and in each worker, with the time left."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..core.progress import CancelCallback, Progress, ProgressCallback, Reporter


@dataclass(frozen=True)
class BatchState:
    """The state of a batch at one moment.

    Attributes:
        working: what each worker is at, by its number.
        seconds_left: None before one case was done.
        waiting: for what the whole waits, if it does.
    """

    cases: int
    done: int = 0
    skipped: int = 0
    failed: int = 0
    seconds_left: float | None = None
    working: dict[int, tuple[str, Progress]] = field(default_factory=dict)
    waiting: str = ""

    @property
    def finished(self) -> int:
        """Number of cases that need no more work."""
        return self.done + self.skipped + self.failed

    def text(self) -> str:
        """Return the state of the whole batch as one line."""
        words = [f"{self.finished} of {self.cases} cases"]
        words += [
            f"{number} {word}" for number, word in ((self.skipped, "done before"), (self.failed, "failed")) if number
        ]
        if self.seconds_left is not None and self.finished < self.cases:
            words.append(f"{duration(self.seconds_left)} left")
        words += [self.waiting] if self.waiting else []
        return ", ".join(words)

    def lines(self) -> list[str]:
        """Return the state of the whole batch, and a line for each worker."""
        return [self.text()] + [
            f"  {number}: {case}, {progress.text()}" for number, (case, progress) in sorted(self.working.items())
        ]


StateCallback = Callable[[BatchState], None]


@dataclass(frozen=True)
class Callbacks:
    """The functions that a batch calls.

    Attributes:
        progress: of what comes before the first case.
        on_state: of the cases.
        canceled: asked again and again, True stops the batch.
    """

    progress: ProgressCallback | None = None
    on_state: StateCallback | None = None
    canceled: CancelCallback | None = None

    @property
    def reporter(self) -> Reporter:
        """Reporter for the steps before the first case."""
        return Reporter(self.progress, self.canceled)


class BatchProgress:
    """Counts finished cases and reports every change; threads may share it, and reports do not overlap."""

    def __init__(self, cases: int, on_state: StateCallback | None = None) -> None:
        self._on_state = on_state
        self._lock = threading.Lock()
        self._seconds = 0.0  # of the cases that were done, in all workers together
        self.state = BatchState(cases)

    def working(self, number: int, case: str, progress: Progress) -> None:
        """Note what a worker does, by its number."""
        with self._lock:
            self._change(working=self._without(case) | {number: (case, progress)})

    def waiting(self, words: str) -> None:
        """Note what the whole batch waits for; an empty text ends the wait."""
        with self._lock:
            if words != self.state.waiting:
                self._change(waiting=words)

    def idle(self, case: str) -> None:
        """Note that no worker computes the case any more."""
        with self._lock:
            self._change(working=self._without(case))

    def finished(self, status: str, skipped: bool, seconds: float, workers: int) -> None:
        """Count a finished case, and estimate the time left with `workers` workers."""
        with self._lock:
            which = "skipped" if skipped else status
            self.state = replace(self.state, **{which: getattr(self.state, which) + 1})
            if which == "done":
                self._seconds += seconds
            left = self.state.cases - self.state.finished
            computed = self.state.done
            self._change(seconds_left=self._seconds / computed * left / workers if computed else None)

    def _without(self, case: str) -> dict[int, tuple[str, Progress]]:
        """Return what the workers do, except for one case."""
        return {number: what for number, what in self.state.working.items() if what[0] != case}

    def _change(self, **values: object) -> None:
        """Change fields of the state and report it."""
        self.state = replace(self.state, **values)  # type: ignore[arg-type]
        if self._on_state is not None:
            self._on_state(self.state)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(datetime.timedelta(seconds=max(1, round(seconds))))
