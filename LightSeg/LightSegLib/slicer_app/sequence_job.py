"""A segmentation of all frames of a sequence beside the application: one job a frame, one frame in memory."""

from __future__ import annotations

import functools
import json
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import slicer

from ..catalog.lookup import find_card
from ..core.errors import LightSegError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.moment import TRIGGER
from ..core.progress import Progress
from ..evaluation.heart import heart_function
from . import jobs
from .jobs import Job, Signal
from .request import Request
from .scene.sequences import FrameNodes, write_course


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
    has the volumes over time, `failures` the frames, from 1, that have no result, with the reasons. A frame that fails,
    and cancel, leave the others; the same job started again goes on with those that are missing.

    Raises at once what `FrameNodes` raises, and where no frame can be read, why the first cannot.
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
        # A volume of the confidence would be one for each frame, beside no sequence.
        self._request = replace(
            request, segmentationNode=None, options=replace(request.options, confidence=False), _bent=[]
        )
        self._card = find_card(request.model)
        roi = None if request.roiNode is None else request.read()[1]
        run = {
            "model": request.model,
            "version": self._card.version,
            "options": self._request.options.to_json(),
            "side": request.side,
            "roi": None if roi is None else roi.corners.tolist(),
        }
        self.frames = FrameNodes(request.volumeNodes, self._card.title, json.dumps(run, sort_keys=True))
        self._left = self.frames.missing()
        self._done: list[int] = []
        self._job: Job | None = None
        self._opened = ExitStack()
        self._canceled = False
        self._next()
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
        """Return when it has finished; the application stays usable meanwhile."""
        while self.state == "running":
            if self._job is not None:
                self._job.wait()
            slicer.app.processEvents()

    def _next(self) -> None:
        """Begin the next frame that can be read, or end."""
        while self._left and not self._canceled:
            number = self._left.pop(0)
            try:
                volumes = self._opened.enter_context(self.frames.opened(number))
                self._job = jobs.start(replace(self._request, volumeNodes=volumes, _bent=[]))
            except LightSegError as error:
                self._opened.close()
                self.failures[number + 1] = error
                continue
            self._job.progress.connect(functools.partial(self._report, number))
            self._job.finished.connect(functools.partial(self._onFrame, number))
            return
        self._finish()

    def _report(self, number: int, progress: Progress) -> None:
        """Pass on the progress of a frame."""
        step: Message = _("Frame {number} of {count}: {step}").format(
            number=number + 1, count=self.frames.count, step=progress.step
        )
        self.progress.emit(replace(progress, step=step))

    def _onFrame(self, number: int, job: Job) -> None:
        """Keep the result of a frame, and begin the next."""
        self._job = None
        try:
            if job.state == "done":
                self.frames.keep(number, job.segmentationNode)
                self.provenance, self._done = job.provenance, [*self._done, number]
                self.segmentationNode = self.frames.shown(self.provenance)
            elif job.error is not None:
                self.failures[number + 1] = job.error
            else:
                self._canceled = True
        finally:
            self._opened.close()
        self._next()

    def _finish(self) -> None:
        """State what came of it."""
        if self._done:
            self._summarize()
        self.state = "canceled" if self._canceled else "done" if self._done or not self.failures else "failed"
        if self.state == "failed":
            self.error = next(iter(self.failures.values()))
        self.finished.emit(self)

    def _summarize(self) -> None:
        """Write the table of volumes over time, and what the heart does."""
        course = self.frames.course()
        known = all(ms is not None for _number, ms, _volumes in course)
        axis = _("Frame") if not known else _("Trigger time (ms)") if self.frames.kind == TRIGGER else _("Time (ms)")
        node = self.segmentationNode
        self.tableNode = write_course(_("{name} over time").format(name=node.GetName()), course, axis, node.GetScene())
        self.notices = [*self.provenance.get("notices", [])]
        for one in heart_function(self._card, course):
            if one.ejection_percent is not None:
                self.notices.append(
                    _("{chamber}: stroke volume {stroke:.1f} ml, ejection fraction {percent:.1f} %.").format(
                        chamber=one.name, stroke=one.stroke_ml, percent=one.ejection_percent
                    )
                )
        for number, error in self.failures.items():
            self.notices.append(_("Frame {number} failed. {reason}").format(number=number, reason=error))
        self.provenance = self.provenance | {"notices": self.notices}
        self.frames.shown(self.provenance)
