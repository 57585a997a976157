"""What the user finds in the segmentation node: names, colors, terms, origin; and nothing lost."""

from __future__ import annotations

import json

import numpy as np
import pytest
import slicer
import vtk
from known_boxes import BOXES, LABELS, SHAPE
from LightSegLib.catalog.card import Label
from LightSegLib.core.errors import Canceled, DeviceError, InputError
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.slicer_app.scene import (
    CONFIDENCE_ROLE,
    expected_dice,
    provenance_of,
    segment_volumes,
    total_volumes,
    volume_from_node,
    write_segmentation,
)


def segment_of(node, name):
    segmentation = node.GetSegmentation()
    return segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(name))


def names_of(node):
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(number).GetName() for number in range(segmentation.GetNumberOfSegments())]


def terms_of(segment):
    """The segment's terminology as Slicer's own module reads it."""
    text, entry = vtk.reference(""), slicer.vtkSlicerTerminologyEntry()
    assert segment.GetTag("TerminologyEntry", text)
    assert slicer.vtkSlicerTerminologiesModuleLogic().DeserializeTerminologyEntry(str(text), entry)
    codes = {
        "category": entry.GetCategoryObject(),
        "type": entry.GetTypeObject(),
        "modifier": entry.GetTypeModifierObject(),
        "region": entry.GetRegionObject(),
        "region modifier": entry.GetRegionModifierObject(),
    }
    return {role: code.GetCodeValue() for role, code in codes.items() if code is not None and code.GetCodeValue()}


def voxel_count(node, identifier):
    segment = node.GetSegmentation().GetSegment(identifier)
    voxels = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, identifier)
    return int((voxels == segment.GetLabelValue()).sum())


def test_one_segment_per_label_even_where_nothing_was_found(make_volume, segment):
    node = segment(make_volume())

    assert names_of(node) == ["Anterior hippocampus", "Posterior hippocampus", "CSF"]
    identifiers = node.GetSegmentation().GetSegmentIDs()
    assert [voxel_count(node, identifier) for identifier in identifiers] == [3 * 6 * 8, 4 * 3 * 16, 0]
    np.testing.assert_allclose(segment_of(node, "CSF").GetColor(), (10 / 255, 20 / 255, 30 / 255))
    assert node.GetDisplayNode() is not None
    assert node.GetName() == "T1 segmentation"


def test_a_result_without_a_voxel_can_be_read_and_shown(make_volume):
    volume = make_volume()
    geometry = volume_from_node(volume).geometry
    empty = Segmentation(np.zeros(geometry.shape, np.uint8), geometry, (Label(1, "Nothing", (1, 2, 3)),))

    node = write_segmentation(empty, volume)

    assert names_of(node) == ["Nothing"]
    assert voxel_count(node, node.GetSegmentation().GetNthSegmentID(0)) == 0
    assert node.CreateClosedSurfaceRepresentation()


def test_terms_are_those_of_snomed(make_volume, segment):
    node = segment(make_volume())

    assert terms_of(segment_of(node, "Posterior hippocampus")) == {
        "category": "123037004",
        "type": "5366008",
        "modifier": "255551008",
    }


def test_a_side_is_named_and_coded(make_volume, segment):
    """The type's modifier is anterior, so the side is the modifier of the anatomic region."""
    node = segment(make_volume(), side="right")

    assert names_of(node) == ["Right anterior hippocampus", "Right posterior hippocampus", "Right CSF"]
    terms = terms_of(segment_of(node, "Right anterior hippocampus"))
    assert terms == {
        "category": "123037004",
        "type": "5366008",
        "modifier": "255549009",
        "region": "5366008",
        "region modifier": "24028007",
    }


def test_both_sides_in_one_segmentation(make_volume, segment):
    volume = make_volume()
    node = segment(volume, side="left")

    assert segment(volume, node, side="right") is node

    assert len(names_of(node)) == 6
    assert terms_of(segment_of(node, "Left anterior hippocampus"))["region modifier"] == "7771000"
    assert len(set(node.GetSegmentation().GetSegmentIDs())) == 6


