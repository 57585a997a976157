"""PyTorch, which comes through the extension of that name and never by any other way."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from ...core.packages import TORCH, has_torch
from ...worker.install_handler import PYTORCH
from .installation import Installation
from .status import Status

EXTENSION = "PyTorch"
VERSION = ".".join(map(str, TORCH))


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
        """Return whether one that is new enough can be imported; does not import it."""
        importlib.invalidate_caches()
        return has_torch()

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
            "LightSeg needs PyTorch {version} or newer. Install it now? The download may be several gigabytes where "
            "there is a graphics card. Slicer stays usable meanwhile, and Cancel stops it."
        ).format(version=VERSION)
        if self.installation.running or not slicer.util.confirmOkCancelDisplay(question):
            return
        job = {"installer": installer, "requirement": f">={VERSION}"}
        self.installation.begin(PYTORCH, job, lambda: self._goOn(then))

    def _goOn(self, then: Callable[[], object]) -> None:
        """Call `then`, unless the installation has not brought what it should."""
        if self.installed():
            then()
            return
        message = _("PyTorch was installed, but is not found here. Restart Slicer and press Apply again.")
        self._status.keep(message)
        slicer.util.errorDisplay(message)


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
