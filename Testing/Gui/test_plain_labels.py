"""What images, cards and servers say is shown letter by letter: no link, no picture, no other look."""

from __future__ import annotations

import qt
from LightSegLib.slicer_app.panel.formatting import letterByLetter

FROM_ELSEWHERE = ("methodsLabel", "noticesLabel", "statusLabel", "lastRunLabel", "inputHint", "aboutLabel")


def test_labels_with_foreign_text_are_plain(window):
    for name in (*FROM_ELSEWHERE, *(f"inputLabel{number}" for number in range(1, 5))):
        assert getattr(window.ui, name).textFormat == qt.Qt.PlainText, name


def test_dialogs_and_tool_tips_show_tags_as_they_are():
    assert letterByLetter("License: CC0\n\n5 > 3") == "License: CC0\n\n5 > 3"
    shown = letterByLetter("<img src='http://example.org/x'>\nfree")
    assert "<img" not in shown and "&lt;img src=" in shown and "pre-wrap" in shown
