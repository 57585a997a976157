"""Apply, which is Cancel while a job runs; how far it is; why it cannot begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from ...core.progress import Progress
from ..jobs import Job
from ..translation import errorDisplay, translated
from . import pytorch
from .formatting import fraction, letterByLetter, progressText


class Run:
    """The section of the window that starts a job and shows its progress.

    Args:
        start: begins a job, or returns None where the user thought better of it.
        finished: called with a job that has.
        reason: why a job cannot begin, or nothing.
    """

    def __init__(
        self, ui: Any, start: Callable[[], Job | None], finished: Callable[[Job], None], reason: Callable[[], str]
    ) -> None:
        self._ui = ui
        self._start = start
        self._finished = finished
        self._reason = reason
        self._shown = ""  # as the reason
        self._job: Job | None = None
        ui.applyButton.clicked.connect(self._onApply)

    @property
    def running(self) -> bool:
        """Whether a job is running."""
        return self._job is not None and self._job.state == "running"

    def show(self) -> None:
        """Apply or Cancel, and what keeps the user from it."""
        reason = "" if self.running else self._reason()
        action = _("Stop the computation; the scene stays as it was.") if self.running else _("Segment the volume.")
        self._ui.applyButton.text = _("Cancel") if self.running else _("Apply")
        self._ui.applyButton.setEnabled(not reason)
        self._ui.applyButton.setToolTip(reason or action)
        self._ui.progressBar.setVisible(self.running)
        shown = reason or (
            "" if pytorch.installed() else _("PyTorch is not here yet: Apply asks before it installs it.")
        )
        if not self.running and (shown or self._ui.statusLabel.text == self._shown):
            self._ui.statusLabel.setText(shown)
        self._shown = shown

    def close(self) -> None:
        """The window is closed: its job ends, and has nothing to show."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()

    def _onApply(self) -> None:
        """Start a job, or cancel the one that runs."""
        if self._job is not None and self.running:
            self._job.cancel()
            return
        with errorDisplay(_("The volume could not be segmented.")):
            self._job = self._start()
        if self._job is not None and self.running:
            self._ui.progressBar.setRange(0, 0)
            self._ui.statusLabel.setText(_("Starting"))
            self._job.progress.connect(self._onProgress)
            self._job.finished.connect(self._onFinished)
        self.show()

    def _onProgress(self, progress: Progress) -> None:
        """Show the progress of the job."""
        if self._job is None:
            return
        done = fraction(progress)
        self._ui.progressBar.setRange(0, 0 if done is None else 1000)
        if done is not None:
            self._ui.progressBar.setValue(round(1000 * done))
        self._ui.statusLabel.setText(progressText(progress))

    def _onFinished(self, job: Job) -> None:
        """Show the outcome of the job."""
        if job is not self._job:
            return
        self._ui.statusLabel.setText("")
        self._finished(job)
        self.show()
        if job.state == "canceled":
            self._ui.statusLabel.setText(_("Canceled. Nothing was changed."))
        if job.state == "done":
            how, memory = job.provenance["computed_in"], job.provenance["memory_estimate_mb"] / 1000
            self._ui.statusLabel.setText(
                _("Segmented in {seconds:.1f} s on {device}.").format(
                    seconds=job.provenance["seconds"], device=job.provenance["device"]
                )
            )
            self._ui.lastRunLabel.setText(
                _("Last run: on {device} in {how}, {memory:.1f} GB of memory estimated.").format(
                    device=job.provenance["device"], how=how, memory=memory
                )
            )
        if job.state == "failed":
            log = {"detailedText": job.log} if job.log else {}
            slicer.util.errorDisplay(letterByLetter(translated(job.error)), **log)
