"""A segmentation of all frames of a sequence beside the application: one job a frame, one frame in memory."""

from __future__ import annotations

import functools
import json
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import slicer

from ..catalog.lookup import find_card
from ..core.errors import InputError, LightSegError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.moment import TRIGGER, grouped, numbers_text
from ..core.progress import Progress
from ..evaluation.heart import heart_function
from . import jobs
from .jobs import Job, Signal, stated
from .request import Request
from .scene import roi_from_node
from .scene.sequences import FrameNodes, check_still, write_course


def start(request: Request) -> SequenceJob:
    """Return a `SequenceJob` in the application's worker.

    Raises:
        LightSegError: while another job runs, and as `SequenceJob` does.
    """
    jobs.check_free()
    return SequenceJob(request)


class SequenceJob:
    """Segments the frames that have no segmentation yet, in their order.

    Its signals, states and attributes are those of `jobs.Job`; `segmentationNode` plays beside the volume, `tableNode`
    has the volumes over time, `done` the frames, from 1, that this job has segmented, `seconds` what their computation
    took, `failures` the frames that have no result, with the reasons. A frame that fails, and cancel, leave the others;
    the same job started again goes on with those that are missing. The job fails where a volume or the browser of its
    sequence is removed; the scene that is closed cancels it.

    Raises at once what `FrameNodes` raises, where no frame can be read, why the first cannot, and for a segmentation,
    a confidence or a region that moves in the request.
    """

    def __init__(self, request: Request) -> None:
        self.progress, self.finished = Signal(), Signal()
        self.state = "running"
        self.error: LightSegError | None = None
        self.segmentationNode: Any = None
        self.confidenceNode: Any = None
        self.tableNode: Any = None
        self.provenance: dict[str, Any] = {}
        self.notices: list[str] = []
        self.lowConfidenceSlices: list[Any] = []
        self.failures: dict[int, LightSegError] = {}
        self.done: list[int] = []
        self.seconds = 0.0
        if request.options.confidence or request.segmentationNode is not None:
            raise InputError(
                _(
                    "All frames of a sequence go to a new sequence of segmentations, without a confidence. "
                    "Give no segmentation and no confidence, or segment a single frame."
                )
            )
        self._request = request
        self._card = find_card(request.model)
        roi = None if request.roiNode is None else roi_from_node(request.roiNode)
        if roi is not None:
            check_still(request.roiNode)
        run = {
            "model": request.model,
            "version": self._card.version,
            "options": self._request.options.to_json(),
            "side": request.side,
            "roi": None if roi is None else roi.corners.tolist(),
        }
        self.frames = FrameNodes(request.volumeNodes, self._card.title, json.dumps(run, sort_keys=True))
        self._left = self.frames.missing()
        self._job: Job | None = None
        self._opened = ExitStack()
        self._canceled = False
        if not self._next():
            self._finish()
        if self.error is not None:  # of every frame, before anything was computed
            raise self.error

    @property
    def roiNode(self) -> Any:
        """The region that limits the work, or None."""
        return self._request.roiNode

    @property
    def log(self) -> str:
        """The log of the worker process, for a problem report."""
        return jobs.worker().log

    @property
    def framesLeft(self) -> int:
        """Number of frames without a segmentation."""
        return len(self.frames.missing())

    def cancel(self) -> None:
        """End the frame that is computed, and do no other; those that are done stay."""
        self._canceled = True
        if self._job is not None:
            self._job.cancel()

    def wait(self) -> None:
        """Return when it has finished; the application stays usable meanwhile, and cancels it when it is closed."""
        with jobs.canceled_when_closed(self.cancel):
            while self.state == "running":
                if self._job is not None:
                    self._job.wait()
                slicer.app.processEvents()

    def _next(self) -> bool:
        """Begin the next frame that can be read, and return whether there was one.

        Raises:
            InputError: if a volume was removed meanwhile.
        """
        while self._left and not self._canceled:
            self.frames.check()
            number = self._left.pop(0)
            try:
                volumes = self._opened.enter_context(self.frames.opened(number))
                self._job = jobs.start(replace(self._request, volumeNodes=volumes, _bent=[]))
            except LightSegError as error:
                self.failures[number + 1] = error
            finally:
                if self._job is None:
                    self._opened.close()
            if self._job is not None:
                self._job.progress.connect(functools.partial(self._report, number))
                self._job.finished.connect(functools.partial(self._onFrame, number))
                return True
        return False

    def _report(self, number: int, progress: Progress) -> None:
        """Pass on the progress of a frame."""
        step: Message = _("Frame {number} of {count}: {step}").format(
            number=number + 1, count=self.frames.count, step=progress.step
        )
        self.progress.emit(replace(progress, step=step))

    def _onFrame(self, number: int, job: Job) -> None:
        """Keep the result of a frame, and begin the next; whatever goes wrong in between, the job ends."""
        self._job = None
        try:
            with self._opened:
                self._keep(number, job)
            if self._next():
                return
        except Exception as error:
            self.error = stated(error)
        self._finish()

    def _keep(self, number: int, job: Job) -> None:
        """Keep what came of a frame.

        Raises:
            InputError: if a volume was removed meanwhile.
        """
        if job.state == "canceled":
            self._canceled = True
            return
        if job.error is not None:
            self.failures[number + 1] = job.error
        else:
            self.frames.keep(number, job.segmentationNode)
            self.provenance = job.provenance
            self.done.append(number + 1)
            self.seconds += job.provenance["seconds"]
        self.frames.check()  # afterwards, so that what is computed is not lost
        if job.error is None:
            self.segmentationNode = self.frames.shown()

    def _finish(self) -> None:
        """State what came of it; `finished` follows, whatever happens."""
        try:
            if self.done and self.error is None:
                self._summarize()
        except Exception as error:
            self.error = stated(error)
        if self.error is None and not self.done and not self._canceled:
            self.error = next(iter(self.failures.values()), None)
        self.state = "failed" if self.error is not None else "canceled" if self._canceled else "done"
        self.finished.emit(self)

    def _summarize(self) -> None:
        """Write the table of volumes over time, and what the heart does, beside what is still in the scene."""
        self.segmentationNode = node = self.frames.shown()
        if node is None:
            return
        course = self.frames.course()
        known = all(ms is not None for _number, ms, _volumes in course)
        axis = _("Frame") if not known else _("Trigger time (ms)") if self.frames.kind == TRIGGER else _("Time (ms)")
        self.tableNode = write_course(_("{name} over time").format(name=node.GetName()), course, axis, node.GetScene())
        self.notices = [*self.provenance.get("notices", [])]
        for one in heart_function(self._card, course):
            if one.ejection_percent is not None:
                self.notices.append(
                    _(
                        "{chamber}: stroke volume {stroke:.1f} ml, ejection fraction {percent:.1f} %, "
                        "from {frames} of {count} frames."
                    ).format(
                        chamber=one.name,
                        stroke=one.stroke_ml,
                        percent=one.ejection_percent,
                        frames=one.frames,
                        count=self.frames.count,
                    )
                )
            if one.not_found:
                self.notices.append(
                    _("{chamber}: not found in {count} of {frames} frames, which are left out.").format(
                        chamber=one.name, count=one.not_found, frames=one.frames
                    )
                )
        for _text, numbers, error in grouped(sorted(self.failures.items())):
            failed = _("Frame {number} failed. {reason}").format(number=numbers[0], reason=error)
            if len(numbers) > 1:
                failed = _("Frames {numbers} failed. {reason}").format(numbers=numbers_text(numbers), reason=error)
            self.notices.append(failed)
        self.frames.note(self.notices)
