"""Where the segments go, and of which side they are: what the user chose, or what the region and the result suggest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ...catalog.anatomy import may_have_side
from ...catalog.card import Card
from .. import scene
from ..parameters import Side


class Output:
    """The section of the window in which output and side are chosen, or proposed.

    Args:
        ui: widgets of the form.
        parameters: as in `Inputs`.
        volume: gives the first chosen volume, or None.
    """

    def __init__(self, ui: Any, parameters: Callable[[], Any], volume: Callable[[], Any]) -> None:
        self._ui = ui
        self._parameters = parameters
        self._volume = volume
        self._card: Card | None = None
        self._tips = {box: box.toolTip for box in (ui.outputSelector, ui.confidenceBox)}

    def show(self, card: Card | None) -> None:
        """Show what a run would do if it began now."""
        self._card = card
        has = self.hasSide()
        self._ui.sideLabel.setVisible(has)
        self._ui.sideBox.setVisible(has)
        if self._ui.sideBox.count:
            self._ui.sideBox.setItemText(0, self._proposal())
        volume = self._volume()
        over_time = volume is not None and scene.browser_of(volume) is not None
        self._ui.framesLabel.setVisible(over_time)
        self._ui.framesBox.setVisible(over_time)
        self._ui.outputSelector.baseName = (
            scene.segmentation_name(volume, card.title) if volume is not None and card is not None else "Segmentation"
        )
        all_frames = self.allFrames()
        for box, tip in self._tips.items():
            box.setEnabled(not all_frames)
            box.setToolTip(
                _("The segments of all frames go to a new sequence, without a confidence.") if all_frames else tip
            )
        shared = None if all_frames else self._otherSide()
        none = _("Add to {name}").format(name=shared.GetName()) if shared is not None else _("New segmentation")
        if self._ui.outputSelector.noneDisplay != none:
            self._ui.outputSelector.noneDisplay = none

    def allFrames(self) -> bool:
        """Return whether every frame of a sequence is to be segmented."""
        parameters, volume = self._parameters(), self._volume()
        chosen = parameters is not None and bool(parameters.allFrames)
        return chosen and volume is not None and scene.browser_of(volume) is not None

    def confidence(self) -> bool:
        """Return whether a volume of the confidence is made; there is none of all frames."""
        return bool(self._parameters().confidence) and not self.allFrames()

    def hasSide(self) -> bool:
        """Return whether what the chosen model segments has a left and a right side."""
        return self._card is not None and any(
            may_have_side(label.name, label.terminology) for label in self._card.result_labels
        )

    def side(self) -> str | None:
        """Return the side that names the segments: "left", "right", or None."""
        if not self.hasSide():
            return None
        chosen = self._parameters().side
        return self._proposedSide() if chosen is Side.AUTO else chosen.value

    def node(self) -> Any:
        """Return the segmentation that takes the segments, or None for a new one."""
        chosen = self._parameters().output
        return chosen if chosen is not None else self._otherSide()

    def _proposedSide(self) -> str | None:
        """Return the side that the region is on, if it is on one."""
        parameters, volume = self._parameters(), self._volume()
        if parameters is None or parameters.roi is None or volume is None or not self.hasSide():
            return None
        return scene.side_of_region(parameters.roi, volume)

    def _proposal(self) -> str:
        """Return the first choice of the side, and what it means now."""
        parameters, card = self._parameters(), self._card
        if card is not None and card.region_from is not None and parameters is not None and parameters.roi is None:
            return _("as found")
        return {
            None: _("by the region"),
            "left": _("by the region: left"),
            "right": _("by the region: right"),
        }[self._proposedSide()]

    def _otherSide(self) -> Any:
        """Return the last result, where it lacks just the side that would be segmented now."""
        parameters, volume = self._parameters(), self._volume()
        result = parameters.result if parameters is not None else None
        side = self.side() if parameters is not None else None
        if side is None or result is None or volume is None:
            return None
        return result if scene.lacks_side(result, volume, self._card, side) else None
