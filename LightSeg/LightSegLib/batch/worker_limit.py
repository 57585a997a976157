"""How many workers this computer takes."""

from __future__ import annotations

from ..core import system
from .records import DONE
from .tasks import Answer

SHARE = 0.9  # of the free memory that the workers may take together


class WorkerLimit:
    """How many workers fit this computer: one until a case has shown what it takes, then by cores and memory.

    Args:
        workers: fixed by the user, or None. `workers` may be set where something else knows better.
        threads: fixed by the user, or None. `workers` may be set where something else knows better.
    """

    def __init__(self, workers: int | None = None, threads: int | None = None) -> None:
        self._cores = system.cores()
        self._free = system.free_memory()
        self.fixed = workers
        self.fixed_threads = threads
        self._peak: float = 0
        self.workers = workers or 1

    @property
    def threads(self) -> int:
        """Threads of each worker; all cores as long as there is one worker."""
        return self.fixed_threads or max(1, self._cores // self.workers)

    def learn(self, answer: Answer) -> None:
        """Set the number of workers by the memory that a case has just taken."""
        known = self._peak > 0
        if self.fixed or answer.skipped or answer.row.status != DONE or not answer.row.peak_mb:
            return
        self._peak = max(self._peak, answer.row.peak_mb * 1e6)
        if answer.row.device != "cpu":  # a graphics card is busy with one
            self.workers = 1
            return
        fitting = self._cores if self._free is None else int(SHARE * self._free / self._peak)
        self.workers = max(1, min(fitting, self.workers if known else self._cores))
