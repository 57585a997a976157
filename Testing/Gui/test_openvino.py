"""OpenVINO comes with one button in Advanced, beside the application."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from user_actions import wait_until
from wheels import wheel_offered


@pytest.fixture
def without_openvino(window, tmp_path, monkeypatch):
    """OpenVINO is missing until pip has put it in place."""
    real = importlib.util.find_spec
    place = tmp_path / "packages" / "openvino"
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" and not place.exists() else real(name)
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages"), *sys.path])
    window.ui.advancedSection.collapsed = False
    window.refresh()


def test_one_button_installs_it_after_a_question_that_states_its_size(
    window, without_openvino, dialogs, tmp_path, monkeypatch, screenshot
):
    assert window.ui.installOpenvinoButton.visible and not window.ui.openvinoBox.visible
    screenshot("Advanced without OpenVINO", (360, 900))
    dialogs.answer("Cancel", "Ok")
    window.ui.installOpenvinoButton.click()
    assert "60 MB" in dialogs.take().text and not window.installation.running

    with wheel_offered("openvino", tmp_path, monkeypatch, needs=["numpy<1"]):  # which is Slicer's own, and stays
        window.ui.installOpenvinoButton.click()
        dialogs.take()
        assert window.installation.running and window.ui.applyButton.text == "Cancel"
        window.ui.installOpenvinoButton.click()
        assert "running already" in dialogs.take().text
        wait_until(lambda: not window.installation.running)
    assert window.ui.statusLabel.text == "OpenVINO is installed and used from the next run on."
    assert {folder.name for folder in (tmp_path / "packages").iterdir()} == {"openvino", "openvino-9999.9.dist-info"}
    assert window.ui.openvinoBox.visible and not window.ui.installOpenvinoButton.visible
    assert "OpenVINO: installed" in window.ui.aboutLabel.text
    assert window.ui.applyButton.text == "Apply"


@pytest.mark.slow
def test_where_it_cannot_come_models_run_without_it(window, without_openvino, dialogs, tmp_path, monkeypatch):
    with wheel_offered("another", tmp_path, monkeypatch):
        dialogs.answer("Ok")
        window.ui.installOpenvinoButton.click()
        dialogs.take()
        wait_until(lambda: dialogs.shown)
    shown = dialogs.take()
    assert "OpenVINO could not be installed" in shown.text and "models run all the same" in shown.text
    assert "No matching distribution" in shown.details
    assert window.ui.installOpenvinoButton.visible and not window.installation.running
