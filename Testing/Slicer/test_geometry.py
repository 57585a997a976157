"""Segments are in the world where the network saw them, under whatever transforms the nodes are."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from known_boxes import BOXES, SHAPE
from LightSegLib.core.errors import InputError
from LightSegLib.slicer_app.scene import roi_from_node, volume_from_node
from LightSegLib.slicer_app.scene.coordinates import moved, through
from LightSegLib.slicer_app.scene.segmentations import _bent
from scipy import ndimage

NAMES = {1: "Anterior hippocampus", 2: "Posterior hippocampus"}


def matrix(axes: np.ndarray | list[list[float]], origin: tuple[float, float, float]) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = axes, origin
    return result


def turn(degrees: float, axis: int) -> np.ndarray:
    a, b = (n for n in range(3) if n != axis)
    result = np.eye(3)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    result[a, a], result[a, b], result[b, a], result[b, b] = cosine, -sine, sine, cosine
    return result


OBLIQUE = turn(25, 0) @ turn(-40, 2)
GRIDS = {
    "upright": matrix(np.eye(3), (0, 0, 0)),
    "anisotropic": matrix(np.diag([0.7, 1.1, 3.0]), (-20, 10, 5)),
    "oblique": matrix(OBLIQUE @ np.diag([0.8, 1.0, 2.5]), (12, -7, 33)),
    "left-handed": matrix(OBLIQUE @ np.diag([-0.8, 1.0, 2.5]), (4, 4, -9)),
    "permuted": matrix([[0, 0, -1.5], [0.9, 0, 0], [0, -0.9, 0]], (4, 4, -9)),
}
SHEARED = matrix([[1, 0, 0], [0, 1, 0.4], [0, 0, 2]], (1, 2, 3))
SHIFT = matrix(np.eye(3), (7, -3, 11))
MOVE = matrix(turn(70, 1) @ turn(15, 2), (30, -20, 10))
OTHER = matrix(turn(-35, 0) @ turn(10, 1), (-5, 40, 2))
STRETCH = matrix(np.diag([1.2, 0.9, 1.1]), (3, 0, 0))


def box_corners(box: Any) -> np.ndarray:
    """Homogeneous voxel indices [4, 8] of the outermost voxel centers of a box."""
    (k0, k1), (j0, j1), (i0, i1) = box
    return np.array([[i, j, k, 1] for i in (i0, i1 - 1) for j in (j0, j1 - 1) for k in (k0, k1 - 1)], float).T


def world_points(node: Any, name: str) -> np.ndarray:
    """World RAS [n, 3] of the voxel centers of a segment, as Slicer's own classes state them."""
    segmentation = node.GetSegmentation()
    segment = segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(name))
    image = segment.GetRepresentation("Binary labelmap")
    first = image.GetExtent()[::2]
    to_local = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_local)
    i, j, k = image.GetDimensions()
    labels = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i)
    index = np.argwhere(labels == segment.GetLabelValue())[:, ::-1] + first
    local = np.c_[index, np.ones(len(index))] @ slicer.util.arrayFromVTKMatrix(to_local).T
    to_world = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(node.GetParentTransformNode(), None, to_world)
    return np.array([to_world.TransformPoint(point) for point in local[:, :3]])


def assert_boxes_at(node: Any, index_to_world: np.ndarray) -> None:
    """Every box has its number of voxels, within world bounds that follow from its corners alone."""
    for value, box in BOXES.items():
        points, expected = world_points(node, NAMES[value]), (index_to_world @ box_corners(box))[:3]
        assert len(points) == np.prod([last - first for first, last in box])
        np.testing.assert_allclose(points.min(axis=0), expected.min(axis=1), atol=1e-3)
        np.testing.assert_allclose(points.max(axis=0), expected.max(axis=1), atol=1e-3)


