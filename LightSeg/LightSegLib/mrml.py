"""Between the MRML scene and LightSeg: the only file of the library that knows nodes.

MRML states positions in RAS, the library in LPS; both in mm. What the network sees is the anatomy as it lies in
the world: a linear parent transform of the volume is part of the geometry. Through a non-linear one a grid does
not stay a grid, so such a volume keeps its own, local coordinates.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util import numpy_support

from .catalog.card import Code, Label, Terminology
from .catalog.terminology import TAG, terminology_entry
from .errors import InputError
from .pipeline.region import Region
from .volume import Geometry, Segmentation, Volume, check_voxels

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SIDES = {"left": Code("SCT", "7771000", "Left"), "right": Code("SCT", "24028007", "Right")}
LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
CONFIDENCE_ROLE = "LightSeg.Confidence"
REFERENCE_ROLE = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
REFERENCE_GEOMETRY = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
ATTRIBUTES = {  # node attribute: key of Segmentation.provenance
    "LightSeg.Model": "model",
    "LightSeg.Version": "version",
    "LightSeg.WeightsSHA256": "weights_sha256",
    "LightSeg.Device": "device",
    "LightSeg.Settings": "settings",
    "LightSeg.Seconds": "seconds",
    "LightSeg.Licence": "licence",
    "LightSeg.Citation": "citation",
    "LightSeg.SoftwareVersion": "lightseg",
    "LightSeg.Notices": "notices",
}
SEGMENT_TAGS = ("LightSeg.Model", "LightSeg.Version", "LightSeg.WeightsSHA256")


# --- from the scene ----------------------------------------------------------------------------


def volumes_from_nodes(volumeNodes: Sequence[Any]) -> list[Volume]:
    """One volume per node, all in the same coordinates.

    Raises InputError as `volume_from_node` does, for nodes of no scene, and where a non-linear transform would
    bend one channel against another.
    """
    for node in volumeNodes:
        if _is_scalar_volume(node) and node.GetScene() is None:
            raise InputError(f"{node.GetName()} is not in the scene. Add it to the scene first.")
    bent = [node for node in volumeNodes if _is_scalar_volume(node) and not _is_linear(node)]
    if bent and len({node.GetTransformNodeID() for node in volumeNodes if _is_scalar_volume(node)}) > 1:
        raise InputError(
            f"{bent[0].GetName()} is under a non-linear transform that the other volumes are not under. "
            "Put all channels under the same transform, or resample them to one grid."
        )
    return [volume_from_node(node) for node in volumeNodes]


def volume_from_node(volumeNode: Any) -> Volume:
    """Voxels [k, j, i] and LPS geometry of a scalar volume node.

    Raises InputError for anything but a scalar volume (label map, colour, tensor, no voxels) and for
    voxels that `check_voxels` refuses.
    """
    if volumeNode is None:
        raise InputError("No input volume is chosen. Choose the volume to segment.")
    if not _is_scalar_volume(volumeNode):
        raise InputError(f"The input ({_described(volumeNode)}) is not a scalar volume. Choose a volume of the scene.")
    name = volumeNode.GetName() or volumeNode.GetID() or "The volume"
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(f"{name} is a label map, not an image. Choose the image on which it was drawn.")
    image = volumeNode.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None or scalars.GetNumberOfTuples() == 0:
        raise InputError(f"{name} has no voxels. Load its image again or choose another volume.")
    if scalars.GetNumberOfComponents() != 1:
        raise InputError(
            f"{name} has {scalars.GetNumberOfComponents()} components per voxel, as colour and vector images have. "
            "Choose a volume with one value per voxel, or convert it with the module Vector to Scalar Volume."
        )
    geometry = _geometry(volumeNode)
    voxels = numpy_support.vtk_to_numpy(scalars).reshape(geometry.shape)
    check_voxels(voxels, name)
    return Volume(voxels, geometry, name)


def same_grid(volumeNode: Any, other: Any) -> bool:
    """Whether the voxels of two volumes lie at the same places in the world."""
    return _geometry(volumeNode).matches(_geometry(other))


def region_from_node(roiNode: Any, volumeNode: Any) -> Region:
    """The box of a Markups ROI, in the coordinates of `volume_from_node(volumeNode)`.

    Both nodes may be under transforms of their own. Raises InputError for another kind of node and for an empty box.
    """
    if not isinstance(roiNode, slicer.vtkMRMLMarkupsROINode):
        raise InputError(f"The region ({_described(roiNode)}) is not a Markups ROI. Create one in the module Markups.")
    half = np.array(roiNode.GetSize()) / 2
    if roiNode.GetNumberOfControlPoints() == 0 or half.min() <= 0:
        raise InputError(
            f"The region of interest {roiNode.GetName()} is empty. Place it over the structure to segment, "
            "or choose none to segment the whole volume."
        )
    target = None if _is_linear(volumeNode) else volumeNode.GetParentTransformNode()
    transform = _transform_between(roiNode.GetParentTransformNode(), target)
    straight = slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform)
    # The faces of a box bend under a non-linear transform, so its corners alone would not enclose it.
    steps = np.linspace(-1, 1, 2 if straight else 9)
    inside = np.array(list(itertools.product(steps, steps, steps))) * half
    to_node = _array(roiNode.GetObjectToNodeMatrix())
    points = _through(transform, _moved(inside, to_node))
    if not straight:
        points = _enclosing_box(points, _index_to_ras(volumeNode))
    return Region(points @ RAS_TO_LPS[:3, :3])


def _geometry(volumeNode: Any) -> Geometry:
    i, j, k = volumeNode.GetImageData().GetDimensions()
    return Geometry.from_index_to_world(RAS_TO_LPS @ _index_to_ras(volumeNode), (k, j, i))


def _is_scalar_volume(node: Any) -> bool:
    return isinstance(node, slicer.vtkMRMLScalarVolumeNode)


def _is_linear(node: Any) -> bool:
    parent = node.GetParentTransformNode()
    return parent is None or bool(parent.IsTransformToWorldLinear())


def _index_to_ras(volumeNode: Any) -> np.ndarray:
    """4x4 from voxel index to RAS: of the world, or local to the volume under a non-linear transform."""
    local, to_world = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(local)
    parent = volumeNode.GetParentTransformNode()
    if parent is None or not parent.IsTransformToWorldLinear():
        return _array(local)
    parent.GetMatrixTransformToWorld(to_world)
    return _array(to_world) @ _array(local)


def _transform_between(source: Any, target: Any) -> Any:
    """Transform from one transform node's coordinates to another's; None is the world."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    return transform


