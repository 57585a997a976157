"""The installation of a package beside the application: how far it is, its end, and Cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ...core.progress import CancelCallback, Progress, ProgressCallback
from ...worker.client import INSTALL_HANDLER, Worker
from ...worker.install_handler import PLACING, Package
from ..jobs import Task, interpreter
from .status import Status


class Installation:
    """Installs a package in a process of its own, one at a time.

    Args:
        status: the lines below Apply.
        changed: called when the installation begins, gets on and ends.
    """

    def __init__(self, status: Status, changed: Callable[[], None]) -> None:
        self._status = status
        self._changed = changed
        self._name = ""
        self._task: Task | None = None
        self._worker: Worker | None = None
        self._then: Callable[[], object] = lambda: None
        self.cancelable = True  # not while files are put in place: half a package would be worse than none

    @property
    def running(self) -> bool:
        """Whether an installation runs."""
        return self._task is not None and self._task.state == "running"

    def begin(self, package: Package, job: dict[str, Any], then: Callable[[], object]) -> None:
        """Install a package.

        Args:
            package: what it is, for messages.
            job: for the worker's `InstallHandler`.
            then: called when it is installed.
        """
        self._name, self._then = package.name, then
        self._worker = worker = Worker(interpreter(), handler=INSTALL_HANDLER)

        def work(progress: ProgressCallback, canceled: CancelCallback) -> bool:
            try:
                return worker.request(lambda _folder: job, lambda answer: bool(answer["installed"]), progress, canceled)
            finally:
                worker.stop()

        self.cancelable = True
        self._status.begin(_("Installing {name}").format(name=self._name))
        self._task = Task(work)
        self._task.progress.connect(self._onProgress)
        self._task.finished.connect(self._onFinished)
        self._changed()

    def cancel(self) -> None:
        """End the installation, which leaves no part of it."""
        if self._task is not None and self.cancelable:
            self._task.cancel()

    def close(self) -> None:
        """The window is closed."""
        self.cancel()
        self._task = None

    def _onProgress(self, progress: Progress) -> None:
        """Show how far the installation is."""
        if self._task is not None:
            self.cancelable = progress.step != PLACING
            self._status.show(progress)
            self._changed()

    def _onFinished(self, task: Task) -> None:
        """Show what came of the installation, and go on."""
        if task is not self._task:
            return
        self._status.end()
        self._changed()
        if task.state == "canceled":
            self._status.end(_("Canceled. {name} was not installed.").format(name=self._name))
        elif task.error is not None:
            self._status.fail(task.error, self._worker.log if self._worker is not None else "")
        else:
            self._then()