def test_the_result_states_how_it_came_about(make_volume, segment):
    node = segment(make_volume())

    assert node.GetAttribute("LightSeg.Model") == "test-model"
    assert node.GetAttribute("LightSeg.Version") == "1.2.3"
    assert node.GetAttribute("LightSeg.WeightsSHA256") == "0" * 64
    assert node.GetAttribute("LightSeg.Device") == "cpu"
    assert json.loads(node.GetAttribute("LightSeg.Settings")) == {"mirror": False}
    assert float(node.GetAttribute("LightSeg.Seconds")) == 1.5
    assert node.GetAttribute("LightSeg.License") == "CC-BY-SA-4.0"
    assert node.GetAttribute("LightSeg.Citation") == "Nobody et al., 2026"


def test_the_provenance_in_a_scene_of_an_earlier_version_is_read(make_volume, segment):
    node = segment(make_volume())
    node.SetAttribute("LightSeg.LeastCertain", "[[1, 2, 3, 0.5]]")
    assert provenance_of(node)["low_confidence_slices"] == [[1, 2, 3, 0.5]]

    segment(make_volume(), node)
    assert node.GetAttribute("LightSeg.LeastCertain") is None


def test_the_expected_dice_is_of_the_segments_of_the_last_run(make_volume):
    volume = make_volume()
    geometry = volume_from_node(volume).geometry
    labels = (Label(1, "Left", (1, 2, 3)), Label(2, "Right", (4, 5, 6)))
    provenance = {"model": "m", "version": "1", "weights_sha256": "0", "expected_dice": {"Left": 0.81, "Away": 0.5}}
    node = write_segmentation(Segmentation(np.ones(geometry.shape, np.uint8), geometry, labels, provenance), volume)
    assert expected_dice(node) == {"Left": 0.81}

    for spoiled in ("[1]", '{"Left": "high"}', "{"):
        node.SetAttribute("LightSeg.ExpectedDice", spoiled)
        assert expected_dice(node) == {}


def test_totals_are_of_the_segments_as_they_are_now(make_volume):
    volume = make_volume()
    geometry = volume_from_node(volume).geometry
    labels = (Label(1, "Left", (1, 2, 3)), Label(2, "Right", (4, 5, 6)))
    voxels = np.zeros(geometry.shape, np.uint8)
    voxels[0, 0, :3], voxels[1, 0, :2] = 1, 2
    provenance = {"model": "m", "version": "1", "weights_sha256": "0", "totals": {"Both": ["Left", "Right"]}}
    node = write_segmentation(Segmentation(voxels, geometry, labels, provenance), volume)

    (name, total), *others = total_volumes(node)
    assert name == "Both" and not others
    assert total == pytest.approx(5 * geometry.voxel_volume_ml)
    assert total == pytest.approx(sum(ml for _, _, ml in segment_volumes(node)))

    node.GetSegmentation().RemoveSegment(node.GetSegmentation().GetSegmentIdBySegmentName("Right"))
    assert total_volumes(node) == [], "a sum that lacks a part would mislead"


def test_later_editing_uses_the_grid_of_the_input(make_volume, make_transform, segment):
    """Reference volume and geometry are what the Segment Editor and the DICOM export read."""
    transform = make_transform(np.array([[1, 0, 0, 9], [0, 1, 0, 8], [0, 0, 1, 7], [0, 0, 0, 1]], float))
    volume = make_volume(np.diag([0.5, 1, 2, 1.0]), transform)
    node = segment(volume)

    assert node.GetNodeReference("referenceImageGeometryRef") is volume
    grid = slicer.vtkOrientedImageData()
    parameter = node.GetSegmentation().GetConversionParameter("Reference image geometry")
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(parameter, grid, False)
    assert grid.GetExtent() == (0, SHAPE[2] - 1, 0, SHAPE[1] - 1, 0, SHAPE[0] - 1)
    assert grid.GetSpacing() == (0.5, 1, 2)
    assert grid.GetOrigin() == (0, 0, 0), "local: the shift is in the transform that both are under"


def test_a_segmentation_drawn_on_another_image_keeps_its_grid(make_volume, segment):
    """Editing the user's older segments must not resample them to a coarser image."""
    fine, coarse = make_volume(), make_volume(np.diag([4, 4, 4, 1.0]))
    node = segment(fine)
    before = node.GetSegmentation().GetConversionParameter("Reference image geometry")

    segment(coarse, node)

    assert node.GetNodeReference("referenceImageGeometryRef") is fine
    assert node.GetSegmentation().GetConversionParameter("Reference image geometry") == before


