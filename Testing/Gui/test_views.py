"""The picture of a result shows what Slicer's views show."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from LightSegLib.rendering.surface import opengl_works

RED, GREEN = (0.9, 0.1, 0.1), (0.1, 0.8, 0.2)


@pytest.fixture
def two_balls(scene):
    """A gray volume and a segmentation in it: a red ball on the patient's left, a green one on the right and in front.

    RAS: x grows to the patient's right, y to the front.
    """
    grid = np.indices((40, 50, 60)).astype(float)
    volume = slicer.util.addVolumeFromArray((80 + grid[0]).astype(np.float32), name="T1")
    volume.SetSpacing(2, 2, 2)
    volume.CreateDefaultDisplayNodes()
    labels = np.zeros((40, 50, 60), np.uint8)
    labels[np.linalg.norm(grid - np.reshape([20, 20, 15], (3, 1, 1, 1)), axis=0) < 7] = 1
    labels[np.linalg.norm(grid - np.reshape([20, 30, 45], (3, 1, 1, 1)), axis=0) < 7] = 2
    labelmap = slicer.util.addVolumeFromArray(labels, nodeClassName="vtkMRMLLabelMapVolumeNode")
    labelmap.SetSpacing(2, 2, 2)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "balls")
    segmentation.CreateDefaultDisplayNodes()
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, segmentation)
    for number, color in enumerate((RED, GREEN)):
        segmentation.GetSegmentation().GetNthSegment(number).SetColor(color)
    return volume, segmentation


def find(picture, strong):
    """Mean (x, y) of the pixels in which this channel outshines the others."""
    others = [channel for channel in range(3) if channel != strong]
    rows, columns = np.nonzero(picture[..., strong] > picture[..., others].max(axis=-1).astype(int) + 40)
    assert len(rows) > 100, "this color is not in the picture"
    return columns.mean(), rows.mean()


def test_slices_and_surfaces_are_on_the_right_side(two_balls, pictures):
    if not opengl_works():
        pytest.skip("VTK cannot render on this machine")
    from views import SIZE, draw_views

    picture = draw_views(*two_balls, pictures / "views.png")

    reader = vtk.vtkPNGReader()
    reader.SetFileName(str(pictures / "views.png"))
    reader.Update()
    assert reader.GetOutput().GetDimensions() == (2 * SIZE, 2 * SIZE, 1)
    axial, surface = picture[:SIZE, :SIZE], picture[:SIZE, SIZE:]
    coronal, sagittal = picture[SIZE:, :SIZE], picture[SIZE:, SIZE:]
    for view in (axial, coronal, surface):  # the patient's right is at the left of the picture
        assert find(view, 1)[0] < SIZE / 2 < find(view, 0)[0]
    assert find(axial, 1)[1] < SIZE / 2 < find(axial, 0)[1], "front is up"
    gray = sagittal[SIZE // 2, SIZE // 2]
    assert np.ptp(gray) == 0 and 0 < gray[0] < 255, "between the balls there is only the volume"