TRANSFORMS = {  # on the input, on the output
    "none": (None, None),
    "input": (MOVE, None),
    "output": (None, OTHER),
    "both": (MOVE, MOVE),
    "both-different": (MOVE, OTHER),
    "stretched": (STRETCH, OTHER),
}
OBLIQUE_ONES = ("oblique", "left-handed")  # which stretching shears
STRAIGHT = [(grid, by) for grid in GRIDS for by in TRANSFORMS if by != "stretched" or grid not in OBLIQUE_ONES]


@pytest.mark.parametrize(("grid", "transforms"), STRAIGHT)
def test_segments_are_where_the_anatomy_is(grid, transforms, make_volume, make_transform, scene, segment):
    """Added to a segmentation of the user's, which keeps its own transform."""
    on_input, on_output = TRANSFORMS[transforms]
    input_transform = None if on_input is None else make_transform(on_input)
    output_transform = None if on_output is None else make_transform(on_output)
    output = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    output.GetSegmentation().AddEmptySegment("mine", "Mine")
    output.SetAndObserveTransformNodeID(None if output_transform is None else output_transform.GetID())

    assert segment(make_volume(GRIDS[grid], input_transform), output) is output

    to_world = np.eye(4) if on_input is None else on_input
    assert_boxes_at(output, to_world @ GRIDS[grid])
    assert output.GetParentTransformNode() is output_transform


@pytest.mark.parametrize("made_by", ["LightSeg", "the output selector"])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_new_segmentation_is_where_the_anatomy_is(grid, made_by, make_volume, make_transform, scene, segment):
    """A node without content joins its volume under the volume's transform."""
    output = scene.AddNewNodeByClass("vtkMRMLSegmentationNode") if made_by == "the output selector" else None
    transform = make_transform(MOVE)

    node = segment(make_volume(GRIDS[grid], transform), output)

    assert node.GetParentTransformNode() is transform
    assert_boxes_at(node, MOVE @ GRIDS[grid])


def test_slicer_itself_sees_the_same_world_bounds(make_volume, make_transform, segment):
    """vtkMRMLSegmentationNode's own bounds, half a voxel around the outermost centers, after a 7 mm shift."""
    volume = make_volume(GRIDS["anisotropic"], make_transform(SHIFT))
    bounds = np.zeros(6)
    node = segment(volume)
    node.GetRASBounds(bounds)
    # Both boxes together: i 0..15, j 1..8, k 2..9, so x from -20+7, y from 10-3 and z from 5+11.
    np.testing.assert_allclose(
        bounds,
        [-13 - 0.35, -13 + 15.5 * 0.7, 7 + 0.5 * 1.1, 7 + 8.5 * 1.1, 16 + 1.5 * 3, 16 + 9.5 * 3],
        atol=1e-3,
    )


def test_a_new_segmentation_moves_along_with_its_volume(make_volume, make_transform, segment):
    """The user corrects the registration afterwards: the segments follow."""
    transform = make_transform(SHIFT)
    node = segment(make_volume(GRIDS["oblique"], transform))

    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(MOVE))

    assert_boxes_at(node, MOVE @ GRIDS["oblique"])


def test_a_chain_of_transforms_counts_as_a_whole(make_volume, make_transform, segment):
    outer, inner = make_transform(OTHER), make_transform(SHIFT)
    inner.SetAndObserveTransformNodeID(outer.GetID())

    node = segment(make_volume(GRIDS["oblique"], inner))

    assert_boxes_at(node, OTHER @ SHIFT @ GRIDS["oblique"])


def in_boxes(places: np.ndarray, grid: Any, margin: float) -> dict[int, np.ndarray]:
    """Which world positions [n, 3] (RAS) are within a box, for each, that many voxels of the straight grid inwards."""
    to_index = np.linalg.inv(grid.index_to_world) @ np.diag([-1, -1, 1, 1])
    index = places @ to_index[:3, :3].T + to_index[:3, 3]
    found = {}
    for value, box in BOXES.items():
        ends = np.array(box[::-1], float)
        found[value] = ((index > ends[:, 0] - 0.5 + margin) & (index < ends[:, 1] - 0.5 - margin)).all(axis=1)
    return found


