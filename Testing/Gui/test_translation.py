"""A window in German shows the library's reports in German, also from the process that computes."""

from __future__ import annotations

import re

import pytest
from user_actions import choose, wait_until

GERMAN = {
    "Loading model": "Modell wird geladen",
    "Segmenting (needs about {memory} of memory)": "Segmentierung (braucht etwa {memory} Arbeitsspeicher)",
    "Segmenting": "Segmentierung",
    "The region of interest is outside the volume. Move it over the structure to segment, or omit it to segment "
    "the whole volume.": "Die Region liegt außerhalb des Volumens. Verschieben Sie sie über die Struktur.",
    "The region of interest {name} is empty. Place it over the structure to segment, or choose none to segment the "
    "whole volume.": "Die Region {name} ist leer. Setzen Sie sie auf die Struktur.",
    "The region of interest covers {seen} mm of the image, but this model was made for one of {size} mm, so the "
    "result is probably wrong. Set a smaller region around the structure.": "Die Region umfasst {seen} mm, das Modell "
    "wurde für {size} mm gemacht. Wählen Sie eine kleinere.",
}


@pytest.fixture
def german(window, monkeypatch):
    """The window, with a language pack that knows some texts of the library; all that was asked of it."""
    asked = set()

    def translate(context, text):
        asked.add((context, text))
        return GERMAN.get(text, text)

    monkeypatch.setattr("LightSegLib.slicer_app.translation.translate", translate)
    window.ui.openvinoBox.setChecked(False)
    choose(window.ui.precisionBox, "float32")
    choose(window.ui.deviceBox, "CPU")
    window.ui.sampleButton.click()
    return window, asked


def place_region(window, center, size=(100, 100, 100)):
    window.ui.roiSliceButton.click()
    roi = window.logic.getParameterNode().roi
    roi.SetCenterWorld(center)
    roi.SetSize(size)


def test_progress_of_the_worker_is_shown_in_german(german, monkeypatch):
    window, asked = german
    place_region(window, (25, -25, -12), (40, 60, 40))
    seen, say = set(), window.status.say
    monkeypatch.setattr(window.status, "say", lambda text: seen.add(text) or say(text))  # two may come at a time
    window.ui.applyButton.click()
    wait_until(lambda: not window.run.running)

    assert any(re.match(r"Segmentierung \(braucht etwa \d.* [MG]B Arbeitsspeicher\)", text) for text in seen), seen
    assert any(text.startswith("Segmentierung: tile 1 of") for text in seen), seen
    assert not any("Segmenting" in text for text in seen)
    assert ("inference.labeling", "Segmenting") in asked, "the context by which Slicer files the translation"


def test_an_error_of_the_worker_is_shown_in_german(german, dialogs):
    window, _asked = german
    place_region(window, (5000, 0, 0))
    window.ui.applyButton.click()
    wait_until(lambda: not window.run.running)

    assert dialogs.take().text == "Die Region liegt außerhalb des Volumens. Verschieben Sie sie über die Struktur."


def test_an_error_before_the_job_is_shown_in_german(german, dialogs, raised):
    window, _asked = german
    place_region(window, (25, -25, -12), (40, 60, 0))
    name = window.logic.getParameterNode().roi.GetName()
    window.ui.applyButton.click()

    text = dialogs.take().text
    assert text.startswith("The volume could not be segmented.")  # the window's own words, which Slicer translates
    assert text.endswith(f"Die Region {name} ist leer. Setzen Sie sie auf die Struktur.")
    assert not window.run.running


@pytest.mark.slow
def test_notices_of_a_result_are_shown_in_german_also_when_the_scene_is_opened_again(german, model_without_finder):
    window, _asked = german
    window.refresh()
    window.logic.getParameterNode().modelId = model_without_finder
    place_region(window, (25, -25, -12), (130, 60, 40))
    window.ui.applyButton.click()
    wait_until(lambda: not window.run.running)
    notice = "Die Region umfasst 117 x 61 x 41 mm, das Modell wurde für 35 x 50 x 40 mm"

    assert notice in window.ui.noticesLabel.text
    node = window.logic.getParameterNode().result
    window.result.show(None)
    window.result.show(node)
    assert notice in window.ui.noticesLabel.text