def test_the_users_segments_stay(make_volume, segment, scene):
    """A user who already drew a segment of the same name keeps it, and distinguishes the new one."""
    volume = make_volume()
    output = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    output.CreateDefaultDisplayNodes()
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[2:4, 3:5, 4:6] = 1  # overlaps with what the model finds
    mine = output.GetSegmentation().AddEmptySegment("Anterior_hippocampus", "Anterior hippocampus")
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, output, mine, volume)

    segment(volume, output)
    segment(volume, output)

    assert names_of(output) == [
        "Anterior hippocampus",
        "Anterior hippocampus (2)",
        "Posterior hippocampus",
        "CSF",
        "Anterior hippocampus (3)",
        "Posterior hippocampus (2)",
        "CSF (2)",
    ]
    identifiers = output.GetSegmentation().GetSegmentIDs()
    assert len(set(identifiers)) == 7
    np.testing.assert_array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(output, mine, volume), drawn)
    assert voxel_count(output, identifiers[4]) == 3 * 6 * 8


def test_saved_and_loaded_again(make_volume, make_transform, segment, scene, tmp_path):
    """The file format of Slicer keeps names, colors, terms and every voxel's place."""
    volume = make_volume(np.diag([-0.8, 1, 2.5, 1.0]))
    node = segment(volume, side="left")
    segment(volume, node, side="right")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "result.seg.nrrd"))
    assert storage.WriteData(node)

    loaded = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert storage.ReadData(loaded)

    assert names_of(loaded) == names_of(node)
    assert loaded.GetSegmentation().GetSegmentIDs() == node.GetSegmentation().GetSegmentIDs()
    for identifier, name in zip(loaded.GetSegmentation().GetSegmentIDs(), names_of(node), strict=True):
        np.testing.assert_allclose(segment_of(loaded, name).GetColor(), segment_of(node, name).GetColor(), atol=1e-4)
        if "CSF" not in name:
            assert terms_of(segment_of(loaded, name)) == terms_of(segment_of(node, name))
        expected = np.zeros(SHAPE, bool)
        if "anterior" in name or "posterior" in name:
            expected[tuple(slice(*ends) for ends in BOXES[1 if "anterior" in name else 2])] = True
        found = slicer.util.arrayFromSegmentBinaryLabelmap(loaded, identifier, volume)
        np.testing.assert_array_equal(found > 0, expected)


def test_it_appears_beside_its_volume(make_volume, segment, scene):
    """In the patient's study, where the volume is."""
    hierarchy = scene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    volume = make_volume()
    hierarchy.CreateItem(study, volume)

    node = segment(volume)

    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_it_is_ready_for_export_to_dicom(make_volume, segment, scene):
    """What Slicer's export of DICOM segmentations asks of a node, as its source (DICOMSegmentationPlugin) reads it."""
    hierarchy = scene.GetSubjectHierarchyNode()
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    study = hierarchy.CreateStudyItem(patient, "Study")
    volume = make_volume()
    volume.SetAttribute("DICOM.instanceUIDs", "2.25.1 2.25.2")
    hierarchy.CreateItem(study, volume)

    node = segment(volume)

    item = hierarchy.GetItemByDataNode(node)
    assert hierarchy.GetItemLevel(hierarchy.GetItemParent(item)) == "Study"
    reference = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    assert reference.GetAttribute("DICOM.instanceUIDs") == "2.25.1 2.25.2"
    filled = []
    for name in names_of(node):
        one, algorithm, computed = segment_of(node, name), vtk.reference(""), vtk.reference("")
        assert one.GetTag("DICOM.SegmentAlgorithmType", algorithm) and str(algorithm) == "AUTOMATIC"
        assert one.GetTag("DICOM.SegmentAlgorithmName", computed) and str(computed) == "LightSeg test-model"
        assert {"category", "type"} <= set(terms_of(one))
        scalars = one.GetRepresentation("Binary labelmap").GetPointData().GetArray("ImageScalars")
        filled.append(scalars is not None and scalars.GetValueRange() != (0, 0))
    assert filled[:2] == [True, True]
    assert terms_of(segment_of(node, "CSF")) == {"category": "85756007", "type": "85756007"}


