"""Many cases at a time on the workers of a Dask cluster, each of which keeps the model loaded in a process of its own.

The client sends a parcel of cases to each worker and the next when that is done, so its memory and the scheduler's
stay flat however many there are. Input, results and this package are found under the same paths and names on all
computers. A case is computed only as long as a client wants it: what a client,
a scheduler or a worker was at when it was lost is not finished behind the back of the next.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import time
import uuid
from collections.abc import Collection, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..core import i18n
from ..core.errors import Canceled, DeviceError, InputError, LightSegError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, Progress
from ..worker import messages
from . import cluster_worker
from .case import Case
from .engine import Engine
from .progress import BatchProgress
from .settings import Batch
from .tasks import Answer, Task, Tasks
from .worker_limit import WorkerLimit

if TYPE_CHECKING:
    from distributed import Client, Future, SpecCluster

AHEAD = 2  # parcels of cases for each worker: the next waits there for the one before
CHUNK_SECONDS = 0.5  # seconds that one shall take; to a worker and back it is some hundredths
LARGEST_CHUNK = 100  # cases
CONNECTING = 10.0  # seconds of one attempt to reach the scheduler
PATIENCE = 600.0  # seconds that a scheduler may be away
# Raised when the connection breaks; before Python 3.11 asyncio has a TimeoutError of its own, which distributed raises.
LOST = (OSError, TimeoutError, asyncio.TimeoutError, CancelledError)
NOTICE = 1.0  # seconds between two looks at the cluster


def run(
    cases: Iterable[Case],
    batch: Batch,
    engine: Engine,
    limit: WorkerLimit,
    batch_progress: BatchProgress,
    canceled: CancelCallback | None = None,
) -> Generator[Answer, None, None]:
    """Segment the cases like `local.run`, on a Dask cluster.

    Without the address of a scheduler, a cluster is started on this computer.

    Raises, too, InputError where distributed is not installed or no scheduler answers, and DeviceError where its
    workers lack this version of LightSeg or it stays away for more than `PATIENCE`.
    """
    _check_installed()
    tasks = Tasks(cases, batch)
    patience = 0.0
    own_cluster: AbstractContextManager[SpecCluster | None] = nullcontext() if engine.scheduler else _own_cluster(limit)
    with own_cluster as own:
        address = engine.scheduler or (own.scheduler_address if own else "")
        while True:
            with _connected(address, patience, batch_progress, canceled) as client:
                session = _Session(_Cluster(client, own, engine.handler), tasks, batch, limit, batch_progress)
                try:
                    batch = session.decide(canceled)
                    yield from session.run(canceled)
                    return
                except _SchedulerLost:
                    tasks.give_back(chain(*session.running.values()))
                    patience = PATIENCE


def count_workers(scheduler: str) -> int:
    """Return the number of workers of the cluster now.

    Raises:
        InputError: as `run`.
        DeviceError: as `run`.
    """
    _check_installed()
    with _connected(scheduler, 0.0, BatchProgress(0), None) as client:
        return len(client.nthreads())


def _check_installed() -> None:
    """Check that the package distributed is installed.

    Raises:
        InputError: if it is not.
    """
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise InputError(
            _("The engine dask needs the Python package distributed. Install it with: pip install distributed.")
        ) from error


class _SchedulerLost(Exception):
    """The connection broke, and the state of the submitted cases is unknown."""


@dataclass(frozen=True)
class _Cluster:
    """A client of its scheduler; the cluster itself where it was started here; the class of the workers."""

    client: Client
    own: SpecCluster | None
    handler: tuple[str, str]


class _Session:
    """A connection to a scheduler."""

    def __init__(
        self,
        cluster: _Cluster,
        tasks: Tasks,
        batch: Batch,
        limit: WorkerLimit,
        batch_progress: BatchProgress,
    ) -> None:
        self.running: dict[Future, list[Task]] = {}
        self._client, self._own, self._handler = cluster.client, cluster.own, cluster.handler
        self._tasks, self._batch, self._limit, self._batch_progress = tasks, batch, limit, batch_progress
        self._topic = f"lightseg-{uuid.uuid4().hex}"
        self._numbers: dict[str, int] = {}  # of workers, by their addresses
        self._looked = 0.0
        self._answers, self._seconds = 0, 0.0  # that all of them took
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def decide(self, canceled: CancelCallback | None) -> Batch:
        """Return the batch with its backend: that of all workers, or float32 if they differ.

        Each worker is asked by a future that no other may take. The scheduler keeps that of a worker that is lost for
        ever, so it is dropped, and the others decide; where all are lost, those that come next are asked.
        """
        if self._batch.backend:
            return self._batch
        message = {"batch": self._batch.to_json()}
        asked: dict[str, Future] = {}  # by the workers' addresses
        while not asked or not all(future.done() for future in asked.values()):
            self._look("Waiting until the workers have loaded the model")
            if canceled is not None and canceled():
                raise Canceled
            if self._client.status != "running":
                raise _SchedulerLost
            workers = self._workers()
            asked = {worker: future for worker, future in asked.items() if worker in workers} or {
                worker: self._client.submit(
                    cluster_worker.backend, message, self._handler, __version__, workers=[worker], pure=False
                )
                for worker in workers
            }
            time.sleep(0.05)
        self._batch_progress.waiting("")
        found = set()
        for future in asked.values():
            error, backend = _outcome(future, CONNECTING)  # its worker may be lost just now
            if error is not None:
                raise error if isinstance(error, LightSegError) else _another_version(_("A part of the cluster"), error)
            found.add(backend)
        self._batch = replace(self._batch, backend=found.pop() if len(found) == 1 else "float32")
        return self._batch

    def run(self, canceled: CancelCallback | None) -> Iterator[Answer]:
        """Yield the answers of all cases as they come."""
        self._client.subscribe_topic(self._topic, self._events.put)
        try:
            while True:
                self._look()
                while len(self.running) < AHEAD * self._limit.workers and (chunk := self._next_chunk()):
                    self._submit(chunk)
                if not self.running and (task := self._tasks.alone()) is not None:
                    self._submit([task])
                if not self.running:
                    return
                event = None
                with suppress(queue.Empty):
                    event = self._events.get(timeout=0.1)
                if canceled is not None and canceled():
                    raise Canceled
                if self._client.status != "running":
                    raise _SchedulerLost
                if isinstance(event, tuple):
                    self._report(event[1])
                elif event is not None:
                    yield from self._learned(self._finished(event))
        finally:
            for task in self._tasks_running():
                self._batch_progress.idle(task.case.id)
            with suppress(*LOST):
                self._client.cancel(list(self.running), force=True)

    def _look(self, waiting: str = "") -> None:
        """How many workers there are; of an own cluster, how many there shall be.

        Args:
            waiting: for what the batch waits although there are workers.
        """
        if self._own is not None:
            if len(self._own.worker_spec) != self._limit.workers:
                self._own.scale(self._limit.workers)
        elif time.monotonic() > self._looked + NOTICE:
            self._looked = time.monotonic()
            found = len(self._workers())
            self._limit.workers = max(1, min(found, self._limit.fixed or found))
            self._batch_progress.waiting(waiting if found else "Waiting for workers of the cluster")

    def _workers(self) -> Collection[str]:
        """Return the addresses of the workers that the scheduler has now.

        Raises:
            _SchedulerLost: if it does not answer.
        """
        try:
            workers: dict[str, int] = self._client.nthreads()
        except LOST as error:
            raise _SchedulerLost from error
        return workers

    def _next_chunk(self) -> list[Task]:
        """Return the tasks that one future shall do, about `CHUNK_SECONDS` of work."""
        number = int(CHUNK_SECONDS * self._answers / max(self._seconds, 1e-3))
        return list(islice(iter(self._tasks.fresh, None), min(max(1, number), LARGEST_CHUNK)))

    def _submit(self, chunk: list[Task]) -> None:
        """Send a chunk of tasks to the cluster."""
        threads = self._limit.fixed_threads if self._own is None else self._limit.threads
        future = self._client.submit(
            cluster_worker.do,
            [task.message(self._batch, threads) for task in chunk],
            self._handler,
            self._topic,
            __version__,
            key=f"lightseg-{uuid.uuid4().hex}",
            pure=False,
        )
        self.running[future] = chunk
        future.add_done_callback(self._events.put)

    def _report(self, response: dict[str, Any]) -> None:
        """Show the progress that a worker reported for its case."""
        if any(task.case.id == response["case"] for task in self._tasks_running()):
            number = self._numbers.setdefault(response["worker"], len(self._numbers) + 1)
            self._batch_progress.working(number, response["case"], Progress(**i18n.loads(response["progress"])))

    def _finished(self, future: Future) -> Iterator[Answer]:
        """Yield the answers of a parcel; the cases that are tried again have none."""
        from distributed.scheduler import KilledWorker

        error, response = _outcome(future)
        chunk = self.running.pop(future)
        for task in chunk:
            self._batch_progress.idle(task.case.id)
        if isinstance(error, KilledWorker):
            lost = DeviceError(
                _("The cluster workers that computed this case were lost. See their logs for the reason.")
            )
            alone = len(chunk) == 1 and not self.running
            crashes = error.allowed_failures + 1 if alone else 1  # else it may have been another's fault
            for task in chunk:
                yield from self._failed(task, lost, crashes)
            return
        if isinstance(error, cluster_worker.CannotTakePart):
            raise error
        if error is not None:  # its process reports what is wrong with a case
            raise _another_version(_("A part of the cluster"), error)
        self._tasks.give_back(chunk[len(response) :])
        for task, message in zip(chunk, response, strict=False):
            if "error" in message:
                yield from self._failed(task, messages.error_of(message))
            else:
                yield Answer.of(message)

    def _tasks_running(self) -> Iterator[Task]:
        """Yield the tasks that the cluster has."""
        return chain.from_iterable(self.running.values())

    def _failed(self, task: Task, error: LightSegError, crashes: int = 1) -> Iterator[Answer]:
        """Yield the answer for a task that is given up; a task that is tried again has none."""
        found = self._tasks.failed(task, error, crashes)
        if found is not None:
            yield found

    def _learned(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        """Yield the answers; adapt chunk size, and the size of an own cluster, to what they took."""
        for found in answers:
            self._answers += 1
            self._seconds += 0 if found.skipped else found.row.seconds
            if self._own is not None:
                self._limit.learn(found)
            yield found


def _outcome(future: Future, timeout: float | None = None) -> tuple[BaseException | None, Any]:
    """Return a future's error or its value, which comes from its worker within `timeout` seconds."""
    try:
        if future.status in ("cancelled", "lost"):
            raise _SchedulerLost
        error = future.exception(timeout)
        return error, None if error is not None else future.result(timeout)
    except LOST as lost:
        raise _SchedulerLost from lost


