"""Before a model of a small region runs on a whole volume: why it cannot, and what to do instead."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from .fitting import stack
from .region import Region


class Offer:
    """A question beside Apply, with a button for each way to give the region a place.

    A further way is a further button here that ends in `Region.place`.

    Args:
        ui: widgets of the form.
        region: takes the place.
    """

    def __init__(self, ui: Any, region: Region) -> None:
        self._ui = ui
        self._region = region
        ui.offerSliceButton.clicked.connect(region.placeAroundSlices)
        self._show("")

    def made(self) -> bool:
        """Return whether there is something to ask first, so that Apply waits for the answer."""
        reason = self._region.missing()
        if reason:
            what = _("Place it around the structure: let the slices cross there, and click the button.")
            self._show(f"{reason} {what}")
        return bool(reason)

    def refresh(self) -> None:
        """Take the question back where it has an answer."""
        if not self._region.missing():
            self._show("")

    def _show(self, text: str) -> None:
        """Show the question, or none."""
        self._ui.offerLabel.setText(text)
        self._ui.offerPart.setVisible(bool(text))
        stack(self._ui.offerButtons)
