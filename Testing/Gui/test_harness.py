"""The harness is as strict as Slicer: what does not exist there cannot be used here."""

from __future__ import annotations

import types
from typing import Any

import pytest
import slicer
import vtk
from user_actions import choose, shown_in, turn_event_loop, wait_until


@pytest.fixture
def run_as_module() -> Any:
    """Run lines as if they stood in a file of the module."""

    def run(lines: str, **names: Any) -> dict[str, Any]:
        module = types.ModuleType("LightSegLib.slicer_app.panel.example")
        module.__dict__.update(names)
        exec("import qt, ctk, slicer\n" + lines, module.__dict__)
        return module.__dict__

    return run


def test_properties_work_as_in_slicer(run_as_module):
    lines = """
button = qt.QPushButton("Apply")
button.text = "Cancel"
button.enabled = False
seen = button.text, button.enabled
box = slicer.qMRMLNodeComboBox()
box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
"""
    names = run_as_module(lines)
    assert names["seen"] == ("Cancel", False)
    assert list(names["box"].nodeTypes) == ["vtkMRMLScalarVolumeNode"]


@pytest.mark.parametrize(
    "line",
    [
        "qt.QPushButton().txet = 'Apply'",
        "qt.QPushButton().click = None",
        "qt.QLabel().repant()",
        "qt.QTimer().intervall = 5",
        "qt.QTableWidget(2, 2).horizontalHeader().stretchLast = True",
        "qt.QLabel().visible()",
        "qt.QCheckBox().checked()",
        "qt.QTimer().active = True",
        "qt.QTableWidgetItem().text = 'Liver'",
        "qt.QListWidgetItem().card = 'a card'",
        "ctk.ctkCollapsibleButton().colapsed = True",
        "ctk.ctkSearchBox().placeholder = 'Search'",
        "slicer.qMRMLNodeComboBox().setNodeTypes(['vtkMRMLVolumeNode'])",
        "slicer.qMRMLNodeComboBox().addItem('T1')",
        "slicer.qMRMLNodeComboBox()._box = None",
        "slicer.qMRMLSegmentationShow3DButton().node = None",
        "slicer.qMRMLTreeView()",
        "slicer.app.restarted = True",
        "qt.Signal()",
        "ctk.ctkWizard()",
    ],
)
def test_what_slicer_lacks_raises(run_as_module, line):
    with pytest.raises((AttributeError, TypeError)):
        run_as_module(line)


def test_a_class_of_the_module_may_have_attributes_of_its_own(run_as_module):
    lines = """
class Row(qt.QWidget):
    def __init__(self):
        qt.QWidget.__init__(self)
        self.card = "a card"
        self.enabled = False
row = Row()
seen = row.card, row.enabled
"""
    assert run_as_module(lines)["seen"] == ("a card", False)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('class="QPushButton"', 'class="QPushButon"', "no widget class QPushButon"),
        ('<property name="wordWrap">', '<property name="wordWarp">', "no property wordWarp"),
    ],
)
def test_a_form_with_a_slip_is_refused(tmp_path, old, new, complaint):
    from fakes import MODULE_FOLDER

    text = (MODULE_FOLDER / "Resources" / "UI" / "LightSeg.ui").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "form.ui").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(RuntimeError, match=complaint):
        slicer.util.loadUI(str(tmp_path / "form.ui"))


def test_a_node_selector_follows_the_scene(scene):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = False
    selector.addEnabled = selector.removeEnabled = False
    selector.setMRMLScene(scene)
    assert selector.currentNode() is None

    first = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
    second = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T2")
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "not a scalar volume")
    assert shown_in(selector) == ["T1", "T2"]
    assert selector.currentNode() is first, "Qt selects the first entry of an empty list"

    choose(selector, "T2")
    assert selector.currentNodeID == second.GetID()
    second.SetName("FLAIR")
    assert shown_in(selector) == ["T1", "FLAIR"]
    scene.RemoveNode(second)
    assert selector.currentNode() is first


def test_a_node_selector_makes_nodes(scene):
    made = []
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLMarkupsROINode"]
    selector.noneEnabled = True
    selector.baseName = "Region"
    selector.nodeAddedByUser.connect(made.append)
    selector.setMRMLScene(scene)

    choose(selector, shown_in(selector)[1])

    assert [node.GetName() for node in made] == ["Region"]
    assert selector.currentNode() is made[0]
    choose(selector, "None")
    assert selector.currentNode() is None


def test_the_heart_beats_until_something_is_in_the_way(heartbeat):
    import time

    with heartbeat:
        wait_until(lambda: len(heartbeat.gaps) > 3)
        time.sleep(0.12)
        turn_event_loop()
    assert heartbeat.longest_gap >= 0.12
    assert min(heartbeat.gaps) < 0.12