def _enclosing_box(points: np.ndarray, index_to_ras: np.ndarray) -> np.ndarray:
    """Corners [8, 3] of the smallest box along the grid's axes that holds all `points` [n, 3]."""
    index = _moved(points, np.linalg.inv(index_to_ras))
    corners = np.array(list(itertools.product(*zip(index.min(axis=0), index.max(axis=0), strict=True))))
    return _moved(corners, index_to_ras)


def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points [n, 3] through a 4x4 matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _through(transform: Any, points: np.ndarray) -> np.ndarray:
    """Points [n, 3] through any VTK transform."""
    before, after = vtk.vtkPoints(), vtk.vtkPoints()
    before.SetData(numpy_support.numpy_to_vtk(np.ascontiguousarray(points, float), deep=True))
    after.SetDataTypeToDouble()
    transform.TransformPoints(before, after)
    return numpy_support.vtk_to_numpy(after.GetData()).copy()


def _array(matrix: Any) -> np.ndarray:
    return slicer.util.arrayFromVTKMatrix(matrix)


def _described(thing: Any) -> str:
    return f"{thing.GetName()}, {thing.GetClassName()}" if isinstance(thing, slicer.vtkMRMLNode) else repr(thing)


def world_position(volumeNode: Any, index: Sequence[float]) -> tuple[float, float, float]:
    """Where the voxel index (i, j, k) of a volume lies now, in RAS mm of the world, under any transform."""
    local = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(local)
    transform = _transform_between(volumeNode.GetParentTransformNode(), None)
    r, a, s = _through(transform, _moved(np.array([index], float), _array(local)))[0]
    return float(r), float(a), float(s)


