"""The panel as a whole: every control explains itself, it fits, and the keyboard goes through it in order."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import slicer
from user_actions import choose

import LightSeg

CONTROLS = (
    "QPushButton",
    "QToolButton",
    "QCheckBox",
    "QComboBox",
    "qMRMLNodeComboBox",
    "ctkSearchBox",
    "QTreeWidget",
    "QTableWidget",
)
CONTROLS += ("QListWidget", "qMRMLSegmentationShow3DButton")


def form():
    path = Path(LightSeg.__file__).parent / "Resources" / "UI" / "LightSeg.ui"
    return ElementTree.parse(path).getroot()


def test_every_control_has_a_tooltip_and_a_place_in_the_tab_order():
    controls = [widget for widget in form().iter("widget") if widget.attrib["class"] in CONTROLS]
    controls = [widget for widget in controls if "Qt::NoFocus" not in {entry.text for entry in widget.iter("enum")}]
    assert len(controls) > 35
    for widget in controls:
        texts = [p.findtext("string") for p in widget.findall("property") if p.attrib["name"] == "toolTip"]
        assert texts and len(texts[0]) > 10, widget.attrib["name"]
    stops = [stop.text for stop in form().iter("tabstop")]
    names = [widget.attrib["name"] for widget in controls]
    assert stops == names, "all are reached in the order of the form"


def test_each_section_opens_the_tutorial_at_its_place(window, dialogs):
    """The headings are those that the page has; GitHub makes addresses of them in lower case, with hyphens."""
    page = Path(LightSeg.__file__).parents[1] / "Documentation" / "tutorials" / "first-segmentation.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    headings = {line.lstrip("# ").lower().replace(" ", "-") for line in lines if line.startswith("#")}
    buttons = [widget.attrib["name"] for widget in form().iter("widget") if widget.attrib["class"] == "QToolButton"]
    buttons = [name for name in buttons if name.endswith("HelpButton")]
    assert len(buttons) == 5
    for name in buttons:
        getattr(window.ui, name).click()
        address, _, place = dialogs.opened[-1].partition("#")
        assert address.endswith("/Documentation/tutorials/first-segmentation.md")
        assert place in headings, name
    assert len(set(dialogs.opened)) == len(buttons)


def test_what_was_chosen_is_saved_with_the_scene(window):
    window.ui.confidenceBox.click()
    choose(window.ui.sideBox, "left")
    node = slicer.mrmlScene.GetSingletonNode("LightSeg", "vtkMRMLScriptedModuleNode")
    assert node.GetParameter("confidence") == "True" and node.GetParameter("side") == "LEFT"
    window.exit()
    window.enter()
    assert window.ui.confidenceBox.checked and window.ui.sideBox.currentText == "left"


@pytest.mark.parametrize(("system", "missing"), [("darwin", 2), ("linux", 3), ("win32", 3)])
def test_only_devices_that_the_system_can_have_are_offered(window, monkeypatch, system, missing):
    monkeypatch.setattr("sys.platform", system)
    window.exit()
    window.enter()
    offered = [window.ui.deviceBox.model().item(number).isEnabled() for number in range(window.ui.deviceBox.count)]
    assert [number for number, enabled in enumerate(offered) if not enabled] == [missing]


def test_nothing_of_the_panel_is_styled():
    assert not [p for p in form().iter("property") if p.attrib["name"] == "styleSheet"]


def test_choices_of_another_version_of_lightseg_are_replaced_by_the_defaults(window):
    node = slicer.mrmlScene.GetSingletonNode("LightSeg", "vtkMRMLScriptedModuleNode")
    window.exit()
    node.SetParameter("device", "TPU")
    window.enter()
    assert window.ui.deviceBox.currentText == "automatic"