@contextmanager
def _own_cluster(limit: WorkerLimit) -> Iterator[SpecCluster]:
    """Start a cluster in this process, reached from no other: a scheduler runs any code for anyone who reaches it.

    Scheduler and workers are threads that talk in memory (inproc). Encrypted sockets would need the package
    cryptography, and processes would be started as the workers' own ones are, only without their safe path; what
    computes has a process of its own anyhow.
    """
    import dask
    from distributed import Scheduler, SpecCluster, Worker

    class SilentScheduler(Scheduler):
        def start_http_server(self, *_: object, **__: object) -> None:
            """No page about itself, which it would offer on all networks, even without a dashboard."""

    class SilentWorker(Worker):
        def start_http_server(self, *_: object, **__: object) -> None:
            """As above."""

    settings = {
        "distributed.scheduler.allowed-failures": 0,  # `Tasks` counts
        "distributed.worker.preload": [cluster_worker.__name__],  # for `dask_teardown`
        # What Dask observes of itself takes a tenth of the time from workers that share the cores with it.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.system-monitor.interval": "10s",
    }
    # The memory is that of the workers' own processes.
    worker = {"cls": SilentWorker, "options": {"nthreads": 1, "memory_limit": 0, "dashboard": False}}
    with (
        dask.config.set(settings),
        SpecCluster(
            workers=dict.fromkeys(range(limit.workers), worker),
            worker=worker,
            scheduler={"cls": SilentScheduler, "options": {"protocol": "inproc://", "dashboard": False}},
            silence_logs=logging.CRITICAL + 1,
        ) as cluster,
    ):
        yield cluster


