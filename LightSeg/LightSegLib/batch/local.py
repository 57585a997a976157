"""Many cases at a time on this computer, each worker a process that keeps the model loaded.

A worker that dies is replaced; its case comes back after all others and then runs alone, with all the memory, until it
has killed three workers.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from .. import machine
from ..errors import Cancelled, LightSegError
from ..progress import CancelCallback, Progress
from ..worker.client import Worker
from . import records
from .cases import Case
from .overview import Overview
from .records import Row
from .settings import Batch

TRIES = 3
SHARE = 0.9  # of the free memory that the workers may take together
WORK = (f"{__package__}.work", "CaseWork")


@dataclass(frozen=True)
class Answer:
    """row: as it was recorded. skipped: the case was done before. device: where it was computed, if it was."""

    row: Row
    skipped: bool = False
    device: str | None = None


@dataclass(frozen=True)
class Task:
    """One case and how often it has been tried."""

    case: Case
    tried: int = 0


class Size:
    """How many workers fit this computer: one until a case has shown what it takes, then by cores and memory.

    workers, threads: fixed by the user, or None.
    """

    def __init__(self, workers: int | None = None, threads: int | None = None) -> None:
        self._cores = machine.cores()
        self._free = machine.free_memory()
        self._fixed = workers
        self._threads = threads
        self._peak: float = 0
        self.workers = workers or 1

    @property
    def threads(self) -> int:
        """Of each worker; all cores as long as there is one."""
        return self._threads or max(1, self._cores // self.workers)

    def learn(self, answer: Answer) -> None:
        """From what a case has taken."""
        known = self._peak > 0
        self._peak = max(self._peak, (answer.row.peak_mb or 0) * 1e6)
        if self._fixed or not self._peak:
            return
        if answer.device not in (None, "cpu"):  # a graphics card is busy with one
            self.workers = 1
            return
        fitting = self._cores if self._free is None else int(SHARE * self._free / self._peak)
        self.workers = max(1, min(fitting, self.workers if known else self._cores))


@dataclass
class _Pool:
    """The processes, and what runs on them."""

    batch: Batch
    python: str
    work: tuple[str, str]
    overview: Overview
    cancelled: CancelCallback | None
    free: list[tuple[int, Worker]] = field(default_factory=list)
    all: list[Worker] = field(default_factory=list)

    def take(self) -> tuple[int, Worker]:
        """A worker with nothing to do, by its number; a new one where there is none."""
        if self.free:
            return self.free.pop()
        self.all.append(Worker(self.python, work=self.work))
        return len(self.all), self.all[-1]

    def begin(self, task: Task, threads: int) -> Future[Answer]:
        """In a thread that keeps no program from ending."""
        number, worker = self.take()
        future: Future[Answer] = Future()

        def work() -> None:
            try:
                answer = self._do(number, worker, task, threads)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(answer)

        threading.Thread(target=work, daemon=True).start()
        return future

    def _do(self, number: int, worker: Worker, task: Task, threads: int) -> Answer:
        job = {"case": task.case.to_json(), "batch": self.batch.to_json(), "threads": threads}

        def report(progress: Progress) -> None:
            self.overview.working(number, task.case.id, progress)

        def read(answer: dict[str, Any]) -> Answer:
            return Answer(Row(**answer["row"]), answer["skipped"], answer["device"])

        report(Progress("Starting"))
        try:
            return worker.ask(lambda _folder: job, read, report, self.cancelled)
        finally:
            self.overview.idle(number)
            self.free.append((number, worker))

    def stop(self) -> None:
        for worker in self.all:
            worker.stop()


def run(
    cases: Iterable[Case],
    batch: Batch,
    size: Size,
    overview: Overview,
    cancelled: CancelCallback | None = None,
    python: str = sys.executable,
    work: tuple[str, str] = WORK,
) -> Iterator[Answer]:
    """The answers as they come; every case has one. Raises Cancelled, and OutputError where no record can be written.

    python, work: the interpreter and the class of the workers. `cases` is drawn on as workers become free.
    """
    waiting = iter(cases)
    again: deque[Task] = deque()
    running: dict[Future[Answer], Task] = {}
    pool = _Pool(batch, python, work, overview, cancelled)
    try:
        while True:
            while len(running) < size.workers and (case := next(waiting, None)) is not None:
                task = Task(case)
                running[pool.begin(task, size.threads)] = task
            if not running and again:
                task = again.popleft()
                running[pool.begin(task, size.threads)] = task
            if not running:
                return
            done, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
            if cancelled is not None and cancelled():
                raise Cancelled
            for future in done:
                task = running.pop(future)
                try:
                    answer = future.result()
                except Cancelled:
                    raise
                except LightSegError as error:  # the worker died, or could not write what became of the case
                    task = Task(task.case, task.tried + 1)
                    if task.tried < TRIES:
                        again.append(task)
                        continue
                    answer = Answer(_given_up(task, batch, error))
                size.learn(answer)
                yield answer
    finally:
        pool.stop()


def _given_up(task: Task, batch: Batch, error: LightSegError) -> Row:
    row = records.failed(task.case.id, batch, f"Given up after {task.tried} tries. {error}")
    records.write_record(row, batch.out)
    return row
