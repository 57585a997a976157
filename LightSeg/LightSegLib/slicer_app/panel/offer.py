"""Before a model of a small region runs on a whole volume: why it should not, and what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from .fitting import stack
from .region import Region


class Offer:
    """A question beside Apply, with a button for each way to give the region a place, and one to go on without.

    A further way is a further button here that ends in `Region.place`.

    Args:
        ui: widgets of the form.
        region: takes the place.
        anyway: called where the user wants the whole volume.
    """

    def __init__(self, ui: Any, region: Region, anyway: Callable[[], None]) -> None:
        self._ui = ui
        self._region = region
        self._anyway = anyway
        self._agreed = ""  # to which question
        ui.offerSliceButton.clicked.connect(region.placeAroundSlices)
        ui.offerWholeButton.clicked.connect(self._onWhole)
        self._show("")

    def made(self) -> bool:
        """Return whether there is something to ask first, so that Apply waits for the answer."""
        reason = self._region.missing()
        if not reason or reason == self._agreed:
            return False
        what = _("There it takes longer, and may find structures that are none. Place a region first?")
        self._show(f"{reason} {what}")
        return True

    def settle(self) -> None:
        """A job has begun: the next one is asked about anew."""
        self._agreed = ""
        self._show("")

    def refresh(self) -> None:
        """Take the question back where it has an answer."""
        if not self._region.missing():
            self.settle()

    def _show(self, text: str) -> None:
        """Show the question, or none."""
        self._ui.offerLabel.setText(text)
        self._ui.offerPart.setVisible(bool(text))
        stack(self._ui.offerButtons)

    def _onWhole(self) -> None:
        """Go on without a region."""
        self._agreed = self._region.missing()
        self._show("")
        self._anyway()
