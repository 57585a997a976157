"""What runs on the workers of a Dask cluster: cases, each in the process that a worker keeps for them."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import Any

from .. import __version__
from ..core import i18n
from ..core.errors import Canceled, DeviceError, LightSegError
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, Progress
from ..worker import messages
from ..worker.client import Worker

CLOSING_STATES = ("closing", "closed", "failed", "stopping")  # states of a worker that takes its process along
NOTICE = 1.0  # seconds between two words of one worker


def version() -> str:
    """Return the version of this package in the process that is asked."""
    return __version__


def dask_teardown(worker: Any) -> None:
    """Called by Dask at the end of a worker of a cluster of our own, whose process would outlive it."""
    with _slots_lock:
        slot = _slots.pop(worker.address, None)
    if slot is not None and slot.process is not None:
        slot.process.stop()


class CannotTakePart(DeviceError):
    """A worker that does not compute as the others do."""


class _WorkerSlot:
    """The process of one worker, which does one case at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.handler: tuple[str, str] | None = None
        self.process: Worker | None = None
        self._backends: set[tuple[Any, ...]] = set()  # in which this computer is known to compute, with the settings

    def backend(
        self, handler: tuple[str, str], batch: dict[str, Any], address: str, unwanted: CancelCallback | None = None
    ) -> str:
        """Return the backend of the batch; choose it here if it is not chosen yet.

        Raises:
            DeviceError: if this computer does not have it.
        """
        options = batch["settings"]["options"]
        known = (handler, options["device"], options["openvino"])
        if (*known, batch["backend"]) in self._backends:
            return str(batch["backend"])
        process = self.process_for(handler)
        try:
            backend = process.request(
                lambda _folder: {"batch": batch}, lambda answer: str(answer["backend"]), None, unwanted
            )
        except Canceled:
            raise
        except LightSegError as error:
            if process.pid is None:  # it has died, which another may not
                raise
            refused = _("The worker {address} cannot take part. {reason}")
            raise CannotTakePart(refused.format(address=address, reason=error)) from None
        self._backends.add((*known, backend))
        return backend

    def process_for(self, handler: tuple[str, str]) -> Worker:
        """Return the process that runs a handler; one of another handler is stopped."""
        if self.process is None or self.handler != handler:
            if self.process is not None:
                self.process.stop()
            self.process, self.handler = Worker(handler=handler), handler
        return self.process


_slots: dict[str, _WorkerSlot] = {}  # by the workers' addresses, for one process may hold several
_slots_lock = threading.Lock()


def do(chunk: list[dict[str, Any]], handler: tuple[str, str], topic: str, wanted: str) -> list[dict[str, Any]]:
    """Cases on a worker of the cluster: what its process answers to each, or why it gave none; fewer when canceled."""
    from distributed import get_worker

    if wanted != __version__:
        raise RuntimeError(__version__)
    worker = get_worker()
    key = worker.get_current_task()
    reported = 0.0

    def unwanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state != "executing" or worker.status.name in CLOSING_STATES

    def report(case: str, progress: Progress) -> None:
        nonlocal reported
        if time.monotonic() > reported + NOTICE:
            reported = time.monotonic()
            worker.log_event(topic, {"case": case, "worker": worker.address, "progress": i18n.dumps(vars(progress))})

    # The worker's nanny sets it; each large array would be new memory from the system, at half the speed.
    os.environ.pop("MALLOC_TRIM_THRESHOLD_", None)
    with _slots_lock:
        slot = _slots.setdefault(worker.address, _WorkerSlot())
    answers = []
    with slot.lock:
        for message in chunk:
            case = message["case"]["id"]
            job = message if message["threads"] else message | {"threads": worker.state.nthreads}
            try:
                slot.backend(handler, message["batch"], worker.address, unwanted)
                response = slot.process_for(handler).request(
                    partial(_unchanged, job), dict, partial(report, case), unwanted
                )
            except Canceled:
                break
            except CannotTakePart:
                raise
            except LightSegError as error:
                response = messages.error_message(error)
            answers.append(response)
    return answers


def backend(message: dict[str, Any], handler: tuple[str, str], wanted: str) -> str:
    """Return the backend of a batch, decided by the process of a worker of the cluster."""
    from distributed import get_worker

    if wanted != __version__:
        raise RuntimeError(__version__)
    address = get_worker().address
    with _slots_lock:
        slot = _slots.setdefault(address, _WorkerSlot())
    with slot.lock:
        return slot.backend(handler, message["batch"], address)


def _unchanged(job: dict[str, Any], _folder: object) -> dict[str, Any]:
    """Return the job as it is: its files are on a shared disk."""
    return job