# --- into the scene ----------------------------------------------------------------------------


def check_output(segmentationNode: Any, side: str | None = None) -> None:
    """Raise InputError now for an output that could not be written later: ask before a long computation."""
    if side is not None and side not in SIDES:
        raise InputError(f"The side '{side}' is not known. Use 'left' or 'right', or leave it out.")
    if segmentationNode is None:
        return
    if not isinstance(segmentationNode, slicer.vtkMRMLSegmentationNode):
        raise InputError(
            f"The output ({_described(segmentationNode)}) is not a segmentation. Choose a segmentation, or none."
        )
    segments = segmentationNode.GetSegmentation()
    if segments.GetNumberOfSegments() and segments.GetSourceRepresentationName() != LABELMAP:
        raise InputError(
            f"The segmentation {segmentationNode.GetName()} is made of surfaces, to which voxels cannot be added. "
            "Choose another output, or make binary labelmap its source representation in the module Segmentations."
        )


def write_segmentation(
    segmentation: Segmentation, volumeNode: Any, segmentationNode: Any = None, side: str | None = None
) -> Any:
    """Add one segment per label to a segmentation node, a new one where none is given, and return the node.

    The segments lie on the voxels of `volumeNode` in the world, whatever transforms the two nodes are under; what
    the node held before stays. side: "left" or "right" to name the segments and their anatomic region so. Where the
    segmentation has a confidence, a volume of it is added, to which the node refers in the role CONFIDENCE_ROLE.

    Raises InputError for an output that cannot take segments and for a volume that changed its size meanwhile.
    Whatever fails, the scene is left as it was.
    """
    check_output(segmentationNode, side)
    image = volumeNode.GetImageData()
    if image is None or image.GetDimensions() != segmentation.voxels.shape[::-1]:
        raise InputError(f"{volumeNode.GetName()} changed its size while it was segmented. Segment it again.")
    scene = volumeNode.GetScene()
    with _all_or_nothing(scene, segmentationNode):
        if segmentationNode is None:
            name = scene.GenerateUniqueName(segmentation_name(volumeNode, segmentation.provenance.get("title", "")))
            segmentationNode = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        segments = segmentationNode.GetSegmentation()
        fresh = segments.GetNumberOfSegments() == 0
        if fresh:
            segments.SetSourceRepresentationName(LABELMAP)
            if segmentationNode.GetParentTransformNode() is None:
                segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        if segmentationNode.GetDisplayNode() is None:
            segmentationNode.CreateDefaultDisplayNodes()
        index_to_ras, transform = _to_segmentation(volumeNode, segmentationNode)
        voxels, first = segmentation.voxels, np.zeros(3, int)
        if transform is not None:
            voxels, first = _bent(voxels, index_to_ras, transform)
        # Not through Slicer's import into given segments, which applies the transform between the nodes twice.
        labelmap = _oriented_image(voxels.astype(_type_for(segmentation.labels)), first, index_to_ras)
        # Segments that were drawn on another image keep being edited on that image's grid.
        if fresh or not segmentationNode.GetNodeReferenceID(REFERENCE_ROLE):
            _set_reference(segmentationNode, volumeNode, index_to_ras)
        attributes = _attributes(segmentation.provenance)
        for label in segmentation.labels:
            _add_segment(segments, label, labelmap, side, attributes)
        if segmentation.confidence is not None:
            confidence = _add_confidence(segmentation.confidence, volumeNode)
            segmentationNode.SetNodeReferenceID(CONFIDENCE_ROLE, confidence.GetID())
        _set_attributes(segmentationNode, attributes)
        if fresh:
            _place_beside(volumeNode, segmentationNode)
    return segmentationNode


