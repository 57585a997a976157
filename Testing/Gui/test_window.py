"""The window as a user meets it: what it asks for, what it starts and what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from acting import choose
from LightSegLib.errors import InputError
from LightSegLib.progress import Progress


@pytest.fixture
def one_model(boxes, model, monkeypatch):
    """The test model is the only one, and its answer is known."""
    from LightSegLib.catalog import store

    card = replace(store.find_card(model), id="hippocampus-mr-lightmedseg")
    monkeypatch.setattr(store, "all_cards", lambda: [card])
    return card


@pytest.fixture
def window(one_model, window):
    return window


def test_apply_says_what_is_missing(window, make_volume):
    assert not window.ui.applyButton.enabled
    assert window.ui.applyButton.toolTip == "Choose an input volume"

    make_volume()
    choose(window.ui.inputSelector, "T1")

    assert window.ui.applyButton.enabled
    window.logic.getParameterNode().modelId = "a-model-of-another-computer"
    assert not window.ui.applyButton.enabled
    assert window.ui.applyButton.toolTip == "Choose a model"
    assert window.ui.modelComboBox.currentIndex == -1
    window.ui.modelComboBox.setCurrentIndex(0)
    assert window.ui.applyButton.enabled


def test_a_new_region_starts_as_large_as_the_volume(window, make_volume):
    volume = make_volume()
    window.logic.getParameterNode().inputVolume = volume

    choose(window.ui.roiSelector, "Create new ROI")

    roi = window.logic.getParameterNode().roi
    of_volume, of_roi = [0.0] * 6, [0.0] * 6
    volume.GetRASBounds(of_volume)
    roi.GetRASBounds(of_roi)
    assert of_roi == pytest.approx(of_volume)
    assert roi.GetDisplayNode().GetHandlesInteractive()


def test_a_job_that_fails_says_so_and_leaves_no_progress_behind(window, make_volume, dialogs, monkeypatch):
    def fail(*arguments, progress, **options):
        progress(Progress("Segmenting", 5, 12, 8.0))
        raise InputError("It failed. Try again.")

    make_volume()
    choose(window.ui.inputSelector, "T1")
    monkeypatch.setattr(window.logic, "segment", fail)

    window.ui.applyButton.click()

    assert "It failed. Try again." in dialogs.take().text
    assert window.ui.statusLabel.text == ""


def test_apply_segments_into_a_new_node_and_selects_it(window, make_volume, model, monkeypatch):
    from LightSegLib.catalog import store

    card = store.find_card(model)
    monkeypatch.setattr(store, "find_card", lambda name: card)
    make_volume()
    choose(window.ui.inputSelector, "T1")

    window.ui.applyButton.click()

    result = window.logic.getParameterNode().outputSegmentation
    assert result.GetSegmentation().GetNumberOfSegments() == 3
    assert window.ui.statusLabel.text == "Segmented in 1.5 s on cpu."


def test_a_download_starts_after_a_question_that_shows_size_and_licence(
    window, make_volume, boxes, tmp_path, dialogs, monkeypatch
):
    from LightSegLib.catalog import store
    from LightSegLib.catalog.card import Source, Weights

    source = Source("url", url="https://example.org/weights.pth")
    card = replace(window._cards[0], weights=Weights("weights.pth", 22_400_000, sources=(source,)), folder=tmp_path)
    window._cards = [card]
    monkeypatch.setattr(store, "find_card", lambda name: card)
    make_volume()
    choose(window.ui.inputSelector, "T1")
    for button in ("Cancel", "Ok"):
        dialogs.answer(button)
        window.ui.applyButton.click()
        question = dialogs.take().text
        assert "22 MB" in question and "CC-BY-SA-4.0" in question
        assert bool(boxes.volumes) == (button == "Ok")
        assert bool(window.logic.getParameterNode().outputSegmentation) == (button == "Ok")


def test_an_open_form_survives_a_closed_scene(window, make_volume, scene):
    make_volume()
    choose(window.ui.inputSelector, "T1")

    scene.Clear(0)

    assert not window.ui.applyButton.enabled
    window.exit()
    window.enter()
    assert window.ui.applyButton.toolTip == "Choose an input volume"
