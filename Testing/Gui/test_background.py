"""A job beside the application: real scene, real worker, real event loop; and what the user does meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from LightSegLib.core.errors import InputError
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.slicer_app import jobs
from run_options import PLAIN
from user_actions import close_application_during, wait_until
from waiting import gone

import LightSeg

MODEL = "hippocampus-mr-unet"
MOVE = np.array([[0, -1, 0, 30], [1, 0, 0, -20], [0, 0, 1, 10], [0, 0, 0, 1]], float)


@pytest.fixture
def logic(warm_worker: None) -> Any:
    return LightSeg.LightSegLogic()


@pytest.fixture
def start(logic: Any, volume: Any, region: Any) -> Callable[..., Any]:
    """Starts a job on the sample's right hippocampus."""

    def run(**options: Any) -> Any:
        names = InferenceOptions.__dataclass_fields__
        chosen = replace(PLAIN, **{name: value for name, value in options.items() if name in names})
        others = {name: value for name, value in options.items() if name not in names}
        return logic.start(volume, **{"model": MODEL, "roiNode": region, "options": chosen} | others)

    return run


@pytest.fixture
def volume(scene: Any) -> Any:
    return LightSeg.loadSample()


@pytest.fixture
def region(volume: Any) -> Any:
    (lower, upper) = next(r["corners"] for r in LightSeg.sampleRois() if r["side"] == "right")
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Right")
    roi.SetCenter([(a + b) / 2 for a, b in zip(lower, upper, strict=True)])
    roi.SetSize([abs(b - a) for a, b in zip(lower, upper, strict=True)])
    return roi


def finished(job: Any) -> Any:
    wait_until(lambda: job.state != "running")
    return job


def bounds(segmentationNode: Any) -> np.ndarray:
    """Of all segments, in RAS mm of the world: [2, 3]."""
    box = np.zeros(6)
    segmentationNode.GetRASBounds(box)
    return box.reshape(3, 2).T


def nodes() -> set[str]:
    scene = slicer.mrmlScene
    return {scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())}


@pytest.mark.slow
def test_it_gives_what_segment_gives_with_progress_and_confidence(start, logic, volume, region):
    expected = logic.segment(volume, MODEL, roiNode=region, options=PLAIN)
    reports, ends = [], []

    job = start(confidence=True)
    job.progress.connect(reports.append)
    job.finished.connect(ends.append)
    assert job.state == "running"
    finished(job)

    assert job.state == "done" and ends == [job] and job.error is None
    np.testing.assert_allclose(bounds(job.segmentationNode), bounds(expected))
    names = [job.segmentationNode.GetSegmentation().GetNthSegment(n).GetName() for n in range(2)]
    assert names == ["Anterior hippocampus", "Posterior hippocampus"]
    assert any(report.tiles and report.tile == report.tiles for report in reports)
    confidence = slicer.util.arrayFromVolume(job.confidenceNode)
    assert confidence.shape == slicer.util.arrayFromVolume(volume).shape
    assert 90 < confidence.max() <= 100 and confidence.min() == 0
    box = bounds(job.segmentationNode)
    assert job.lowConfidenceSlices and all(
        (box[0] - 2 < place).all() and (place < box[1] + 2).all() for place, _ in job.lowConfidenceSlices
    )
    assert sorted(sure for _, sure in job.lowConfidenceSlices) == [sure for _, sure in job.lowConfidenceSlices]


def test_slicer_that_is_closed_while_the_console_waits_ends_the_job(start):
    """Else it would compute on without a window."""
    job = start()
    close_application_during(job.wait)
    assert job.state == "canceled" and not jobs.running()


