"""The button "?" of each section, which opens the tutorial at its place."""

from __future__ import annotations

from typing import Any

import qt

TUTORIAL = "https://github.com/lightseg/SlicerLightSeg/blob/main/Documentation/tutorials/first-segmentation.md"
PLACES = {  # button: heading in the tutorial, as GitHub makes an address of it
    "modelHelpButton": "choose-a-model",
    "inputsHelpButton": "choose-what-to-segment",
    "outputHelpButton": "decide-where-the-result-goes",
    "resultHelpButton": "look-at-the-result",
    "advancedHelpButton": "when-something-is-in-the-way",
}


def connectHelp(ui: Any) -> None:
    """Let each button open its place."""
    for name, place in PLACES.items():
        getattr(ui, name).clicked.connect(lambda *_checked, place=place: _open(place))


def _open(place: str) -> None:
    """Show a place of the tutorial in the browser."""
    qt.QDesktopServices.openUrl(qt.QUrl(f"{TUTORIAL}#{place}"))
