"""Many cases at a time on this computer, each worker a process that keeps the model loaded.

A worker that dies is replaced; what becomes of its case is for `Tasks` to say.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace

from ..core.errors import Canceled, LightSegError
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, Progress
from ..worker.client import Worker
from .case import Case
from .engine import Engine
from .progress import BatchProgress
from .settings import Batch
from .tasks import Answer, Task, Tasks
from .worker_limit import WorkerLimit


@dataclass
class _Pool:
    """The processes, and what runs on them."""

    batch: Batch
    engine: Engine
    batch_progress: BatchProgress
    canceled: CancelCallback | None
    free: list[tuple[int, Worker]] = field(default_factory=list)
    all: list[Worker] = field(default_factory=list)

    def take(self) -> tuple[int, Worker]:
        """Return a worker with nothing to do, by its number; a new one where there is none."""
        if self.free:
            return self.free.pop()
        self.all.append(Worker(self.engine.python, handler=self.engine.handler))
        return len(self.all), self.all[-1]

    def begin(self, task: Task, threads: int) -> Future[Answer]:
        """Start a task in a daemon thread, which does not keep the program from ending."""
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
        """Have a worker do a task, and return its answer."""
        message = task.message(self.batch, threads)

        def report(progress: Progress) -> None:
            self.batch_progress.working(number, task.case.id, progress)

        report(Progress(_("Starting")))
        try:
            return worker.request(lambda _folder: message, Answer.of, report, self.canceled)
        finally:
            self.batch_progress.idle(task.case.id)
            self.free.append((number, worker))

    def decide(self) -> None:
        """Give the batch its backend.

        Raises:
            DeviceError: if this computer lacks the one that an earlier run decided.
        """
        number, worker = self.take()
        answer = worker.request(lambda _folder: {"batch": self.batch.to_json()}, dict, canceled=self.canceled)
        self.batch = replace(self.batch, backend=answer["backend"])
        self.free.append((number, worker))

    def stop(self) -> None:
        """Stop all worker processes."""
        for worker in self.all:
            worker.stop()


def run(
    cases: Iterable[Case],
    batch: Batch,
    engine: Engine,
    limit: WorkerLimit,
    batch_progress: BatchProgress,
    canceled: CancelCallback | None = None,
) -> Generator[Answer, None, None]:
    """Yield the answers as they come; every case has one.

    `cases` is drawn on as workers become free.

    Raises:
        Canceled: if `canceled` returns True.
        OutputError: if no record can be written.
    """
    tasks = Tasks(cases, batch)
    running: dict[Future[Answer], Task] = {}
    pool = _Pool(batch, engine, batch_progress, canceled)
    try:
        if batch.backend != "float32":
            pool.decide()
        while True:
            while len(running) < limit.workers and (task := tasks.fresh()) is not None:
                running[pool.begin(task, limit.threads)] = task
            if not running and (task := tasks.alone()) is not None:
                running[pool.begin(task, limit.threads)] = task
            if not running:
                return
            done, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
            if canceled is not None and canceled():
                raise Canceled
            for future in done:
                task = running.pop(future)
                try:
                    found: Answer | None = future.result()
                except Canceled:
                    raise
                except LightSegError as error:
                    found = tasks.failed(task, error)
                if found is not None:
                    limit.learn(found)
                    yield found
    finally:
        pool.stop()