def assert_brought_back(node: Any, places: np.ndarray, grid: Any) -> None:
    """A voxel of the volume, at its position in the world, has the label of the straight grid there."""
    surely, perhaps = in_boxes(places, grid, 0.06), in_boxes(places, grid, -0.06)
    for value in BOXES:
        points = {tuple(point) for point in np.round(world_points(node, NAMES[value]), 3)}
        assert {tuple(point) for point in np.round(places[surely[value]], 3)} <= points
        assert points <= {tuple(point) for point in np.round(places[perhaps[value]], 3)}
    assert sum(map(np.sum, surely.values())) > 60


def voxel_indices() -> np.ndarray:
    """(i, j, k) [n, 3] of all voxels."""
    k, j, i = np.indices(SHAPE)
    return np.stack([i, j, k], axis=-1).reshape(-1, 3)


@pytest.mark.parametrize("sheared_by", ["its own matrix", "its transform", "stretching"])
@pytest.mark.parametrize("other", [False, True])
def test_a_sheared_volume_is_straightened_and_its_segments_are_on_it(
    sheared_by, other, make_volume, make_transform, scene, segment, boxes
):
    """The network sees right angles; the segments keep to the volume's voxels, also in a segmentation of the user's."""
    own, parent = {
        "its own matrix": (SHEARED, MOVE),
        "its transform": (GRIDS["anisotropic"], SHEARED),
        "stretching": (GRIDS["oblique"], STRETCH),
    }[sheared_by]
    output = scene.AddNewNodeByClass("vtkMRMLSegmentationNode") if other else None
    if output is not None:
        output.GetSegmentation().AddEmptySegment("mine", "Mine")
        output.SetAndObserveTransformNodeID(make_transform(OTHER).GetID())

    volume = make_volume(own, make_transform(parent))
    node = segment(volume, output)

    seen = boxes.volumes[0]
    assert seen.geometry.is_orthogonal and "interpolated" in seen.notices[0]
    to_world = parent @ own
    places = voxel_indices() @ to_world[:3, :3].T + to_world[:3, 3]
    assert_brought_back(node, places, seen.geometry)
    corner = places.reshape(*SHAPE, 3)[3, 4, 5]  # a voxel that the straight grid holds between its own
    index = np.linalg.inv(seen.geometry.index_to_world) @ [*corner * (-1, -1, 1), 1]
    value = ndimage.map_coordinates(seen.voxels, index[2::-1, None], order=1)
    assert abs(value - slicer.util.arrayFromVolume(volume)[3, 4, 5]) < 2.5, "noise with a deviation of 1"


def test_a_bent_volume_takes_its_segments_along(make_volume, bending_transform, segment, boxes):
    """It is segmented as it is in the world; a non-linear parent stays a parent."""
    node = segment(make_volume(GRIDS["anisotropic"], bending_transform))

    assert node.GetParentTransformNode() is bending_transform
    to_world, to_local = bending_transform.GetTransformToParent(), GRIDS["anisotropic"]
    local = voxel_indices() @ to_local[:3, :3].T + to_local[:3, 3]
    places = np.array([to_world.TransformPoint(point) for point in local])
    assert_brought_back(node, places, boxes.volumes[0].geometry)


