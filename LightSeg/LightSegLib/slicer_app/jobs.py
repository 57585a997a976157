"""Work beside the application. A job: nodes in, the worker process, nodes out, and the scene is free meanwhile.

The nodes are read when the job begins and written when it ends, both in the application's main thread; in between a
thread waits for the worker. What the user may do to the scene meanwhile:

- The volume's voxels change: the result is that of the earlier ones, and a notice states it. Its size changes: an
error.
- The volume moves, alone or under another transform: the segments are on its voxels, at their present position.
- The volume is removed: an error, and nothing is written. The output is removed: a new one is made.
- The scene is closed: the job is canceled.
"""

from __future__ import annotations

import queue
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import slicer

from ..core.errors import Canceled, InputError, LightSegError
from ..core.i18n import tr as _
from ..core.packages import torch_failure
from ..core.progress import CancelCallback, Progress, ProgressCallback
from ..imaging.volume import Segmentation
from ..worker.client import Worker
from . import scene
from .request import Request

POLL_MS = 20


class Signal:
    """A signal as in Qt: `signal.connect(receiver)`."""

    def __init__(self) -> None:
        self._receivers: list[Callable[[Any], object]] = []

    def connect(self, receiver: Callable[[Any], object]) -> None:
        """Call `receiver` with every value that is emitted."""
        self._receivers.append(receiver)

    def emit(self, argument: Any) -> None:
        """Call all receivers."""
        for receiver in list(self._receivers):
            receiver(argument)


class Task:
    """Work in a thread; its reports and its end are emitted in the main thread.

    Args:
        progress: signal with a `Progress`.
        finished: signal with the task itself, once, whatever happened; `state` is then "done" (`result` is what the
            work returned), "failed" (`error` is the reason) or "canceled".
        work: called in the thread with a progress and a cancel callback; it may touch neither the scene nor Qt.
    """

    def __init__(self, work: Callable[[ProgressCallback, CancelCallback], Any]) -> None:
        self.progress, self.finished = Signal(), Signal()
        self.state = "running"
        self.result: Any = None
        self.error: LightSegError | None = None
        self._work: Callable[[ProgressCallback, CancelCallback], Any] | None = work
        self._failure: BaseException | None = None
        self._canceled = threading.Event()
        self._reports: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._timer: Any = _timer(self._poll)
        self._thread.start()

    def cancel(self) -> None:
        """End the work as soon as it checks for cancellation; `finished` follows."""
        self._canceled.set()

    def wait(self) -> None:
        """Return when it has finished; the application stays usable meanwhile, and cancels it when it is closed."""
        with canceled_when_closed(self.cancel):
            while self.state == "running":
                slicer.app.processEvents()
                self._thread.join(POLL_MS / 1000)

    def _run(self) -> None:
        """Do the work in the thread, and keep its result or error."""
        assert self._work is not None
        try:
            self.result = self._work(self._reports.put, self._canceled.is_set)
        except BaseException as error:
            self._failure = error

    def _poll(self) -> None:
        """Pass on the thread's reports, in the main thread."""
        # Where the application's event loop keeps the interpreter to itself, this is when the thread has its turn.
        self._thread.join(0.002)
        while not self._reports.empty():
            report = self._reports.get()
            if not self._canceled.is_set():
                self.progress.emit(report)
        if not self._thread.is_alive() and self.state == "running":
            self._finish()

    def _finish(self) -> None:
        """Stop polling and complete the task."""
        self._timer.stop()
        self._timer.timeout.disconnect(self._poll)  # Qt would hold this object, and all it has, for ever
        self._timer = None
        self._work = None
        try:
            if self._canceled.is_set():
                raise Canceled
            if self._failure is not None:
                raise self._failure
            self._complete()
            self.state = "done"
        except Canceled:
            self.state = "canceled"
        except BaseException as error:  # a fault of the program must not leave the window waiting
            self.state, self.error = "failed", stated(error)
        self.finished.emit(self)

    def _complete(self) -> None:
        """Use the result, in the main thread."""


def stated(error: BaseException) -> LightSegError:
    """Return an error as a user meets it: a deliberate one as it is, any other as a fault of the program."""
    deliberate = torch_failure(error) or error
    if isinstance(deliberate, LightSegError):
        return deliberate
    return LightSegError(
        _(
            "LightSeg failed because of an error in the program ({kind}: {reason}). Report it together with the log."
        ).format(kind=type(error).__name__, reason=error)
    )


@contextmanager
def canceled_when_closed(cancel: Callable[[], None]) -> Iterator[None]:
    """Call `cancel` where the application is closed meanwhile.

    It ends only when all that runs in its main thread has returned, and would go on without a window until then. Its
    signal aboutToQuit comes after that.
    """
    slicer.app.lastWindowClosed.connect(cancel)
    try:
        yield
    finally:
        slicer.app.lastWindowClosed.disconnect(cancel)