def segmentation_name(volumeNode: Any, title: str) -> str:
    """For a new node, from the volume's name and the model's title without what stands in brackets."""
    return f"{volumeNode.GetName()} {re.sub(r'[(].*?[)]', '', title).strip() or 'segmentation'}"


def _add_confidence(confidence: np.ndarray, volumeNode: Any) -> Any:
    """A volume on the voxels of `volumeNode`, 0 to 1, shown so."""
    scene, ijk_to_ras = volumeNode.GetScene(), vtk.vtkMatrix4x4()
    image = vtk.vtkImageData()
    image.SetDimensions(confidence.shape[::-1])
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(confidence.ravel(), deep=True))
    name = scene.GenerateUniqueName(f"{volumeNode.GetName()} confidence")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    volumeNode.GetIJKToRASMatrix(ijk_to_ras)
    node.SetIJKToRASMatrix(ijk_to_ras)
    node.SetAndObserveImageData(image)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 1.0)
    _place_beside(volumeNode, node)
    return node


def _to_segmentation(volumeNode: Any, segmentationNode: Any) -> tuple[np.ndarray, Any]:
    """4x4 from the volume's index to the segmentation node's coordinates, and what still bends those, or None."""
    source, target = volumeNode.GetParentTransformNode(), segmentationNode.GetParentTransformNode()
    local, between = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(local)
    if source is target:  # both under one non-linear transform, too
        return _array(local), None
    transform = _transform_between(source, target)
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform):
        return _array(local), transform
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(source, target, between)
    return _array(between) @ _array(local), None


def _bent(voxels: np.ndarray, index_to_ras: np.ndarray, transform: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels moved by `transform`, on the same grid without its limits, and the index (i, j, k) where they start."""
    to_index = np.linalg.inv(index_to_ras)
    labelled = _moved(np.argwhere(voxels)[:, ::-1], index_to_ras)
    if not len(labelled):
        return voxels, np.zeros(3, int)
    index = _moved(_through(transform, labelled), to_index)
    first, last = np.floor(index.min(axis=0)).astype(int) - 1, np.ceil(index.max(axis=0)).astype(int) + 1
    shape = (last - first + 1)[::-1]
    target = _moved(np.indices(shape).reshape(3, -1).T[:, ::-1] + first, index_to_ras)
    nearest = np.rint(_moved(_through(transform.GetInverse(), target), to_index)).astype(int)[:, ::-1]
    inside = ((nearest >= 0) & (nearest < voxels.shape)).all(axis=1)
    result = np.zeros(len(target), voxels.dtype)
    result[inside] = voxels[tuple(nearest[inside].T)]
    return result.reshape(shape), first


def _oriented_image(voxels: np.ndarray, first: np.ndarray, index_to_ras: np.ndarray) -> Any:
    """Slicer's image of the labelled part of `voxels` [k, j, i], whose first voxel has the index `first` (i, j, k)."""
    image = slicer.vtkOrientedImageData()
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(index_to_ras))
    used = [np.flatnonzero(voxels.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if not len(used[0]):
        image.SetExtent(0, -1, 0, -1, 0, -1)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)  # without a type Slicer can neither show nor save it
        return image
    k, j, i = ((int(indices[0]), int(indices[-1])) for indices in used)
    part = np.ascontiguousarray(voxels[k[0] : k[1] + 1, j[0] : j[1] + 1, i[0] : i[1] + 1])
    x, y, z = map(int, first)
    image.SetExtent(i[0] + x, i[1] + x, j[0] + y, j[1] + y, k[0] + z, k[1] + z)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(part.ravel(), deep=True))
    return image


def _set_reference(segmentationNode: Any, volumeNode: Any, index_to_ras: np.ndarray) -> None:
    """The volume and its grid, which the Segment Editor and the DICOM export read."""
    i, j, k = (length - 1 for length in volumeNode.GetImageData().GetDimensions())
    matrix = slicer.util.vtkMatrixFromArray(index_to_ras)
    grid = slicer.vtkSegmentationConverter.SerializeImageGeometry(matrix, (0, i, 0, j, 0, k))
    segmentationNode.GetSegmentation().SetConversionParameter(REFERENCE_GEOMETRY, grid)
    segmentationNode.SetNodeReferenceID(REFERENCE_ROLE, volumeNode.GetID())


