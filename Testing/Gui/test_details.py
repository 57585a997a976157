"""Copy Details: what a report of an error needs, without a name of the patient or a folder of the user."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import qt
import slicer
from LightSegLib import __version__
from user_actions import in_view, let_slices_cross_at, resize_panel, wait_until

PATIENT = "DOE^JANE 1961-02-03 T1"


def test_an_error_offers_its_details(window, dialogs, screenshot, tmp_path):
    """A region beside the volume of a patient, whose name is in the scene, in its tree and in the file."""
    volume = slicer.util.addVolumeFromArray(np.arange(64000.0).reshape(40, 40, 40), name=PATIENT)
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(tmp_path / "DOE_JANE_head.nrrd"))
    volume.SetAndObserveStorageNodeID(storage.GetID())
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Jane Doe of Springfield")
    wait_until(lambda: window.ui.applyButton.enabled)
    let_slices_cross_at(500, 500, 500)
    window.ui.roiSliceButton.click()
    window.ui.applyButton.click()
    wait_until(lambda: not window.run.running)
    assert "is outside the volume" in dialogs.take().text
    resize_panel(360, 560)
    assert in_view(window.ui.copyDetailsButton)
    screenshot("error with details", (360, 560))

    window.status._details = ""  # nothing but what the click copies
    window.status.keep(
        f"{PATIENT} of Jane Doe of Springfield in {tmp_path}/DOE_JANE_head.nrrd is outside the volume.",
        f'File "{Path.home()}/x/LightSegLib/worker/server.py", line 3: DOE_JANE_head',
    )
    window.ui.copyDetailsButton.click()
    text = qt.QApplication.clipboard().text()
    for secret in (PATIENT, "DOE", "Jane", str(tmp_path), str(Path.home())):
        assert secret not in text, secret
    for fact in (
        f"LightSeg: {__version__}",
        "Slicer: 5.",
        "revision",
        platform.python_version(),
        "torch: 2",
        "System:",
    ):
        assert fact in text, fact
    assert "LightSegLib/worker/server.py" in text and "is outside the volume." in text

    let_slices_cross_at(20, 20, 20)
    window.ui.roiSliceButton.click()
    window.ui.applyButton.click()
    assert not window.ui.copyDetailsButton.visible, "what comes next is no error"
    wait_until(lambda: not window.run.running)
