"""PyTorch, which comes through the extension of that name and never by any other way."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from ...core.progress import CancelCallback, Progress, ProgressCallback
from ...worker.client import INSTALL_HANDLER, Worker
from ...worker.install_handler import PLACING
from ..jobs import Task, interpreter
from .status import Status

EXTENSION = "PyTorch"
VERSION = ">=2.6"


class PyTorch:
    """Whether PyTorch is here, and its installation beside the application.

    Args:
        status: the lines below Apply.
        changed: called when the installation begins, gets on and ends.
    """

    def __init__(self, status: Status, changed: Callable[[], None]) -> None:
        self._status = status
        self._changed = changed
        self._task: Task | None = None
        self._worker: Worker | None = None
        self._then: Callable[[], object] = lambda: None
        self.cancelable = True  # not while files are put in place: half of PyTorch would be worse than none

    @staticmethod
    def installed() -> bool:
        """Return whether it can be imported; does not import it."""
        importlib.invalidate_caches()
        return importlib.util.find_spec("torch") is not None

    @property
    def installing(self) -> bool:
        """Whether an installation runs."""
        return self._task is not None and self._task.state == "running"

    def ensure(self, then: Callable[[], object]) -> None:
        """Call `then` now where PyTorch is here, else when the user has agreed and it is installed."""
        if self.installed():
            then()
            return
        installer = _extensionFile()
        if installer is None:
            _offerExtension(self._status)
            return
        question = _(
            "LightSeg needs PyTorch. Install it now? The download may be several gigabytes where there is a graphics "
            "card. Slicer stays usable meanwhile, and Cancel stops it."
        )
        if self.installing or not slicer.util.confirmOkCancelDisplay(question):
            return
        self._then = then
        self._worker = worker = Worker(interpreter(), handler=INSTALL_HANDLER)
        job = {"installer": installer, "requirement": VERSION}

        def work(progress: ProgressCallback, canceled: CancelCallback) -> bool:
            try:
                return worker.request(lambda _folder: job, lambda answer: bool(answer["installed"]), progress, canceled)
            finally:
                worker.stop()

        self.cancelable = True
        self._status.begin(_("Installing PyTorch"))
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
            self._status.end(_("Canceled. PyTorch was not installed."))
        elif task.error is not None:
            self._status.fail(task.error, self._worker.log if self._worker is not None else "")
        elif self.installed():
            self._then()


def _extensionFile() -> str | None:
    """Return the file of the extension's module, which Slicer has loaded where it is installed."""
    try:
        import PyTorchUtils
    except ImportError:
        return None
    path: str | None = getattr(PyTorchUtils, "__file__", None)
    return path


def _offerExtension(status: Status) -> None:
    """Offer to install the PyTorch extension."""
    model = getattr(slicer.app, "extensionsManagerModel", None)
    manager: Any = model() if model is not None else None
    if not hasattr(manager, "installExtensionFromServer"):  # a Slicer built without it
        slicer.util.errorDisplay(
            _("LightSeg needs PyTorch. Install the extension PyTorch in the Extensions Manager and restart Slicer.")
        )
        return
    restart = _("The extension PyTorch is installed. Save your work, restart Slicer, and press Apply again.")
    if manager.isExtensionInstalled(EXTENSION):
        slicer.util.infoDisplay(restart)
        return
    question = _("LightSeg needs the extension PyTorch. Install it now? Slicer must be restarted afterwards.")
    if not slicer.util.confirmOkCancelDisplay(question):
        return
    interactive = manager.interactive
    manager.interactive = False  # the user has just been asked; then the manager only logs what goes wrong
    try:
        done = manager.installExtensionFromServer(EXTENSION, False)  # without a restart: the scene may not be saved
    finally:
        manager.interactive = interactive
    if done:
        slicer.util.infoDisplay(restart)
    else:
        message = _(
            "The extension PyTorch could not be installed. Check the network connection, "
            "or install it in the Extensions Manager."
        )
        status.keep(message)
        slicer.util.errorDisplay(message)