def _type_for(labels: Sequence[Label]) -> type:
    return np.uint8 if max(label.value for label in labels) <= 255 else np.int16


def _add_segment(segments: Any, label: Label, labelmap: Any, side: str | None, attributes: dict[str, str]) -> None:
    """Add one segment that shares `labelmap` with the others, under a name and an id that are not taken."""
    taken = {segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())}
    base = _sided_name(label.name, side)
    names = itertools.chain([base], (f"{base} ({number})" for number in itertools.count(2)))
    name = next(name for name in names if name not in taken)
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.SetColor(*(part / 255 for part in label.color))
    segment.SetLabelValue(label.value)
    segment.SetNameAutoGenerated(False)
    segment.SetColorAutoGenerated(False)
    segment.AddRepresentation(LABELMAP, labelmap)
    for tag in SEGMENT_TAGS:
        if tag in attributes:
            segment.SetTag(tag, attributes[tag])
    if label.terminology is not None:
        segment.SetTag(TAG, terminology_entry(_sided_terminology(label.terminology, side)))
    identifier = segments.GenerateUniqueSegmentID(re.sub(r"\W+", "_", base))
    if not segments.AddSegment(segment, identifier):
        raise RuntimeError(f"The segment {name} could not be added. See the error log.")


def _sided_name(name: str, side: str | None) -> str:
    """The name as it reads after "Left" or "Right"; an abbreviation keeps its capitals."""
    if side is None:
        return name
    return f"{side.capitalize()} {name[0].lower() + name[1:] if name[1:2].islower() else name}"


def _sided_terminology(terminology: Terminology, side: str | None) -> Terminology:
    """Laterality goes to the type; where another modifier is there already, to the anatomic region."""
    if side is None:
        return terminology
    if terminology.modifier is None:
        return replace(terminology, modifier=SIDES[side])
    return replace(terminology, region=terminology.region or terminology.type, region_modifier=SIDES[side])


def _attributes(provenance: dict[str, Any]) -> dict[str, str]:
    """Node attributes: text as it is, anything else as JSON."""
    present = {name: provenance[key] for name, key in ATTRIBUTES.items() if provenance.get(key) not in (None, [])}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in present.items()}


def _set_attributes(node: Any, attributes: dict[str, str]) -> None:
    """Replace all of LightSeg's attributes, so that none of an earlier run stays."""
    for name in ATTRIBUTES:
        if name in attributes:
            node.SetAttribute(name, attributes[name])
        else:
            node.RemoveAttribute(name)


def _place_beside(volumeNode: Any, segmentationNode: Any) -> None:
    """Put the segmentation into the volume's folder or study; the volume may have no place outside the application."""
    hierarchy, item = _hierarchy_item(volumeNode)
    if item:
        hierarchy.CreateItem(hierarchy.GetItemParent(item), segmentationNode)


def _hierarchy_item(node: Any) -> tuple[Any, int]:
    """The scene's subject hierarchy, or None, and the node's item in it, or 0."""
    hierarchy = node.GetScene().GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    return hierarchy, hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0


@contextmanager
def _all_or_nothing(scene: Any, segmentationNode: Any) -> Iterator[None]:
    """Undo, when the body raises, what it added to the scene and to the given segmentation node."""
    before = _node_ids(scene)
    restore = _snapshot(segmentationNode) if segmentationNode is not None else lambda: None
    try:
        yield
    except BaseException:
        restore()
        for node in [scene.GetNodeByID(identifier) for identifier in _node_ids(scene) - before]:
            _put_item_back(node, parent=0)
            scene.RemoveNode(node)
        raise