@pytest.mark.parametrize("grid", ["upright", "oblique"])
def test_a_bent_volume_into_a_straight_segmentation_of_the_user(grid, make_volume, bending_transform, scene, segment):
    """Resampled into the user's own coordinates: a voxel is labeled where the image, bent there, has the label."""
    volume = make_volume(GRIDS[grid], bending_transform)
    on_volume = segment(volume)
    output = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    output.GetSegmentation().AddEmptySegment("mine", "Mine")
    node = segment(volume, output)

    assert node.GetParentTransformNode() is None
    from_index, to_index = GRIDS[grid], np.linalg.inv(GRIDS[grid])
    around = np.stack(np.meshgrid(*(np.arange(-8, length + 8) for length in SHAPE[::-1])), axis=-1).reshape(-1, 3)
    unbend = bending_transform.GetTransformToParent().GetInverse()
    world = around @ from_index[:3, :3].T + from_index[:3, 3]
    origin = np.array([unbend.TransformPoint(point) for point in world]) @ to_index[:3, :3].T + to_index[:3, 3]
    nearest = np.rint(origin).astype(int)
    tied = (np.abs(np.abs(origin - nearest) - 0.5) < 0.01).any(axis=1)
    bend = bending_transform.GetTransformToParent()
    for value in BOXES:
        labeled = world_points(on_volume, NAMES[value])
        local = np.array([bend.GetInverse().TransformPoint(point) for point in labeled])
        known = {tuple(index) for index in np.rint(local @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)}
        inside = np.array([tuple(index) in known for index in nearest])
        points = {tuple(point) for point in np.round(world_points(node, NAMES[value]), 3)}
        assert {tuple(point) for point in np.round(world[inside & ~tied], 3)} <= points
        assert points <= {tuple(point) for point in np.round(world[inside | tied], 3)}
        assert inside.sum() > 50


def bent_at_once(voxels: np.ndarray, index_to_ras: np.ndarray, transform: Any) -> tuple[np.ndarray, np.ndarray]:
    """What `_bent` does slice by slice, with the positions of all voxels together."""
    to_index = np.linalg.inv(index_to_ras)
    index = moved(through(transform, moved(np.argwhere(voxels)[:, ::-1], index_to_ras)), to_index)
    first, last = np.floor(index.min(axis=0)).astype(int) - 1, np.ceil(index.max(axis=0)).astype(int) + 1
    shape = (last - first + 1)[::-1]
    target = moved(np.indices(shape).reshape(3, -1).T[:, ::-1] + first, index_to_ras)
    nearest = np.rint(moved(through(transform.GetInverse(), target), to_index)).astype(int)[:, ::-1]
    inside = ((nearest >= 0) & (nearest < voxels.shape)).all(axis=1)
    result = np.zeros(len(target), voxels.dtype)
    result[inside] = voxels[tuple(nearest[inside].T)]
    return result.reshape(shape), first


@pytest.mark.parametrize("grid", GRIDS)
def test_labels_are_bent_slice_by_slice_as_they_are_at_once(grid, bending_transform):
    """Every voxel alike, in a small part of the memory that the positions of all of them take."""
    voxels = np.zeros((96, 40, 32), np.uint8)
    voxels[2:90, 5:33, 3:28] = np.random.default_rng(1).integers(0, 5, (88, 28, 25))
    transform = bending_transform.GetTransformToParent()
    tracemalloc.start()
    found, first = _bent(voxels, GRIDS[grid], transform)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected, start = bent_at_once(voxels, GRIDS[grid], transform)

    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(first, start)
    assert found.any() and found.dtype == voxels.dtype
    assert peak < 3 * 8 * found.size / 4, "a quarter of what the index of every voxel takes"


def test_an_output_whose_transform_blows_the_labels_up_is_refused(
    make_volume, bending_transform, make_transform, scene, segment
):
    """Its voxels would fill the memory of the application; the scene stays as it was."""
    output = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    output.GetSegmentation().AddEmptySegment("mine", "Mine")
    output.SetAndObserveTransformNodeID(make_transform(np.diag([1e-3, 1e-3, 1e-3, 1])).GetID())
    with pytest.raises(InputError, match="enlarges the labels to more than 8 times"):
        segment(make_volume(GRIDS["upright"], bending_transform), output)
    assert output.GetSegmentation().GetNumberOfSegments() == 1


