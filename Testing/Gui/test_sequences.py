"""A sequence of volumes, segmented frame by frame into a sequence of segmentations that plays beside it.

The nodes and the logic of the module Sequences are Slicer's own.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import beating_phantom
import numpy as np
import pytest
import slicer
from beating_phantom import AFFINE, COUNT, STEP_MS, voxels, write_heart_model
from LightSegLib.core.errors import InputError
from LightSegLib.core.paths import user_models_folder
from LightSegLib.slicer_app import scene as nodes
from run_options import PLAIN
from user_actions import choose, close_application_during, wait_until

import LightSeg

BLOOD = "Left ventricle"
FRAMES = 4


@pytest.fixture(scope="module")
def heart(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "beating-heart"
    write_heart_model(folder)
    return str(folder)


@pytest.fixture
def cine(scene: Any) -> Any:
    """Half a beat as Slicer loads it: the volume that shows the current frame; `damaged` replaces frames."""

    def load(damaged: dict[int, np.ndarray] | None = None) -> Any:
        sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
        sequence.SetIndexName("TriggerTime")
        sequence.SetIndexUnit("ms")
        for number in range(FRAMES):
            frame = slicer.vtkMRMLScalarVolumeNode()
            frame.SetName("Cine")
            frame.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(AFFINE))
            slicer.util.updateVolumeFromArray(frame, (damaged or {}).get(number, voxels(number)))
            sequence.SetDataNodeAtValue(frame, f"{number * STEP_MS:g}")
        browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Cine browser")
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        return browser.GetProxyNode(sequence)

    return load


def start(volume: Any, heart: str) -> Any:
    return LightSeg.LightSegLogic().startSequence(volume, heart, options=PLAIN)


def blood(node: Any) -> float:
    return next(ml for name, _color, ml in nodes.segment_volumes(node) if name == BLOOD)


def expected(frame: int) -> float:
    return float((voxels(frame) > 250).sum()) * beating_phantom.SPACING**3 / 1000


def test_every_frame_is_segmented_and_plays_beside_the_volume(cine: Any, heart: str, warm_worker: None) -> None:
    volume = cine()
    browser = nodes.browser_of(volume)
    browser.SetSelectedItemNumber(2)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    before = slicer.util.arrayFromVolume(volume).copy()
    job = start(volume, heart)
    seen = []
    job.progress.connect(lambda progress: seen.append(progress.step))
    job.wait()
    assert job.state == "done", job.error
    assert browser.GetSelectedItemNumber() == 2, "the frame that was shown stays"
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), before)
    assert any(step.startswith("Frame 3 of 4: ") for step in seen)
    result = job.segmentationNode
    assert browser.IsProxyNodeID(result.GetID()) and blood(result) == pytest.approx(expected(2))
    for number in (0, 1, 3):
        browser.SetSelectedItemNumber(number)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        assert blood(result) == pytest.approx(expected(number))
    table = job.tableNode.GetTable()
    assert [table.GetColumn(n).GetName() for n in range(3)] == ["Trigger time (ms)", "Myocardium (ml)", f"{BLOOD} (ml)"]
    assert [table.GetColumn(0).GetValue(n) for n in range(FRAMES)] == [n * STEP_MS for n in range(FRAMES)]
    fraction = 100 * (1 - expected(3) / expected(0))
    assert any(f"ejection fraction {fraction:.1f} %, from 4 of 4 frames." in notice for notice in job.notices)
    hidden = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if node is not volume]
    assert not hidden and len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


def test_slicer_that_is_closed_while_the_console_waits_ends_the_frames_to_come(
    cine: Any, heart: str, warm_worker: None
) -> None:
    job = start(cine(), heart)
    close_application_during(job.wait)
    assert job.state == "canceled" and len(job.done) < FRAMES


def test_frames_of_a_cine_under_a_transform_are_where_the_heart_is(
    cine: Any, heart: str, warm_worker: None, make_transform: Any
) -> None:
    """A registration moves the cine, turns it and scales it: every frame lies on it, and its volumes are scaled."""
    volume = cine()
    to_world = np.array([[0, -1.25, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]])
    volume.SetAndObserveTransformNodeID(make_transform(to_world).GetID())
    job = start(volume, heart)
    job.wait()
    assert job.state == "done", job.error
    browser, result = nodes.browser_of(volume), job.segmentationNode
    for number in (3, 1, 0):
        browser.SetSelectedItemNumber(number)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        found = np.zeros(6)
        result.GetRASBounds(found)
        index = np.argwhere(voxels(number) > 150)[:, ::-1]
        corners = np.array(list(itertools.product(*zip(index.min(axis=0) - 0.5, index.max(axis=0) + 0.5, strict=True))))
        placed = (np.c_[corners, np.ones(8)] @ (to_world @ AFFINE).T)[:, :3]
        np.testing.assert_allclose(found[::2], placed.min(axis=0), atol=1e-3)
        np.testing.assert_allclose(found[1::2], placed.max(axis=0), atol=1e-3)
        assert blood(result) == pytest.approx(1.25 * expected(number))
        assert job.tableNode.GetTable().GetColumn(2).GetValue(number) == pytest.approx(1.25 * expected(number))


def play(volume: Any, kind: str, values: list[Any], browser: Any = None) -> Any:
    """Let a node change with the frames of a volume: it takes the content of each of `values`."""
    scene, browser = slicer.mrmlScene, browser or nodes.browser_of(volume)
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", kind)
    for number, value in enumerate(values):
        sequence.SetDataNodeAtValue(value, f"{number * STEP_MS:g}")
    if browser.GetMasterSequenceNode() is None:
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    else:
        browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return browser.GetProxyNode(sequence)


def corrections() -> list[Any]:
    """A transform for each frame: it shifts by 100 mm and stretches by a quarter more than in the frame before."""
    found = []
    for number in range(FRAMES):
        node = slicer.vtkMRMLLinearTransformNode()
        matrix = np.diag([1 + number / 4, 1, 1, 1])
        matrix[:3, 3] = 100 * number
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        found.append(node)
    return found


def transforms_and_volumes() -> list[str]:
    """Return the nodes' ids."""
    kinds = ("vtkMRMLScalarVolumeNode", "vtkMRMLLinearTransformNode")
    return [node.GetID() for kind in kinds for node in slicer.util.getNodesByClass(kind)]