def test_what_is_wrong_is_reported_at_once_and_leaves_the_scene(start, scene):
    before = nodes()
    with pytest.raises(InputError, match="not a segmentation"):
        start(segmentationNode=slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode"))
    assert nodes() == before


def test_wrong_choices_found_by_the_worker_are_its_errors_here(start):
    before = nodes()
    job = finished(start(model="hipocampus"))
    assert job.state == "failed" and "There is no model 'hipocampus'" in str(job.error)
    assert nodes() == before


@pytest.mark.slow
def test_a_volume_that_is_removed_meanwhile_gets_no_segmentation(start, volume):
    job = start()
    slicer.mrmlScene.RemoveNode(volume)
    before = nodes()
    finished(job)
    assert job.state == "failed" and "was removed from the scene" in str(job.error)
    assert nodes() == before


def test_voxels_that_change_meanwhile_are_reported(start, volume):
    job = start()
    slicer.util.arrayFromVolume(volume)[:] = 0
    slicer.util.arrayFromVolumeModified(volume)
    finished(job)
    assert job.state == "done" and any("were changed during the segmentation" in notice for notice in job.notices)
    assert job.segmentationNode.GetSegmentation().GetNumberOfSegments() == 2


def test_a_volume_that_changes_its_size_meanwhile_is_an_error(start, volume):
    job = start()
    slicer.util.updateVolumeFromArray(volume, np.zeros((20, 20, 20), np.float32))
    before = nodes()
    finished(job)
    assert job.state == "failed" and "changed during the segmentation" in str(job.error)
    assert nodes() == before


def test_segments_follow_a_volume_that_is_moved_meanwhile(start, volume):
    """In world coordinates: the box of the segments is turned and shifted as the volume is, and so are the places
    that want a look.
    """
    still = bounds(finished(start()).segmentationNode)
    job = start(confidence=True)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(MOVE))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    finished(job)
    corners = np.array([still[0], still[1]]) @ MOVE[:3, :3].T + MOVE[:3, 3]
    box = np.array([corners.min(axis=0), corners.max(axis=0)])
    np.testing.assert_allclose(bounds(job.segmentationNode), box, atol=1e-3)
    places = np.array([place for place, _ in job.lowConfidenceSlices])
    assert len(places) and (box[0] - 2 < places).all() and (places < box[1] + 2).all()


def test_an_output_that_is_removed_meanwhile_is_replaced(start):
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    job = start(segmentationNode=output)
    slicer.mrmlScene.RemoveNode(output)
    finished(job)
    assert job.state == "done" and job.segmentationNode is not output
    assert job.segmentationNode.GetScene() is slicer.mrmlScene


@pytest.mark.slow
def test_without_a_region_both_sides_are_found_and_named(logic, volume):
    """Also where the user has left a side chosen: the segments say their own."""
    node = logic.segment(volume, MODEL, side="left", options=PLAIN)
    segments = [node.GetSegmentation().GetNthSegment(number) for number in range(4)]
    parts = ("Left anterior", "Left posterior", "Right anterior", "Right posterior")
    assert [segment.GetName() for segment in segments] == [f"{part} hippocampus" for part in parts]
    for segment in segments:
        entry = vtk.reference("")
        assert segment.GetTag("TerminologyEntry", entry)
        side = segment.GetName().split()[0]
        assert f"^{side}" in str(entry) and f"^{'Right' if side == 'Left' else 'Left'}" not in str(entry)
    lower, upper = bounds(node)
    assert lower[0] < -20 and upper[0] > 20  # RAS: both sides of the middle


def test_closing_the_scene_cancels(start, logic):
    job = start()
    slicer.mrmlScene.Clear(0)
    before = nodes()
    finished(job)
    assert job.state == "canceled" and nodes() == before


@pytest.mark.slow
def test_cancel_ends_the_process_and_leaves_nothing(start, logic):
    before = nodes()
    job = start(roiNode=None)
    reports = []
    job.progress.connect(reports.append)
    wait_until(lambda: any(report.tiles for report in reports))
    pid = jobs.worker().pid
    job.cancel()
    finished(job)
    assert job.state == "canceled" and job.error is None and nodes() == before
    assert pid is not None and gone(pid)


@pytest.mark.slow
def test_a_worker_that_dies_is_a_message_and_the_next_job_runs(start, logic):
    before = nodes()
    job = start(roiNode=None)
    job.progress.connect(
        lambda report: report.tiles and jobs.worker().pid and os.kill(jobs.worker().pid, signal.SIGSEGV)
    )
    finished(job)
    assert job.state == "failed" and "SIGSEGV" in str(job.error) and nodes() == before
    assert finished(start()).state == "done"