def test_the_network_sees_the_anatomy_as_it_is_in_the_world(make_volume, make_transform, segment, boxes):
    """A volume that a transform turns upright must reach the model upright, in LPS."""
    volume = make_volume(GRIDS["oblique"], make_transform(MOVE))
    segment(volume)

    seen = boxes.volumes[0]
    np.testing.assert_allclose(
        seen.geometry.index_to_world, np.diag([-1, -1, 1, 1]) @ MOVE @ GRIDS["oblique"], atol=1e-9
    )
    assert seen.geometry.shape == SHAPE
    np.testing.assert_array_equal(seen.voxels, slicer.util.arrayFromVolume(volume))


def test_a_turned_region_on_a_turned_volume(make_volume, make_transform, scene, segment, boxes):
    """The ROI's own axes and its transform count; the region's corners arrive in LPS of the world."""
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter([5.0, 6.0, 7.0])
    roi.SetSize([10.0, 20.0, 30.0])
    own = matrix(turn(30, 2), (5, 6, 7))
    roi.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(own))
    roi.SetAndObserveTransformNodeID(make_transform(OTHER).GetID())

    segment(make_volume(GRIDS["upright"], make_transform(MOVE)), roiNode=roi)

    half = np.array([[x, y, z, 1] for x in (-5, 5) for y in (-10, 10) for z in (-15, 15)], float)
    expected = (half @ (np.diag([-1, -1, 1, 1]) @ OTHER @ own).T)[:, :3]
    found = boxes.roi.corners
    assert found.shape == (8, 3)
    order = lambda points: points[np.lexsort(np.round(points, 4).T)]  # noqa: E731
    np.testing.assert_allclose(order(found), order(expected), atol=1e-6)


def test_a_region_on_a_bent_volume_covers_what_the_user_framed(make_volume, bending_transform, scene):
    """The volume is straightened as it is on the screen, where the box is straight, too."""
    volume = make_volume(GRIDS["upright"], bending_transform)
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter([7.0, 7.0, 6.0])
    roi.SetSize([6.0, 6.0, 6.0])

    geometry = volume_from_node(volume).geometry
    covered = roi_from_node(roi).slices(geometry)

    index = np.argwhere(np.ones(geometry.shape))
    world = index[:, ::-1] @ geometry.index_to_world[:3, :3].T + geometry.origin
    framed = (np.abs(world * (-1, -1, 1) - (7, 7, 6)) <= 3).all(axis=1)
    mask = np.zeros(geometry.shape, bool)
    mask[covered] = True
    assert framed.sum() > 50 and mask.ravel()[framed].all()
    assert mask.sum() < 0.5 * mask.size


def test_the_faces_of_a_bent_region_bulge(scene):
    """The transform pushes the middles of the faces of a box 1.5 mm outwards and leaves its corners: the box that the
    user sees has faces up to 4.5 mm from its center, beyond all its corners.
    """
    center = np.array([7.0, 7.0, 6.0])
    corners = np.array([[x, y, z] for x in (-3, 3) for y in (-3, 3) for z in (-3, 3)], float)
    faces = np.concatenate((3 * np.eye(3), -3 * np.eye(3)))
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for fixed in np.concatenate((corners, 7 * corners)):
        source.InsertNextPoint(center + fixed)
        target.InsertNextPoint(center + fixed)
    for face in faces:
        source.InsertNextPoint(center + face)
        target.InsertNextPoint(center + face * 1.5)
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(center)
    roi.SetSize([6.0, 6.0, 6.0])
    roi.SetAndObserveTransformNodeID(node.GetID())

    places = roi_from_node(roi).corners * (-1, -1, 1)

    np.testing.assert_allclose(np.ptp(places, axis=0), [9, 9, 9], atol=0.02)
    np.testing.assert_allclose(places.mean(axis=0), center, atol=0.02)
