"""The main job by clicks: choose, Apply, watch, review; and all that can come between."""

from __future__ import annotations

import json
import re
import types

import numpy as np
import pytest
import qt
import slicer
from LightSegLib.rendering.surface import opengl_works
from LightSegLib.slicer_app import jobs
from panel_states import PAIR, add_head, add_result
from user_actions import choose, close_module, in_view, let_slices_cross_at, open_module, resize_panel, wait_until

import LightSeg

ANTERIOR, POSTERIOR = "Right anterior hippocampus", "Right posterior hippocampus"


@pytest.fixture
def ready(window):
    """The sample is loaded and a region is around its right hippocampus, all by clicks."""
    window.ui.openvinoBox.setChecked(False)
    choose(window.ui.precisionBox, "float32")
    choose(window.ui.deviceBox, "CPU")
    window.ui.sampleButton.click()
    window.ui.roiSliceButton.click()
    return window


def apply_and_wait(window):
    window.ui.applyButton.click()
    wait_until(lambda: not window.run.running)


def whole_volume(window):
    """Begin a job that takes long: the model has to find its place first."""
    window.logic.getParameterNode().roi = None
    window.ui.applyButton.click()
    assert window.run.running


def table(window):
    cells = window.ui.resultTable
    return [[cells.item(row, column).text() for column in range(2)] for row in range(cells.rowCount)]


def test_from_the_sample_to_a_segmentation(ready, screenshot, pictures):
    assert ready.ui.applyButton.enabled, ready.ui.applyButton.toolTip
    seen = []
    ready.ui.applyButton.click()
    assert ready.ui.applyButton.text == "Cancel" and ready.ui.progressBar.visible
    wait_until(lambda: seen.append(ready.ui.statusLabel.text) or "tile" in ready.ui.statusLabel.text)
    screenshot("running")
    wait_until(lambda: not ready.run.running)

    assert ready.ui.applyButton.text == "Apply" and not ready.ui.progressBar.visible
    assert ready.ui.statusLabel.text.startswith("Segmented in ")
    assert "float32" in ready.ui.lastRunLabel.text and "GB of memory" in ready.ui.lastRunLabel.text
    node = ready.logic.getParameterNode().result
    assert node.GetName() == "ICBM152 Hippocampus"
    assert ready.logic.getParameterNode().output is None, "a run of the same side makes a new one"
    (first, volume), (second, _other) = table(ready)
    assert (first, second) == (ANTERIOR, POSTERIOR) and 1.5 < float(volume) < 3.5
    screenshot("result")

    summary = ready.ui.summaryList
    assert [summary.item(n).text() for n in range(summary.count)] == [f"{v} ml  {name}" for name, v in table(ready)]
    resize_panel(360, 560)
    assert not in_view(ready.ui.resultTable) and in_view(summary)
    summary.itemClicked.emit(summary.item(0))
    wait_until(lambda: in_view(ready.ui.resultTable))

    ready.ui.copyTableButton.click()
    lines = qt.QApplication.clipboard().text().splitlines()
    assert lines[0] == "Segment\tVolume, ml" and lines[1].startswith(f"{ANTERIOR}\t")
    assert float(lines[1].split("\t")[1]) == pytest.approx(float(volume), abs=0.051)
    ready.ui.copyMethodsButton.click()
    sentence = qt.QApplication.clipboard().text()
    assert "hippocampus-mr-unet, version 1.0" in sentence and "Decathlon" in sentence

    ready.ui.show3DButton.click()
    assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    if opengl_works():
        from views import draw_views  # its displayable managers need OpenGL

        draw_views(ready.logic.getParameterNode().input1, node, pictures / "views of the result.png")
    ready.ui.editButton.click()
    editor = slicer.modules.SegmentEditorWidget.editor
    assert editor.segmentationNode() is node
    assert editor.sourceVolumeNode() is ready.logic.getParameterNode().input1
    assert not ready.parent.isEntered
    ready.parent.enter()
    assert [row[0] for row in table(ready)] == [ANTERIOR, POSTERIOR], "it is all there when the user comes back"