def test_waiting_ends(dialogs):
    with pytest.raises(AssertionError, match="not within"):
        wait_until(lambda: False, seconds=0.05)


def test_questions_need_an_answer(dialogs):
    with pytest.raises(AssertionError, match="Nobody answered: Continue"):
        slicer.util.confirmOkCancelDisplay("Continue?")
    dialogs.answer("Cancel")
    assert not slicer.util.confirmOkCancelDisplay("Continue?")
    assert dialogs.take().buttons == ("Ok", "Cancel")
    slicer.util.errorDisplay("Nothing worked.")
    assert dialogs.take().text == "Nothing worked."


@pytest.mark.parametrize(
    "line",
    [
        "qt.QDialog().exec()",
        "qt.QMessageBox.question(None, 'LightSeg', 'Continue?')",
        "qt.QInputDialog.getText(None, 'LightSeg', 'Name')",
    ],
)
def test_nothing_waits_for_a_user(run_as_module, line):
    with pytest.raises(AssertionError, match="wait for a user"):
        run_as_module(line)


def test_a_section_folds(run_as_module):
    lines = """
section = ctk.ctkCollapsibleButton("Inputs")
rows = qt.QVBoxLayout(section)
shown, hidden = qt.QLabel("shown"), qt.QLabel("hidden")
rows.addWidget(shown)
rows.addWidget(hidden)
hidden.visible = False
section.show()
open_height = section.height
section.collapsed = True
"""
    names = run_as_module(lines)
    section, shown, hidden = names["section"], names["shown"], names["hidden"]
    assert section.collapsed and not shown.visible
    assert section.maximumHeight < names["open_height"]
    section.click()
    assert not section.collapsed and shown.visible and not hidden.visible


def test_text_is_as_high_as_what_it_states(run_as_module):
    lines = """
panel = qt.QWidget()
rows = qt.QVBoxLayout(panel)
text = ctk.ctkFittedTextBrowser()
rows.addWidget(text)
rows.addStretch(1)
panel.resize(300, 600)
panel.show()
text.plainText = "one line"
slicer.app.processEvents()
low = text.height
text.plainText = "many words " * 40
slicer.app.processEvents()
high = text.height
"""
    names = run_as_module(lines)
    assert names["low"] < 60 < 120 < names["high"] < 400


def test_show_3d_is_pressed_while_there_are_surfaces(scene):
    button = slicer.qMRMLSegmentationShow3DButton()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    button.setSegmentationNode(node)
    assert not button.enabled, "there is nothing to show"
    sphere = vtk.vtkSphereSource()
    sphere.Update()
    node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "ball", [1, 0, 0])
    node.GetSegmentation().CreateRepresentation("Binary labelmap")
    node.GetSegmentation().SetSourceRepresentationName("Binary labelmap")
    assert button.enabled and button.checked

    button.click()
    assert not node.GetSegmentation().ContainsRepresentation("Closed surface")
    button.click()
    assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    node.GetSegmentation().RemoveRepresentation("Closed surface")
    assert not button.checked


def test_the_slice_views_have_their_nodes(scene):
    names = slicer.app.layoutManager().sliceViewNames()
    nodes = [slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode() for name in names]
    assert [node.GetID() for node in nodes] == [f"vtkMRMLSliceNode{name}" for name in names]

    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, 10, 20, 30)

    positions = {node.GetOrientation(): node.GetSliceToRAS() for node in nodes}
    assert positions["Axial"].GetElement(2, 3) == 30
    assert positions["Coronal"].GetElement(1, 3) == 20
    assert positions["Sagittal"].GetElement(0, 3) == 10
    scene.Clear(0)
    assert scene.GetNodeByID("vtkMRMLSliceNodeRed") is nodes[0], "views stay when a scene is closed"


def test_a_user_types(run_as_module):
    from user_actions import type_into

    box = run_as_module("box = ctk.ctkSearchBox()\nbox.show()\nbox.text = 'he'")["box"]
    type_into(box, "art")
    assert box.text == "heart"


def test_the_segment_editor_takes_nodes(scene, other_modules):
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    slicer.util.selectModule("SegmentEditor")
    slicer.modules.SegmentEditorWidget.editor.setSourceVolumeNode(volume)
    assert other_modules == ["SegmentEditor"]
    assert slicer.util.getModuleWidget("SegmentEditor").editor.sourceVolumeNode() is volume


def test_the_extensions_manager_is_asked(extensions):
    extensions.installed.add("PyTorch")
    assert slicer.app.extensionsManagerModel().isExtensionInstalled("PyTorch")
    assert slicer.app.extensionsManagerModel().installExtensionFromServer("SlicerIGT")
    assert extensions.requested == ["SlicerIGT"]