def test_each_frame_is_segmented_under_its_own_transform(cine: Any, heart: str, warm_worker: None) -> None:
    """A registration of the frames plays beside the cine, above it a transform that stays; the region is on frame 3."""
    volume = cine()
    still = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Still")
    moving = play(volume, "Registration", corrections())
    volume.SetAndObserveTransformNodeID(still.GetID())
    still.SetAndObserveTransformNodeID(moving.GetID())
    browser = nodes.browser_of(volume)
    browser.SetSelectedItemNumber(2)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    bounds = np.zeros(6)
    volume.GetRASBounds(bounds)
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter((bounds[::2] + bounds[1::2]) / 2)
    roi.SetSize(bounds[1::2] - bounds[::2])
    before = transforms_and_volumes()
    job = LightSeg.LightSegLogic().startSequence(volume, heart, roi, options=PLAIN)
    job.wait()
    assert job.state == "done" and 3 in job.done, job.error
    assert 1 in job.failures and "region" in str(job.failures[1]), "frame 1 is 200 mm away"
    browser.SetSelectedItemNumber(0)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    again = start(volume, heart)
    again.wait()
    assert again.state == "done" and again.done == [1, 2, 3, 4]
    column = again.tableNode.GetTable().GetColumn(2)
    stretched = [(1 + number / 4) * expected(number) for number in range(FRAMES)]
    assert [column.GetValue(number) for number in range(FRAMES)] == pytest.approx(stretched)
    assert again.segmentationNode.GetParentTransformNode() is still
    assert transforms_and_volumes() == before, "no copy is left"


def test_a_frame_without_a_transform_of_its_own_fails(cine: Any, heart: str, warm_worker: None) -> None:
    volume = cine()
    moving = play(volume, "Registration", corrections()[:2])
    volume.SetAndObserveTransformNodeID(moving.GetID())
    job = start(volume, heart)
    job.wait()
    assert job.done == [1, 2] and list(job.failures) == [3, 4]
    assert "Registration has no transform at frame 3. Add it" in str(job.failures[3])


def test_a_transform_that_another_browser_plays_is_refused(cine: Any, heart: str) -> None:
    """Nobody knows which of its states goes with which frame."""
    volume = cine()
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Tracking")
    volume.SetAndObserveTransformNodeID(play(volume, "Probe", corrections(), other).GetID())
    with pytest.raises(InputError, match="Probe is played by Tracking, so what it is in each frame of Cine browser"):
        start(volume, heart)