def test_a_confidence_volume_is_below_its_volume_and_is_not_shown(make_volume, scene):
    """It keeps its place when the segmentation is deleted, whose branch the application takes for its content."""
    hierarchy = scene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    volume = make_volume()
    hierarchy.CreateItem(study, volume)
    views = [slicer.app.layoutManager().sliceWidget(name) for name in slicer.app.layoutManager().sliceViewNames()]
    slicer.util.setSliceViewerLayers(background=volume)

    labels = np.ones(SHAPE, np.uint8)
    certain = np.full(SHAPE, 90, np.uint8)
    geometry = volume_from_node(volume).geometry
    node = write_segmentation(Segmentation(labels, geometry, LABELS, {}, certain), volume)

    confidence = node.GetNodeReference(CONFIDENCE_ROLE)
    items = [hierarchy.GetItemByDataNode(shown) for shown in (volume, node, confidence)]
    assert [hierarchy.GetItemParent(item) for item in items] == [study, study, items[0]]
    for view in views:
        shown = view.sliceLogic().GetSliceCompositeNode()
        assert shown.GetBackgroundVolumeID() == volume.GetID()
        assert not shown.GetForegroundVolumeID() and not shown.GetLabelVolumeID()

    branch = slicer.vtkMRMLSubjectHierarchyConstants.GetSubjectHierarchyVirtualBranchAttributeName()
    hierarchy.SetItemAttribute(items[1], branch, "1")  # as the application does with a segmentation
    hierarchy.RemoveItem(items[1])
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(confidence)) == items[0]


def test_a_surface_shown_in_3d_is_made_for_new_segments_too(make_volume, segment):
    volume = make_volume()
    node = segment(volume)
    node.CreateClosedSurfaceRepresentation()

    segment(volume, node)

    second = segment_of(node, "Anterior hippocampus (2)").GetRepresentation("Closed surface")
    bounds = np.reshape(second.GetBounds(), (3, 2))
    np.testing.assert_allclose(bounds, [[4, 11], [3, 8], [2, 4]], atol=1)


@pytest.mark.parametrize("error", [DeviceError("Too big. Use less."), Canceled(), MemoryError()])
@pytest.mark.parametrize("existing", [True, False])
def test_a_job_that_fails_leaves_the_scene_alone(error, existing, make_volume, segment, boxes, fingerprint):
    volume = make_volume()
    output = segment(volume) if existing else None
    before = fingerprint()
    boxes.fail = error

    with pytest.raises(type(error)):
        segment(volume, output)

    assert fingerprint() == before


@pytest.mark.parametrize("failing", ["_add_segment", "set_attributes", "_place_beside"])
@pytest.mark.parametrize("existing", ["none", "empty", "filled"])
def test_an_output_that_fails_midway_is_taken_back(
    failing, existing, make_volume, make_transform, segment, scene, fingerprint, monkeypatch
):
    from LightSegLib.slicer_app.scene import segmentations

    volume = make_volume(transform=make_transform(np.diag([2.0, 2, 2, 1])))
    hierarchy = scene.GetSubjectHierarchyNode()
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), volume)
    output = scene.AddNewNodeByClass("vtkMRMLSegmentationNode") if existing != "none" else None
    if existing == "filled":
        segment(volume, output)
    before = fingerprint()
    original, calls = getattr(segmentations, failing), []

    def fail_late(*arguments):
        calls.append(arguments)
        original(*arguments)
        if len(calls) == (2 if failing == "_add_segment" else 1):
            raise RuntimeError("disk on fire")

    monkeypatch.setattr(segmentations, failing, fail_late)
    if (failing, existing) == ("_place_beside", "filled"):
        segment(volume, output)
        assert not calls, "a node that the user has placed is not moved"
        return
    with pytest.raises(RuntimeError, match="disk on fire"):
        segment(volume, output)

    monkeypatch.undo()
    assert fingerprint() == before


@pytest.mark.parametrize("source", ["Closed surface", "Planar contour"])
def test_a_segmentation_without_voxels_is_refused_before_the_work(
    make_volume, segment, scene, boxes, fingerprint, source
):
    """Of surfaces, or of the contours of a DICOM RT structure set."""
    output = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Imported")
    output.GetSegmentation().SetSourceRepresentationName(source)
    drawn = slicer.vtkSegment()
    drawn.AddRepresentation(source, vtk.vtkPolyData())
    output.GetSegmentation().AddSegment(drawn, "drawn")
    volume = make_volume()
    before = fingerprint()

    with pytest.raises(InputError, match=f"Imported is {source.lower()}, to which voxels cannot be added"):
        segment(volume, output)

    assert not boxes.volumes
    assert fingerprint() == before
