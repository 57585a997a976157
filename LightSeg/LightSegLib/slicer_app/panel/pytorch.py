"""PyTorch, which comes through the extension of that name and never by any other way."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

EXTENSION = "PyTorch"
VERSION = ">=2.6"


def ensured(status: Callable[[str], None]) -> bool:
    """Return whether PyTorch is here, or was installed after the user agreed.

    Args:
        status: shows a line at once.
    """
    if installed():
        return True
    try:
        import PyTorchUtils
    except ImportError:
        _offerExtension()
        return False
    question = _("LightSeg needs PyTorch, a download of up to several gigabytes. Install it now?")
    if not slicer.util.confirmOkCancelDisplay(question):
        return False
    status(_("Installing PyTorch. This takes some minutes, in which Slicer does not respond."))
    with slicer.util.tryWithErrorDisplay(_("PyTorch could not be installed."), waitCursor=True):
        PyTorchUtils.PyTorchUtilsLogic().installTorch(torchVersionRequirement=VERSION)
    status("")
    return installed()


def installed() -> bool:
    """Return whether it can be imported; does not import it."""
    importlib.invalidate_caches()
    return importlib.util.find_spec("torch") is not None


def _offerExtension() -> None:
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
        slicer.util.errorDisplay(
            _(
                "The extension PyTorch could not be installed. Check the network connection, "
                "or install it in the Extensions Manager."
            )
        )