def test_a_region_that_moves_with_the_frames_is_refused(cine: Any, heart: str) -> None:
    volume = cine()
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Around the heart")
    roi.SetCenter((0, 0, 0))
    roi.SetSize((50, 50, 50))
    roi.SetAndObserveTransformNodeID(play(volume, "Registration", corrections()).GetID())
    with pytest.raises(InputError, match="Around the heart changes with the frame that is shown"):
        LightSeg.LightSegLogic().startSequence(volume, heart, roi, options=PLAIN)


def test_cancel_leaves_the_finished_frames_and_the_next_run_goes_on(cine: Any, heart: str, warm_worker: None) -> None:
    volume = cine()
    job = start(volume, heart)
    job.progress.connect(lambda progress: job.cancel() if progress.step.startswith("Frame 3") else None)
    job.wait()
    assert job.state == "canceled" and job.framesLeft == FRAMES - 2
    kept = job.frames.target
    assert kept.GetNumberOfDataNodes() == 2 and not slicer.util.getNodesByClass("vtkMRMLLabelMapVolumeNode")
    again = start(volume, heart)
    seen = []
    again.progress.connect(lambda progress: seen.append(progress.step.split(":")[0]))
    again.wait()
    assert again.state == "done" and again.frames.target is kept and kept.GetNumberOfDataNodes() == FRAMES
    assert set(seen) == {"Frame 3 of 4", "Frame 4 of 4"}


def test_a_run_goes_on_with_its_own_volume_alone(cine: Any, heart: str, warm_worker: None) -> None:
    """A browser plays two series, as of magnitude and phase: what was begun on one is not completed with the other."""
    volume = cine()
    browser = nodes.browser_of(volume)
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Other")
    for number in range(FRAMES):
        other.SetDataNodeAtValue(browser.GetMasterSequenceNode().GetNthDataNode(number), f"{number * STEP_MS:g}")
    browser.AddSynchronizedSequenceNode(other)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    job = start(volume, heart)
    when_frame_begins(job, 2, job.cancel)
    job.wait()
    assert job.framesLeft == FRAMES - 1
    again = start(browser.GetProxyNode(other), heart)
    again.cancel()
    again.wait()
    assert again.framesLeft == FRAMES
    resumed = start(volume, heart)
    resumed.cancel()
    resumed.wait()
    assert resumed.framesLeft == FRAMES - 1


def test_a_frame_that_fails_leaves_the_others(cine: Any, heart: str, warm_worker: None) -> None:
    volume = cine({1: np.full(beating_phantom.SHAPE, 7, np.int16)})
    job = start(volume, heart)
    job.wait()
    assert job.state == "done" and list(job.failures) == [2]
    assert any("Frame 2 failed" in notice and "constant" in notice for notice in job.notices)
    assert any("ejection fraction" in notice and "from 3 of 4 frames." in notice for notice in job.notices)
    assert job.frames.target.GetNumberOfDataNodes() == FRAMES - 1
    browser = nodes.browser_of(volume)
    browser.SetSelectedItemNumber(1)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    assert nodes.segment_volumes(job.segmentationNode) == [], "nothing is shown, least of all another frame's segments"


def test_a_failed_frame_stays_without_segments_when_it_is_the_one_on_display(
    cine: Any, heart: str, warm_worker: None
) -> None:
    """It is no copy of its neighbor, which would count as done and as a volume of the heart."""
    volume = cine({0: np.full(beating_phantom.SHAPE, 7, np.int16)})
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    bounds = np.zeros(6)
    volume.GetRASBounds(bounds)
    roi.SetCenter((bounds[::2] + bounds[1::2]) / 2)
    roi.SetSize(bounds[1::2] - bounds[::2])
    job = LightSeg.LightSegLogic().startSequence(volume, heart, roi, options=PLAIN)
    job.wait()
    assert job.state == "done" and list(job.failures) == [1] and job.framesLeft == 1
    assert [job.tableNode.GetTable().GetColumn(0).GetValue(n) for n in range(3)] == [STEP_MS, 2 * STEP_MS, 3 * STEP_MS]
    assert nodes.segment_volumes(job.segmentationNode) == []


def test_each_frame_keeps_its_own_provenance_and_the_sequence_what_is_known_of_all(
    cine: Any, heart: str, warm_worker: None
) -> None:
    volume = cine()
    job = start(volume, heart)
    job.wait()
    browser, result = nodes.browser_of(volume), job.segmentationNode
    seconds = []
    for number in (2, 0, 1, 3):
        browser.SetSelectedItemNumber(number)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        seconds.append(nodes.provenance_of(result)["seconds"])
        assert any("ejection fraction" in notice for notice in nodes.notices_of(result))
    assert sum(seconds) == pytest.approx(job.seconds)


