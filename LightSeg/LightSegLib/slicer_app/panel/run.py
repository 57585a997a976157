"""Apply, which is Cancel while a job runs; how far it is; why it cannot begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ...core.moment import grouped, numbers_text
from ..jobs import Job
from ..sequence_job import SequenceJob
from ..translation import translated
from .pytorch import PyTorch
from .status import Status


class Run:
    """The row that starts a job, and stops what runs.

    Args:
        ui: widgets of the form.
        status: the lines below Apply.
        pytorch: without which nothing runs; Apply stops what is being installed, too.
        start: begins a job, or returns None where something has to be settled first.
        finished: called with a job that has.
        before: why a job cannot begin, and what the user should know before it does; either may be empty.
    """

    def __init__(
        self,
        ui: Any,
        status: Status,
        pytorch: PyTorch,
        start: Callable[[], Job | SequenceJob | None],
        finished: Callable[[Any], None],
        before: Callable[[], tuple[str, str]],
    ) -> None:
        self._ui = ui
        self._status = status
        self._pytorch = pytorch
        self._start = start
        self._finished = finished
        self._before = before
        self._shown = ""  # as the reason
        self._job: Job | SequenceJob | None = None
        ui.applyButton.clicked.connect(self._onApply)

    @property
    def running(self) -> bool:
        """Whether a job is running."""
        return self._job is not None and self._job.state == "running"

    def show(self) -> None:
        """Apply or Cancel, and what keeps the user from it."""
        installation = self._pytorch.installation
        busy = self.running or installation.running
        reason, warning = ("", "") if busy else self._before()
        action = _("Stop the computation; the scene is not changed.") if self.running else _("Segment the volume.")
        if installation.running:
            action = _("Stop the installation.")
        self._ui.applyButton.text = _("Cancel") if busy else _("Apply")
        self._ui.applyButton.setEnabled(installation.cancelable if installation.running else not reason)
        self._ui.applyButton.setToolTip(reason or action)
        if not busy:
            self._say(reason, warning)

    def _say(self, reason: str, warning: str) -> None:
        """Show what is in the way of Apply, else a warning, which gives way to what came of the last job."""
        urgent = reason or (
            "" if self._pytorch.installed() else _("PyTorch is not installed yet: Apply asks before installing it.")
        )
        shown = urgent or warning
        if urgent or (shown and shown != self._shown) or self._status.text in ("", self._shown):
            self._status.say(shown)
        self._shown = shown

    def begin(self) -> None:
        """Begin a job as Apply does, where none runs."""
        if self.running:
            return
        with self._status.trying(_("The volume could not be segmented.")):
            self._job = self._start()
        if self._job is not None and self.running:
            self._status.begin(_("Starting"))
            self._job.progress.connect(self._onProgress)
            self._job.finished.connect(self._onFinished)
        self.show()

    def close(self) -> None:
        """The window is closed: its job ends, and has nothing to show."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()

    def _onApply(self) -> None:
        """Start a job, or cancel the one that runs."""
        if self._job is not None and self.running:
            self._job.cancel()
        elif self._pytorch.installation.running:
            self._pytorch.installation.cancel()
        else:
            self.begin()

    def _onProgress(self, progress: Any) -> None:
        """Show the progress of the job."""
        if self._job is not None:
            self._status.show(progress)

    def _onFinished(self, job: Job | SequenceJob) -> None:
        """Show the outcome of the job."""
        if job is not self._job:
            return
        self._status.end()
        self._finished(job)
        self.show()
        if job.state == "canceled":
            self._status.end(canceledText(job))
        if job.state == "done":
            how, memory = job.provenance["computed_in"], job.provenance["memory_estimate_mb"] / 1000
            if isinstance(job, SequenceJob) and job.failures:
                reasons = [
                    f"{translated(numbers_text(numbers))}: {translated(error)}"
                    for _text, numbers, error in grouped(sorted(job.failures.items()))
                ]
                self._status.keep(doneText(job), "\n".join(reasons))
            else:
                self._status.end(doneText(job))
            self._ui.lastRunLabel.setText(
                _("Last run: on {device} in {how}, {memory:.1f} GB of memory estimated.").format(
                    device=job.provenance["device"], how=how, memory=memory
                )
            )
        if job.state == "failed" and job.error is not None:
            self._status.fail(job.error, job.log)


def canceledText(job: Job | SequenceJob) -> str:
    """Return what is left of a job that was canceled."""
    done = job.frames.count - job.framesLeft if isinstance(job, SequenceJob) else 0
    if isinstance(job, SequenceJob) and done:
        return _("Canceled. {done} of {count} frames are done; Apply goes on with the others.").format(
            done=done, count=job.frames.count
        )
    return _("Canceled. Nothing was changed.")


def doneText(job: Job | SequenceJob) -> str:
    """Return what was done, how long it took and where; of a sequence also which frames failed."""
    if not isinstance(job, SequenceJob):
        return _("Segmented in {seconds:.1f} s on {device}.").format(
            seconds=job.provenance["seconds"], device=job.provenance["device"]
        )
    done = _("Segmented {done} of {count} frames in {seconds:.1f} s on {device}.").format(
        done=len(job.done),
        count=len(job.done) + len(job.failures),
        seconds=job.seconds,
        device=job.provenance["device"],
    )
    if not job.failures:
        return done
    failed = _("The notices state why the others failed, and Apply tries them again: {frames}.").format(
        frames=translated(numbers_text(sorted(job.failures)))
    )
    return f"{done} {failed}"