class Job(Task):
    """A segmentation that runs beside the application.

    When it is done, `segmentationNode` holds the segments, `confidenceNode` the confidence if it was asked for,
    `provenance` and `notices` say how it came about, and `lowConfidenceSlices` lists positions (r, a, s) with their
    confidence. When it has failed, `log` has what the worker wrote.

    Raises at once what `Request.read` raises of nodes that cannot be used.
    """

    def __init__(self, worker: Worker, request: Request) -> None:
        volumes, roi = request.read()
        self.segmentationNode = request.segmentationNode
        self.confidenceNode: Any = None
        self.provenance: dict[str, Any] = {}
        self.notices: list[str] = []
        self.lowConfidenceSlices: list[tuple[tuple[float, float, float], float]] = []
        self._worker = worker
        self._request = request
        self._versions = [(node, _version(node)) for node in request.volumeNodes]
        # The thread has voxels of its own: the user may change those of the scene, or remove them.
        copies = [replace(volume, voxels=volume.voxels.copy()) for volume in volumes]

        def compute(progress: ProgressCallback, canceled: CancelCallback) -> Segmentation:
            return worker.segment(request.model, copies, roi, request.options, progress, canceled)

        self._scene = slicer.mrmlScene
        self._closing = self._scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, lambda *_: self.cancel())
        super().__init__(compute)

    @property
    def roiNode(self) -> Any:
        """The region that limits the work, or None."""
        return self._request.roiNode

    @property
    def log(self) -> str:
        """The log of the worker process, for a problem report."""
        return self._worker.log

    def cancel(self) -> None:
        """End the computation; `finished` follows, and the scene is as it was."""
        super().cancel()
        if self.state == "running":
            self._worker.stop()

    def _finish(self) -> None:
        """Stop observing the scene and complete the job."""
        self._scene.RemoveObserver(self._closing)
        super()._finish()
        self._versions = []

    def _complete(self) -> None:
        """Write the result to the scene.

        Raises:
            InputError: if a volume was removed meanwhile.
        """
        removed = [node for node, _ in self._versions if node.GetScene() is None]
        if removed:
            raise InputError(
                _(
                    "{name} was removed from the scene during the segmentation, so the result was discarded. "
                    "Load it and segment it again."
                ).format(name=removed[0].GetName())
            )
        segmentation: Segmentation = self._request.on_volume(self.result)
        self.provenance, self.notices = segmentation.provenance, segmentation.provenance["notices"]
        changed = [node.GetName() for node, version in self._versions if _version(node) != version]
        if changed:
            self.notices.append(
                _(
                    "The voxels of {name} were changed during the segmentation; "
                    "the result is based on the earlier voxels."
                ).format(name=changed[0])
            )
        self.segmentationNode = self._request.write(segmentation)
        if segmentation.confidence is not None:
            self.confidenceNode = self.segmentationNode.GetNodeReference(scene.CONFIDENCE_ROLE)
        self.lowConfidenceSlices = [
            (scene.world_position(self._request.volumeNodes[0], index), confidence)
            for *index, confidence in self.provenance.get("low_confidence_slices", [])
        ]
        self.result = None  # the scene has it now


# The one worker of the application, so that window and console find the same model loaded; it is here because the
# module's own file may be loaded anew at any time.
_worker: Worker | None = None
_job: Job | None = None


def start(request: Request) -> Job:
    """Return a `Job` in the application's worker.

    Raises:
        LightSegError: while another one runs, and as `Job` does.
    """
    global _job
    check_free()
    _job = Job(worker(), request)
    return _job


def check_free() -> None:
    """Check that no job runs.

    Raises:
        LightSegError: if one does.
    """
    if running():
        raise LightSegError(_("A segmentation is already running. Wait until it has finished, or cancel it."))


def running() -> bool:
    """Return whether a job runs."""
    return _job is not None and _job.state == "running"


def worker() -> Worker:
    """Return the process that computes."""
    global _worker
    if _worker is None:
        _worker = Worker(interpreter())
    return _worker


def stop() -> None:
    """End the process that waits for the next job; one that works is left alone."""
    if _worker is not None and not running():
        _worker.stop()


def interpreter() -> str:
    """Return the Python for worker processes: Slicer's own, with its libraries, where there is one."""
    return shutil.which("PythonSlicer") or sys.executable


def _version(node: Any) -> int:
    """Changes with the voxels."""
    image = node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None else None
    return scalars.GetMTime() if scalars is not None else 0


def _timer(work: Callable[[], None]) -> Any:
    """Return a Qt timer that calls `work` again and again."""
    import qt

    timer = qt.QTimer()
    timer.timeout.connect(work)
    timer.start(POLL_MS)
    return timer