def when_frame_begins(job: Any, number: int, action: Any) -> None:
    """Once, at the first report on a frame."""
    done: list[int] = []

    def react(progress: Any) -> None:
        if progress.step.startswith(f"Frame {number} ") and not done:
            done.append(number)
            action()

    job.progress.connect(react)


REMOVED = {
    "the volume": lambda volume: slicer.mrmlScene.RemoveNode(volume),
    "the browser": lambda volume: slicer.mrmlScene.RemoveNode(nodes.browser_of(volume)),
}


@pytest.mark.parametrize("what", REMOVED)
def test_what_makes_the_frames_play_is_removed_while_they_are_segmented(
    what: str, cine: Any, heart: str, warm_worker: None
) -> None:
    """The user tidies up meanwhile: the job ends with a sentence, and the finished frames stay."""
    volume = cine()
    job = start(volume, heart)
    ends = []
    job.finished.connect(lambda ended: ends.append(ended.state))
    when_frame_begins(job, 3, lambda: REMOVED[what](volume))
    job.wait()
    assert ends == [job.state] == ["failed"]
    assert "was removed from the scene, so no more frames were segmented" in str(job.error)
    assert job.frames.target.GetNumberOfDataNodes() == 3 and job.tableNode is None
    shown = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert shown == [job.segmentationNode], "the frame that was computed meanwhile is with the others"


