"""The side that a region proposes, in the patient's sense: RAS, where the first axis grows to the right."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from LightSegLib.slicer_app.scene import side_of_region

HEAD = ((-90, 90), (-110, 110), (-80, 100))  # mm in RAS


def make_head(extent=HEAD, flipped=False):
    """A volume of 10 mm voxels that covers a box; flipped: stored from right to left, as DICOM images are."""
    shape = [round((last - first) / 10) for first, last in extent]
    node = slicer.util.addVolumeFromArray(np.zeros(shape[::-1], np.int16), name="Head")
    matrix = np.diag([10.0, 10, 10, 1])
    matrix[:3, 3] = [first + 5 for first, _last in extent]
    if flipped:
        matrix[0, 0], matrix[0, 3] = -10, extent[0][1] - 5
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return node


def make_region(r, width=35.0):
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenterWorld([r, -25, -12])
    roi.SetSize([width, 50, 40])
    return roi


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize(
    ("r", "width", "side"),
    [
        (25, 35, "right"),
        (-25, 35, "left"),
        (9, 35, "right"),  # drags a little over the middle
        (8, 35, None),  # hardly more on one side than on the other
        (0, 35, None),
        (80, 35, "right"),  # reaches out of the volume
        (40, 70, None),  # too wide for the volume to show the patient's middle
    ],
)
def test_by_where_it_is(scene, r, width, side, flipped):
    assert side_of_region(make_region(r, width), make_head(flipped=flipped)) == side


def test_a_volume_of_one_side_alone_proposes_nothing(scene):
    crop = make_head(((0, 60), (-60, 10), (-40, 20)))
    assert side_of_region(make_region(20), crop) is None


def test_what_counts_is_where_both_are_in_the_world(scene, make_transform):
    """The volume is turned by 180 degrees about the axis to the head: what was right of it is left now."""
    head, region = make_head(), make_region(25)
    turned = make_transform(np.diag([-1.0, -1, 1, 1]))
    region.SetAndObserveTransformNodeID(turned.GetID())
    assert side_of_region(region, head) == "left"
    shift = np.eye(4)
    shift[0, 3] = -60
    region.SetAndObserveTransformNodeID(None)
    assert side_of_region(make_region(-40), head) == "left"
    head.SetAndObserveTransformNodeID(make_transform(shift).GetID())
    assert side_of_region(make_region(-40), head) == "right", "the middle of the head lies at -60 mm now"