def test_the_expected_dice_is_beside_the_volumes_where_the_model_states_it(window):
    """The last segment of such a result is one of which the model says nothing."""
    cells = window.ui.resultTable
    add_result(window, add_head(), PAIR, 0)
    assert cells.isColumnHidden(2)
    add_result(window, add_head(), PAIR, 1)
    assert not cells.isColumnHidden(2)
    assert [cells.item(row, 2).text() for row in range(cells.rowCount)] == ["0.87", ""]
    window.ui.copyTableButton.click()
    head, first, last = qt.QApplication.clipboard().text().splitlines()
    assert head.endswith("\tVolume, ml\tExpected Dice") and first.endswith("\t0.87") and last.endswith("\t")


def test_confidence_lists_slices_and_a_click_goes_there(ready, monkeypatch, screenshot):
    places = []
    logic = types.SimpleNamespace(JumpSlicesToLocation=lambda *place: places.append(place))
    monkeypatch.setattr(slicer.modules, "markups", types.SimpleNamespace(logic=lambda: logic), raising=False)
    ready.ui.confidenceBox.click()
    apply_and_wait(ready)
    positions = ready.ui.lowConfidenceList
    assert positions.visible and 1 <= positions.count <= 5
    assert re.search(r"\d % certain at \d+, -\d+, -?\d+ mm \(R, A, S\)", positions.item(0).text())
    screenshot("confidence")
    positions.setCurrentRow(0)
    positions.itemClicked.emit(positions.item(0))
    positions.itemActivated.emit(positions.item(0))
    (r, a, s, centered), again = places
    assert again == (r, a, s, centered), "Enter does as a click"
    assert centered and 7 < r < 43 and -50 < a < 0 and -32 < s < 8
    confidence = slicer.mrmlScene.GetFirstNodeByName("ICBM152 confidence")
    assert confidence.GetDisplayNode().GetWindow() == 100
    ready.parent.exit()
    ready.parent.enter()
    assert positions.visible and positions.count >= 1, "the list is there again"


def test_a_job_that_ends_while_the_user_is_elsewhere_shows_its_result_later(ready):
    ready.ui.applyButton.click()
    ready.parent.exit()
    wait_until(lambda: not ready.run.running)
    ready.parent.enter()
    assert [row[0] for row in table(ready)] == [ANTERIOR, POSTERIOR]
    assert ready.ui.statusLabel.text.startswith("Segmented in ") and ready.ui.applyButton.enabled


def test_a_scene_that_is_saved_and_opened_again_shows_its_result(ready, tmp_path):
    ready.ui.confidenceBox.click()
    apply_and_wait(ready)
    expected, count = table(ready), ready.ui.lowConfidenceList.count
    scene = slicer.mrmlScene
    for kind, ending, storage in (
        ("vtkMRMLScalarVolumeNode", ".nrrd", "vtkMRMLVolumeArchetypeStorageNode"),
        ("vtkMRMLSegmentationNode", ".seg.nrrd", "vtkMRMLSegmentationStorageNode"),
    ):
        for number, node in enumerate(slicer.util.getNodesByClass(kind)):
            writer = scene.AddNewNodeByClass(storage)
            writer.SetFileName(str(tmp_path / f"{kind}-{number}{ending}"))
            node.SetAndObserveStorageNodeID(writer.GetID())
            assert writer.WriteData(node)
    scene.SetURL(str(tmp_path / "scene.mrml"))
    scene.Commit()
    scene.Clear(0)
    assert not table(ready)
    scene.Connect()
    wait_until(lambda: table(ready) == expected)
    assert ready.ui.lowConfidenceList.count == count
    assert ready.inputs.volumes()[0].GetName() == "ICBM152" and ready.ui.applyButton.enabled


def test_the_sentence_for_a_paper_names_no_segment_of_another_origin(ready):
    apply_and_wait(ready)
    node = ready.logic.getParameterNode().result
    node.GetSegmentation().AddEmptySegment("drawn", "Tumor drawn by hand")
    wait_until(lambda: len(table(ready)) == 3)
    assert ready.ui.methodsLabel.text.startswith("Right anterior hippocampus and right posterior hippocampus were")