def test_frames_that_lost_their_browser_play_in_a_new_one_and_the_others_follow(
    cine: Any, heart: str, warm_worker: None
) -> None:
    """As the message advises: nothing that was computed is computed again."""
    volume = cine()
    old = nodes.browser_of(volume)
    source = old.GetMasterSequenceNode()
    job = start(volume, heart)
    when_frame_begins(job, 2, lambda: slicer.mrmlScene.RemoveNode(old))
    job.wait()
    assert "those that are done stay in the sequence Cine" in str(job.error) and "Put Cine into a browser" in str(
        job.error
    )
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "New browser")
    browser.SetAndObserveMasterSequenceNodeID(source.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    again = start(browser.GetProxyNode(source), heart)
    again.wait()
    assert again.state == "done" and again.done == [3, 4] and again.frames.target is job.frames.target
    for number in range(FRAMES):
        browser.SetSelectedItemNumber(number)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        assert blood(again.segmentationNode) == pytest.approx(expected(number))


def test_a_scene_that_is_closed_ends_the_segmentation_of_its_frames(cine: Any, heart: str, warm_worker: None) -> None:
    job = start(cine(), heart)
    ends = []
    job.finished.connect(lambda ended: ends.append(ended.state))
    when_frame_begins(job, 3, lambda: slicer.mrmlScene.Clear(0))
    job.wait()
    assert ends == [job.state] == ["canceled"] and job.framesLeft == FRAMES
    left = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLSequenceNode", "vtkMRMLTableNode")
    assert not [node for kind in left for node in slicer.util.getNodesByClass(kind)]


def test_the_segmentations_are_removed_while_more_are_made(cine: Any, heart: str, warm_worker: None) -> None:
    """As with a single segmentation, a new one takes what comes; the next run makes the others again."""
    volume = cine()
    job = start(volume, heart)
    when_frame_begins(job, 3, lambda: slicer.mrmlScene.RemoveNode(job.frames.target))
    job.wait()
    assert job.state == "done" and job.framesLeft == 2
    assert job.segmentationNode.GetScene() is slicer.mrmlScene
    assert any("from 2 of 4 frames" in notice for notice in job.notices)


def test_a_fault_of_the_program_ends_the_job_all_the_same(
    cine: Any, heart: str, warm_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start(cine(), heart)
    ends = []
    job.finished.connect(lambda ended: ends.append(ended.state))
    monkeypatch.setattr(job.frames, "course", lambda: {}["nothing"])
    job.wait()
    assert ends == ["failed"] and "error in the program (KeyError" in str(job.error)
    assert job.frames.target.GetNumberOfDataNodes() == FRAMES


def test_a_confidence_of_all_frames_is_refused(cine: Any, heart: str) -> None:
    with pytest.raises(InputError, match="without a confidence"):
        LightSeg.LightSegLogic().startSequence(cine(), heart, options=replace(PLAIN, confidence=True))


def test_a_sequence_without_frames_is_refused(cine: Any, heart: str) -> None:
    volume = cine()
    nodes.browser_of(volume).GetMasterSequenceNode().RemoveAllDataNodes()
    with pytest.raises(InputError, match="shows a sequence without frames"):
        start(volume, heart)


def test_a_volume_that_shows_no_sequence_is_refused(make_volume: Any, heart: str) -> None:
    with pytest.raises(InputError, match="T1 does not show a frame of a sequence"):
        start(make_volume(), heart)


@pytest.fixture
def heart_window(window: Any) -> Any:
    """The window with the model of the heart, in the options of the tests."""
    folder = user_models_folder() / "beating"
    if not folder.exists():  # from the test before
        write_heart_model(folder)
    window.refresh()
    window.logic.getParameterNode().modelId = "beating"
    window.ui.openvinoBox.setChecked(False)
    choose(window.ui.precisionBox, "float32")
    return window


def test_the_window_offers_all_frames_of_a_sequence_alone(heart_window: Any, cine: Any) -> None:
    window, volume = heart_window, cine()
    slicer.util.addVolumeFromArray(voxels(0), name="Still")
    choose(window.ui.inputSelector1, "Still")
    assert not window.ui.framesBox.visible
    choose(window.ui.inputSelector1, volume.GetName())
    assert window.ui.framesBox.visible and "only the displayed frame" in window.ui.inputHint.text
    window.ui.framesBox.setChecked(True)
    assert "all are segmented" in window.ui.inputHint.text
    window.ui.applyButton.click()
    assert window.ui.applyButton.text == "Cancel"
    wait_until(lambda: not window.run.running)
    assert window.ui.statusLabel.text.startswith("Segmented 4 of 4 frames in ")
    result = window.logic.getParameterNode().result
    assert blood(result) == pytest.approx(expected(0)) and COUNT > FRAMES
    assert "ejection fraction" in window.ui.noticesLabel.text


def test_what_does_not_count_with_all_frames_cannot_be_chosen(heart_window: Any, cine: Any) -> None:
    """Segmentation and confidence, with the reason; chosen before, they are left alone and count again later."""
    window, ui = heart_window, heart_window.ui
    chosen = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    choose(ui.inputSelector1, cine().GetName())
    choose(ui.outputSelector, "Mine")
    ui.confidenceBox.setChecked(True)
    tips = [ui.outputSelector.toolTip, ui.confidenceBox.toolTip]
    ui.framesBox.setChecked(True)
    assert not ui.outputSelector.enabled and not ui.confidenceBox.enabled
    assert ui.outputSelector.toolTip == ui.confidenceBox.toolTip
    assert "new sequence, without a confidence" in ui.confidenceBox.toolTip
    ui.applyButton.click()
    job = window.run._job
    wait_until(lambda: not window.run.running)
    assert job.state == "done" and not chosen.GetSegmentation().GetNumberOfSegments()
    ui.framesBox.setChecked(False)
    assert ui.outputSelector.enabled and ui.confidenceBox.enabled and ui.confidenceBox.checked
    assert [ui.outputSelector.toolTip, ui.confidenceBox.toolTip] == tips


def test_the_window_names_the_frames_that_failed(heart_window: Any, cine: Any) -> None:
    """No plain success: how many of how many, which not and why, in the seconds of all together."""
    window, flat = heart_window, np.full(beating_phantom.SHAPE, 7, np.int16)
    choose(window.ui.inputSelector1, cine({0: flat, 2: flat}).GetName())
    window.ui.framesBox.setChecked(True)
    window.ui.applyButton.click()
    job = window.run._job
    wait_until(lambda: not window.run.running)
    text = window.status.text
    assert text.startswith(f"Segmented 2 of 4 frames in {job.seconds:.1f} s on ") and text.endswith("again: 1, 3.")
    frames = [job.frames.target.GetNthDataNode(number) for number in range(2)]
    assert job.seconds == pytest.approx(sum(nodes.provenance_of(node)["seconds"] for node in frames))
    assert window.ui.copyDetailsButton.visible
    assert "from 2 of 4 frames" in window.ui.noticesLabel.text and "Frames 1, 3 failed" in window.ui.noticesLabel.text


def test_the_window_is_free_again_after_the_scene_was_closed(heart_window: Any, cine: Any) -> None:
    window = heart_window
    choose(window.ui.inputSelector1, cine().GetName())
    window.ui.framesBox.setChecked(True)
    window.ui.applyButton.click()
    when_frame_begins(window.run._job, 3, lambda: slicer.mrmlScene.Clear(0))
    wait_until(lambda: not window.run.running)
    assert window.ui.applyButton.text == "Apply" and not window.ui.progressBar.visible
