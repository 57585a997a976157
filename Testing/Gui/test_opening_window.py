"""The window opens from its real form, follows the scene, and shows itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import slicer
from user_actions import choose, close_module, grab_panel, open_module, reload_module

FOLDER = Path(__file__).parent


def add_volume(name):
    return slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.float32), name=name)


def test_apply_waits_for_a_volume(window, screenshot):
    assert not window.ui.applyButton.enabled
    assert window.ui.applyButton.toolTip
    add_volume("T1")
    volume = add_volume("FLAIR")

    choose(window.ui.inputSelector1, "FLAIR")

    assert window.logic.getParameterNode().input1 is volume
    assert window.ui.applyButton.enabled
    screenshot("panel")


def test_what_was_chosen_is_kept_when_the_window_is_opened_again(scene, raised):
    add_volume("T1")
    window = open_module()
    add_volume("FLAIR")
    choose(window.ui.inputSelector1, "FLAIR")
    close_module()

    window = open_module()
    assert window.ui.inputSelector1.currentNode().GetName() == "FLAIR"
    window = reload_module()
    assert window.ui.inputSelector1.currentNode().GetName() == "FLAIR"
    close_module()


def test_the_brain_is_chosen_at_first(scene, raised):
    window = open_module()
    assert window.ui.chosenLabel.text.startswith("Brain structures") and not window.ui.sideBox.visible
    close_module()


def test_a_closed_scene_leaves_an_open_window(window, scene):
    add_volume("T1")
    choose(window.ui.inputSelector1, "T1")

    scene.Clear(0)

    assert window.ui.inputSelector1.currentNode() is None
    assert not window.ui.applyButton.enabled


def test_the_panel_is_drawn(window):
    picture = grab_panel().toImage()
    colors = {picture.pixel(x, y) for x in range(0, picture.width(), 3) for y in range(0, picture.height(), 3)}
    assert len(colors) > 20, "text and buttons are drawn"


def test_it_opens_without_torch():
    """The user may look around before PyTorch is installed."""
    script = (
        f"import sys; sys.modules['torch'] = None; sys.path[:0] = {[str(FOLDER.parent), str(FOLDER)]!r}\n"
        "import fakes; fakes.install()\n"
        "from user_actions import open_module\n"
        "import LightSeg\n"
        "assert not LightSeg.torchInstalled()\n"
        "print(open_module().ui.applyButton.visible)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.stdout.split() == ["True"], done.stderr