def test_a_second_window_leaves_the_job_of_the_first_alone(ready):
    ready.ui.applyButton.click()
    second = LightSeg.LightSegWidget(slicer.qSlicerScriptedLoadableModuleWidget())
    second.setup()
    second.cleanup()
    wait_until(lambda: not ready.run.running)
    assert len(table(ready)) == 2


def test_two_more_clicks_bring_the_other_side_into_the_same_segmentation(ready):
    assert ready.ui.sideBox.currentText == "by the region: right"
    assert ready.ui.outputSelector.noneDisplay == "New segmentation"
    apply_and_wait(ready)
    let_slices_cross_at(-25, -25, -12)
    ready.ui.roiSliceButton.click()
    assert ready.ui.sideBox.currentText == "by the region: left"
    assert ready.ui.outputSelector.noneDisplay == "Add to ICBM152 Hippocampus"
    apply_and_wait(ready)
    wait_until(lambda: len(table(ready)) == 4)
    both = [ANTERIOR, POSTERIOR] + [name.replace("Right", "Left") for name in (ANTERIOR, POSTERIOR)]
    assert [row[0] for row in table(ready)] == both
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1

    assert ready.ui.outputSelector.noneDisplay == "New segmentation", "both sides are there"
    apply_and_wait(ready)
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 2


def test_what_the_user_chooses_goes_before_what_the_region_states(ready):
    choose(ready.ui.sideBox, "not specified")
    choose(ready.ui.outputSelector, "Create new Segmentation")
    for _run in range(2):
        apply_and_wait(ready)
    wait_until(lambda: len(table(ready)) == 4)
    assert [row[0] for row in table(ready)][:2] == ["Anterior hippocampus", "Posterior hippocampus"]
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


def test_the_result_hides_the_region_until_show_brings_it_back(ready):
    roi = ready.logic.getParameterNode().roi
    display = roi.GetDisplayNode()
    assert roi.GetDisplayVisibility() and ready.ui.roiVisibleBox.checked
    assert not display.GetFillVisibility(), "a fill would lie over what it is placed around"
    assert not display.GetPropertiesLabelVisibility() and not display.GetPointLabelsVisibility()
    apply_and_wait(ready)
    assert not roi.GetDisplayVisibility() and not ready.ui.roiVisibleBox.checked
    ready.ui.roiVisibleBox.click()
    assert roi.GetDisplayVisibility()
    apply_and_wait(ready)
    assert not roi.GetDisplayVisibility()


def test_without_a_region_apply_explains_and_offers_one(ready, model_without_finder):
    ready.refresh()
    ready.logic.getParameterNode().modelId = model_without_finder
    ready.logic.getParameterNode().roi = None
    assert not ready.ui.offerPart.visible
    ready.ui.applyButton.click()
    assert not ready.run.running and in_view(ready.ui.offerLabel) and in_view(ready.ui.offerSliceButton)
    assert "a region of 35 x 50 x 40 mm" in ready.ui.offerLabel.text
    ready.ui.offerSliceButton.click()
    assert not ready.ui.offerPart.visible and ready.logic.getParameterNode().roi is not None
    apply_and_wait(ready)
    assert [row[0] for row in table(ready)] == [ANTERIOR, POSTERIOR]


def test_a_volume_as_small_as_the_region_needs_none(window):
    slicer.util.addVolumeFromArray(np.random.default_rng(0).normal(size=(40, 50, 35)).astype(np.float32), name="Crop")
    wait_until(lambda: window.ui.applyButton.enabled)
    assert not window.ui.inputHint.visible
    window.ui.applyButton.click()
    assert window.run.running and not window.ui.offerPart.visible
    window.ui.applyButton.click()
    wait_until(lambda: not window.run.running)


@pytest.mark.slow
def test_from_a_head_to_its_brain_in_two_clicks(window):
    """What a new user does: nothing is chosen or set."""
    window.logic.getParameterNode().modelId = LightSeg.DEFAULT_MODEL
    for button in (window.ui.sampleButton, window.ui.applyButton):
        assert button.visible and button.enabled
        button.click()
    assert window.run.running
    wait_until(lambda: not window.run.running)
    volumes = {name: float(volume) for name, volume in table(window)}
    assert {"Left thalamus", "Right thalamus", "Brain stem"} <= set(volumes) and min(volumes.values()) > 0.1


