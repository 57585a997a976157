"""PyTorch, which comes through the extension of that name and never by any other way."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from ...worker.install_handler import PYTORCH
from .installation import Installation
from .status import Status

EXTENSION = "PyTorch"
VERSION = ">=2.6"


class PyTorch:
    """Whether PyTorch is here, and how it comes.

    Args:
        status: the lines below Apply.
        installation: installs it.
    """

    def __init__(self, status: Status, installation: Installation) -> None:
        self._status = status
        self.installation = installation

    @staticmethod
    def installed() -> bool:
        """Return whether it can be imported; does not import it."""
        importlib.invalidate_caches()
        return importlib.util.find_spec("torch") is not None

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
        if self.installation.running or not slicer.util.confirmOkCancelDisplay(question):
            return
        job = {"installer": installer, "requirement": VERSION}
        self.installation.begin(PYTORCH, job, lambda: self.installed() and then())


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
