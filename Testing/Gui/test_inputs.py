"""Volumes for the channels of a model, and the region: filled where it is clear, refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from user_actions import choose, shown_in, wait_until

BRATS = "brain-tumor-mr-slim-unetrv2"  # T1, T1ce, T2, FLAIR
HIPPOCAMPUS = "hippocampus-mr-unet"


def add_volume(name, shape=(6, 7, 8), spacing=1.0):
    node = slicer.util.addVolumeFromArray(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), name=name)
    node.SetSpacing(spacing, spacing, spacing)
    return node


def chosen(window):
    return [node.GetName() if node else None for node in window.inputs.volumes()]


@pytest.fixture
def brats(window):
    window.logic.getParameterNode().modelId = BRATS
    return window


def test_each_channel_has_a_selector_with_its_name(brats):
    labels = [brats.ui.inputLabel1, brats.ui.inputLabel2, brats.ui.inputLabel3, brats.ui.inputLabel4]
    assert [label.text for label in labels] == ["T1:", "T1ce:", "T2:", "FLAIR:"]
    assert all(label.visible for label in labels)
    brats.logic.getParameterNode().modelId = HIPPOCAMPUS
    assert [label.visible for label in labels] == [True, False, False, False]


@pytest.mark.parametrize(
    "names",
    [
        ("BraTS-0001_t1", "BraTS-0001_t1ce", "BraTS-0001_t2", "BraTS-0001_flair"),
        ("3: AX T1", "7: AX T1 GD", "4: AX T2", "5: AX T2 FLAIR"),
        ("t1n", "t1c", "t2w", "t2f"),
        ("T1 MPRAGE", "T1 MPRAGE POST", "T2w", "sub-01_FLAIR"),
        ("sub-01_T1w", "sub-01_ce-gadolinium_T1w", "sub-01_T2w", "sub-01_FLAIR"),
    ],
)
def test_volumes_are_matched_by_their_names_in_any_order(brats, names):
    for name in reversed(names):
        add_volume(name)
    wait_until(lambda: None not in chosen(brats))
    assert chosen(brats) == list(names)


def test_what_is_not_clear_is_left_to_the_user(brats):
    add_volume("T1")
    add_volume("T1 repeated")
    add_volume("Localizer")
    slicer.app.processEvents()
    assert chosen(brats) == [None] * 4


def test_a_single_channel_takes_the_first_volume_and_keeps_what_the_user_chose(window):
    add_volume("Anything")
    wait_until(lambda: chosen(window) == ["Anything"])
    add_volume("T1")
    slicer.app.processEvents()
    assert chosen(window) == ["Anything"]


def test_apply_names_the_channel_that_is_missing_and_one_that_is_chosen_twice(brats):
    add_volume("Scan")
    assert brats.ui.applyButton.toolTip == brats.ui.statusLabel.text == "Choose the volume for T1"
    for number in (1, 2):
        choose(getattr(brats.ui, f"inputSelector{number}"), "Scan")
    assert not brats.ui.applyButton.enabled
    assert brats.ui.applyButton.toolTip == "Scan is chosen twice: choose a different volume for each channel"


def test_channels_on_different_grids_are_refused_wherever_the_difference_comes_from(brats):
    parameters = brats.logic.getParameterNode()
    parameters.input1 = add_volume("A")
    parameters.input2 = moved = add_volume("B")
    reason = "B and A do not have the same grid"
    assert reason not in brats.ui.applyButton.toolTip
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[0, 3] = 5
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    moved.SetAndObserveTransformNodeID(transform.GetID())
    assert reason in brats.ui.applyButton.toolTip
    parameters.input2 = None
    coarse = add_volume("B", spacing=2.0)
    parameters.input2 = coarse
    assert reason in brats.ui.applyButton.toolTip


@pytest.mark.parametrize(
    ("shape", "words"),
    [((6, 7, 8, 3), "several values per voxel"), ((1, 7, 8), "is a single slice")],
)
def test_images_that_are_not_volumes_are_refused(window, shape, words):
    kind = "vtkMRMLVectorVolumeNode" if len(shape) == 4 else "vtkMRMLScalarVolumeNode"
    node = slicer.util.addVolumeFromArray(np.zeros(shape, np.uint8), name="Picture", nodeClassName=kind)
    window.logic.getParameterNode().input1 = node
    assert words in window.ui.applyButton.toolTip and not window.ui.applyButton.enabled


def test_label_maps_are_not_offered(window):
    slicer.util.addVolumeFromArray(
        np.zeros((6, 7, 8), np.uint8), name="Drawn", nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    assert "Drawn" not in shown_in(window.ui.inputSelector1)
    wait_until(lambda: window.ui.applyButton.toolTip == "Choose the volume for T1")


def test_a_volume_that_gets_its_voxels_later_can_be_segmented_then(window):
    node = add_volume("T1", shape=(1, 7, 8))
    slicer.app.processEvents()
    assert chosen(window) == [None], "it is not guessed as it is"
    choose(window.ui.inputSelector1, "T1")
    wait_until(lambda: "is a single slice" in window.ui.applyButton.toolTip)
    slicer.util.updateVolumeFromArray(node, np.arange(504.0).reshape(9, 7, 8))
    assert window.ui.applyButton.enabled


def test_a_volume_at_no_plausible_place_is_refused_with_the_reason(window):
    far = add_volume("Far")
    far.SetOrigin(2e7, 0, 0)
    slicer.app.processEvents()
    assert chosen(window) == [None], "it is not guessed"
    choose(window.ui.inputSelector1, "Far")
    assert "origin at -2e+07, 0, 0 mm" in window.ui.applyButton.toolTip and not window.ui.applyButton.enabled
    far.SetOrigin(0, 0, 0)
    assert window.ui.applyButton.enabled


def test_a_transform_that_flattens_a_volume_is_refused_with_the_reason(window, make_transform):
    """A registration that failed leaves no extent along one axis; Apply is free again once it is taken away."""
    volume = add_volume("T1")
    wait_until(lambda: chosen(window) == ["T1"])
    volume.SetAndObserveTransformNodeID(make_transform(np.diag([1.0, 1.0, 0.0, 1.0])).GetID())
    reason = "T1: T1 has no plausible place under its transform. Correct the transform"
    assert window.ui.applyButton.toolTip.startswith(reason) and not window.ui.applyButton.enabled
    volume.SetAndObserveTransformNodeID(None)
    assert window.ui.applyButton.enabled


def test_a_volume_without_voxels_is_refused_with_the_reason(window, model_without_finder):
    """Also for a model of a small region, which looks at the size of the volume; a region finds no size in it."""
    window.refresh()
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    window.logic.getParameterNode().modelId = model_without_finder
    slicer.app.processEvents()
    assert chosen(window) == [None], "it is not guessed"
    choose(window.ui.inputSelector1, "Empty")
    assert window.ui.applyButton.toolTip.endswith("Empty has no voxels: load it again")
    assert not window.ui.applyButton.enabled
    window.ui.roiVolumeButton.click()
    assert min(window.logic.getParameterNode().roi.GetSize()) >= 0


def test_a_model_of_more_channels_than_the_window_has_states_where_it_runs(window, make_model, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(make_model(5), tmp_path / "users models" / "tiny-5")
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "users models"))
    window.refresh()
    window.logic.getParameterNode().modelId = "tiny-5"
    assert "needs 5 volumes" in window.ui.applyButton.toolTip and not window.ui.applyButton.enabled


def test_hints_about_a_frame_of_a_sequence_and_a_missing_region(window, model_without_finder):
    window.refresh()
    window.logic.getParameterNode().modelId = model_without_finder
    volume = add_volume("Beating heart", spacing=20.0)
    wait_until(lambda: chosen(window) == ["Beating heart"])
    assert window.ui.inputHint.text == "This model was made for a region of 35 x 50 x 40 mm, not for a whole volume."
    window.ui.roiSliceButton.click()
    assert not window.ui.inputHint.visible

    sequence = slicer.mrmlScene.AddNode(slicer.vtkMRMLSequenceNode())
    sequence.SetDataNodeAtValue(volume, "0")
    browser = slicer.mrmlScene.AddNode(slicer.vtkMRMLSequenceBrowserNode())
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(volume, sequence, False)
    window.logic.getParameterNode().input1 = None
    window.logic.getParameterNode().input1 = volume
    assert "Beating heart is one frame of a sequence" in window.ui.inputHint.text and window.ui.inputHint.visible
    assert window.ui.applyButton.enabled


# --- the region ----------------------------------------------------------------------------------


def bounds(node):
    found = [0.0] * 6
    node.GetRASBounds(found)
    return found


def test_a_new_region_starts_as_large_as_the_volume(window):
    volume = add_volume("T1")
    wait_until(lambda: chosen(window) == ["T1"])

    choose(window.ui.roiSelector, "Create new ROI")

    roi = window.logic.getParameterNode().roi
    assert bounds(roi) == pytest.approx(bounds(volume))
    assert roi.GetDisplayNode().GetHandlesInteractive()


def test_a_region_can_be_fitted_hidden_and_placed_where_the_slices_cross(window):
    volume = add_volume("T1")
    wait_until(lambda: chosen(window) == ["T1"])
    for name in slicer.app.layoutManager().sliceViewNames():
        slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().JumpSlice(25, -30, -12)

    window.ui.roiSliceButton.click()

    roi = window.logic.getParameterNode().roi
    center = [0.0] * 3
    roi.GetCenterWorld(center)
    assert center == pytest.approx([25, -30, -12])
    assert roi.GetSize() == pytest.approx((35, 50, 40)), "as large as the model was made for"
    assert window.ui.roiVisibleBox.checked

    window.ui.roiVisibleBox.click()
    assert not roi.GetDisplayVisibility()
    window.ui.roiVolumeButton.click()
    assert bounds(roi) == pytest.approx(bounds(volume))
    assert roi is window.logic.getParameterNode().roi and roi.GetDisplayVisibility()


def test_a_region_that_is_dragged_to_the_other_side_changes_the_proposed_side(window):
    add_volume("T1", shape=(20, 20, 20), spacing=9.0).SetOrigin(-85, -85, -85)
    wait_until(lambda: chosen(window) == ["T1"])
    window.ui.roiSliceButton.click()
    roi = window.logic.getParameterNode().roi
    for r in range(40, -45, -5):
        roi.SetCenterWorld([r, -25, -12])
    wait_until(lambda: window.ui.sideBox.currentText == "by the region: left")
    roi.SetCenterWorld([0, -25, -12])
    wait_until(lambda: window.ui.sideBox.currentText == "by the region")
    assert window.output.side() is None, "a side that is not clear is not stated"


def test_slices_that_are_side_by_side_to_compare_do_not_matter(window, monkeypatch):
    from fakes.application import SliceWidget

    manager = slicer.app.layoutManager()
    for name in manager.sliceViewNames():
        manager.sliceWidget(name).mrmlSliceNode().JumpSlice(25, -30, -12)
    beside = {name: SliceWidget(name, "Axial") for name in ("Compare1", "Compare2")}
    monkeypatch.setattr(manager, "_widgets", {**beside, **manager._widgets})
    window.ui.roiSliceButton.click()
    center = [0.0] * 3
    window.logic.getParameterNode().roi.GetCenterWorld(center)
    assert center == pytest.approx([25, -30, -12])


def test_a_layout_with_one_slice_alone_gives_the_middle_of_it(window, monkeypatch):
    manager = slicer.app.layoutManager()
    red = manager.sliceWidget("Red")
    red.mrmlSliceNode().JumpSliceByCentering(30, -20, 17)
    monkeypatch.setattr(manager, "_widgets", {"Red": red})
    window.ui.roiSliceButton.click()
    center = [0.0] * 3
    window.logic.getParameterNode().roi.GetCenterWorld(center)
    assert center == pytest.approx([30, -20, 17])


def test_a_region_of_a_moved_volume_is_around_it_in_the_world(window, make_transform):
    volume = add_volume("T1")
    matrix = np.eye(4)
    matrix[:3, 3] = 40, 50, 60
    volume.SetAndObserveTransformNodeID(make_transform(matrix).GetID())
    wait_until(lambda: chosen(window) == ["T1"])

    window.ui.roiVolumeButton.click()

    assert bounds(window.logic.getParameterNode().roi) == pytest.approx(bounds(volume))
    assert bounds(volume)[0] == pytest.approx(39.5)