@pytest.mark.slow
def test_from_the_sample_to_both_sides_in_two_clicks(window):
    """The model finds its place by itself: there is no region, and no question."""
    window.ui.openvinoBox.setChecked(False)
    for button in (window.ui.sampleButton, window.ui.applyButton):
        assert button.visible and button.enabled
        button.click()
    assert window.ui.roiSelector.noneDisplay == "Found automatically" and window.ui.sideBox.currentText == "as found"
    wait_until(lambda: not window.run.running)
    both = [name.replace("Right", side) for side in ("Left", "Right") for name in (ANTERIOR, POSTERIOR)]
    assert [row[0] for row in table(window)] == both
    assert all(1.5 < float(volume) < 3.5 for _name, volume in table(window))


@pytest.mark.slow
def test_from_the_sample_to_a_result_in_three_clicks(window):
    window.ui.openvinoBox.setChecked(False)
    clicks = [window.ui.sampleButton, window.ui.roiSliceButton, window.ui.applyButton]
    for button in clicks:
        assert button.visible and button.enabled
        button.click()
    wait_until(lambda: not window.run.running)
    assert [row[0] for row in table(window)] == [ANTERIOR, POSTERIOR]
    assert all(1.5 < float(volume) < 3.5 for _name, volume in table(window))


def test_an_edit_changes_the_table(ready):
    apply_and_wait(ready)
    node = ready.logic.getParameterNode().result
    node.GetSegmentation().RemoveSegment(node.GetSegmentation().GetNthSegmentID(0))
    wait_until(lambda: [row[0] for row in table(ready)] == [POSTERIOR])


def test_cancel_by_the_same_button(ready, screenshot):
    before = slicer.mrmlScene.GetNumberOfNodes()
    whole_volume(ready)
    wait_until(lambda: "tile" in ready.ui.statusLabel.text)
    ready.ui.applyButton.click()
    wait_until(lambda: not ready.run.running)
    assert ready.ui.statusLabel.text == "Canceled. Nothing was changed."
    assert ready.ui.applyButton.text == "Apply" and ready.ui.applyButton.enabled
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_what_goes_wrong_is_a_message_and_the_next_apply_works(ready, dialogs):
    roi = ready.logic.getParameterNode().roi
    roi.SetCenterWorld([500, 500, 500])
    apply_and_wait(ready)
    assert "is outside the volume" in dialogs.take().text
    ready.ui.roiSliceButton.click()
    apply_and_wait(ready)
    assert len(table(ready)) == 2


def test_a_scene_that_is_closed_while_it_runs(ready):
    whole_volume(ready)
    slicer.mrmlScene.Clear(0)
    wait_until(lambda: not ready.run.running)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert not ready.ui.applyButton.enabled and ready.ui.applyButton.text == "Apply"


def test_a_window_that_is_closed_ends_the_worker(scene, raised):
    window = open_module()
    window.ui.openvinoBox.setChecked(False)
    window.ui.sampleButton.click()
    whole_volume(window)
    worker = jobs.worker()
    wait_until(lambda: worker.pid is not None)
    close_module()
    assert worker.pid is None
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_the_result_shows_where_it_came_from(ready):
    apply_and_wait(ready)
    node = ready.logic.getParameterNode().result
    settings = json.loads(node.GetAttribute("LightSeg.Settings"))
    corners = np.array(settings.pop("roi_lps"))
    assert settings == {
        "precision": "float32",
        "split_sides": True,
        "mirror": False,
        "tile_overlap": None,
        "largest_component": "whole",
        "orientation": None,
        "outer_resampling": "model",
        "structures": [],
    }
    assert corners.shape == (8, 3) and corners.min(0).tolist() == [-43.0, -0.5, -31.5], "the box, in LPS mm"
    assert node.GetAttribute("LightSeg.ComputedIn") == "float32"
    assert node.GetAttribute("LightSeg.Model") == "hippocampus-mr-unet"