def _put_item_back(node: Any, parent: int) -> None:
    """Move the node's item to this parent, or remove the item where it had none."""
    hierarchy, item = _hierarchy_item(node)
    if item and parent:
        hierarchy.SetItemParent(item, parent)
    elif item:
        hierarchy.RemoveItem(item, False, False)


def _node_ids(scene: Any) -> set[str]:
    return {scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())}


def _snapshot(node: Any) -> Callable[[], None]:
    """A function that takes back what `write_segmentation` does to an existing segmentation node."""
    segments = node.GetSegmentation()
    identifiers = set(segments.GetSegmentIDs())
    representation = segments.GetSourceRepresentationName()
    geometry = segments.GetConversionParameter(REFERENCE_GEOMETRY)
    reference, transform = node.GetNodeReferenceID(REFERENCE_ROLE), node.GetTransformNodeID()
    confidence = node.GetNodeReferenceID(CONFIDENCE_ROLE)
    hierarchy, item = _hierarchy_item(node)
    parent = hierarchy.GetItemParent(item) if item else 0
    attributes = {name: text for name in ATTRIBUTES if (text := node.GetAttribute(name)) is not None}

    def restore() -> None:
        for identifier in set(segments.GetSegmentIDs()) - identifiers:
            segments.RemoveSegment(identifier)
        segments.SetSourceRepresentationName(representation)
        segments.SetConversionParameter(REFERENCE_GEOMETRY, geometry)
        node.SetNodeReferenceID(REFERENCE_ROLE, reference)
        node.SetNodeReferenceID(CONFIDENCE_ROLE, confidence)
        node.SetAndObserveTransformNodeID(transform)
        _set_attributes(node, attributes)
        _put_item_back(node, parent)

    return restore


# --- what is in the scene already ----------------------------------------------------------------


def segment_volumes(segmentationNode: Any) -> list[tuple[str, tuple[float, float, float], float]]:
    """Name, colour and volume in ml of every segment that is stored as voxels; transforms that scale count."""
    segments, rows = segmentationNode.GetSegmentation(), []
    parent, to_world = segmentationNode.GetParentTransformNode(), vtk.vtkMatrix4x4()
    if parent is not None and parent.IsTransformToWorldLinear():
        parent.GetMatrixTransformToWorld(to_world)
    counts: dict[Any, np.ndarray] = {}  # segments share their images
    for number in range(segments.GetNumberOfSegments()):
        segment, image_to_world = segments.GetNthSegment(number), vtk.vtkMatrix4x4()
        image = segment.GetRepresentation(LABELMAP)
        if image is None:
            continue
        scalars = image.GetPointData().GetScalars()
        if image not in counts:
            counts[image] = _counts(numpy_support.vtk_to_numpy(scalars)) if scalars is not None else np.zeros(1)
        image.GetImageToWorldMatrix(image_to_world)
        voxel = abs(np.linalg.det((_array(to_world) @ _array(image_to_world))[:3, :3])) / 1000
        value = segment.GetLabelValue()
        found = counts[image][value] if value < len(counts[image]) else 0
        rows.append((segment.GetName(), segment.GetColor(), float(found * voxel)))
    return rows


def _counts(labels: np.ndarray) -> np.ndarray:
    """How often each value occurs; part by part, since numpy counts in a copy of 8 bytes a voxel."""
    parts = np.array_split(labels, max(1, labels.size >> 22))
    values = int(labels.max(initial=0)) + 1
    return np.sum([np.bincount(part, minlength=values) for part in parts], axis=0)


def provenance_of(segmentationNode: Any) -> dict[str, Any]:
    """What `write_segmentation` has kept of the provenance; nothing for a segmentation of other origin."""
    found = {key: segmentationNode.GetAttribute(name) for name, key in ATTRIBUTES.items()}
    as_json = ("settings", "notices", "seconds")
    return {key: json.loads(text) if key in as_json else text for key, text in found.items() if text is not None}


def reference_volume(segmentationNode: Any) -> Any:
    """The volume on whose grid a segmentation lies, or None."""
    return segmentationNode.GetNodeReference(REFERENCE_ROLE)