@contextmanager
def _connected(
    address: str, patience: float, batch_progress: BatchProgress, canceled: CancelCallback | None
) -> Iterator[Client]:
    """A client of a scheduler whose workers have this package."""
    until = time.monotonic() + patience
    batch_progress.waiting(f"Waiting for the scheduler at {address}" if patience else "")
    while (client := _client(address)) is None:
        if time.monotonic() > until:
            raise InputError(
                _(
                    "No Dask scheduler responds at {address}. Start one, or check the address; finished cases are kept."
                ).format(address=address)
            )
        if canceled is not None and canceled():
            raise Canceled
        time.sleep(NOTICE)
    batch_progress.waiting("")
    try:
        yield client
    finally:
        client.close(timeout=CONNECTING)


def _client(address: str) -> Client | None:
    """Return None where no scheduler answers."""
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECTING, set_as_default=False)
    except (*LOST, ValueError):
        return None
    try:
        found = client.run_on_scheduler(cluster_worker.version)
        if found != __version__:
            raise _another_version(_("The scheduler"), found)
        for worker, version in client.run(cluster_worker.version, on_error="return").items():
            if version != __version__ and not isinstance(version, OSError):  # of a worker that is about to go
                raise _another_version(_("The worker {address}").format(address=worker), version)
    except Exception as error:
        client.close(timeout=CONNECTING)
        if isinstance(error, LOST):
            return None
        raise error if isinstance(error, LightSegError) else _another_version(_("The scheduler"), error) from error
    return client


def _another_version(who: Message, found: object) -> DeviceError:
    """Return the error for a part of the cluster without this version of LightSeg."""
    first = next(iter(str(found).splitlines()), type(found).__name__)
    return DeviceError(
        _(
            "{who} does not have LightSeg {version} installed ({reason}). "
            "Install the same version for the scheduler and all workers of the cluster, then start again."
        ).format(who=who, version=__version__, reason=first)
    )
