"""From a segmentation to nodes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util import numpy_support

from ...catalog.anatomy import SIDE_CODES
from ...catalog.card import Label
from ...catalog.sides import sided
from ...catalog.terminology import TAG, UNSPECIFIED, terminology_entry
from ...core.errors import InputError
from ...core.i18n import tr as _
from ...imaging.affine import GROWTH
from ...imaging.volume import Segmentation
from .attributes import (
    CONFIDENCE_ROLE,
    INPUT_ROLE,
    LABELMAP,
    REFERENCE_GEOMETRY,
    REFERENCE_ROLE,
    SEGMENT_TAGS,
    attributes_of,
    set_attributes,
)
from .coordinates import array_of, moved, through, transform_between
from .transaction import hierarchy_item, scene_transaction
from .volumes import _described

SMALL = 1_000_000  # voxels, up to which labels may grow from a smaller volume
SCALARS = "ImageScalars"  # the name by which Slicer's DICOM export looks for the voxels of a segment


def check_output(segmentationNode: Any, side: str | None = None) -> None:
    """Check, before a long computation, that a segmentation node can take the result.

    Raises:
        InputError: now for an output that could not be written later: ask before a long computation.
    """
    if side is not None and side not in SIDE_CODES:
        raise InputError(_("The side '{side}' is not known. Use 'left' or 'right', or omit it.").format(side=side))
    if segmentationNode is None:
        return
    if not isinstance(segmentationNode, slicer.vtkMRMLSegmentationNode):
        raise InputError(
            _("The output ({node}) is not a segmentation. Choose a segmentation, or none.").format(
                node=_described(segmentationNode)
            )
        )
    segments = segmentationNode.GetSegmentation()
    if segments.GetNumberOfSegments() and segments.GetSourceRepresentationName() != LABELMAP:
        raise InputError(
            _(
                "The source representation of the segmentation {name} is {representation}, "
                "to which voxels cannot be added. Choose another output, "
                "or make binary labelmap its source representation in the Segmentations module."
            ).format(name=segmentationNode.GetName(), representation=segments.GetSourceRepresentationName().lower())
        )


def write_segmentation(
    segmentation: Segmentation, volumeNode: Any, segmentationNode: Any = None, side: str | None = None
) -> Any:
    """Add one segment per label to a segmentation node, a new one where none is given, and return the node.

    The segments are on the voxels of `volumeNode` in the world, whatever transforms the two nodes are under; what the
    node held before stays.

    Whatever fails, the scene is left as it was.

    Args:
        side: "left" or "right" to name the segments and their anatomic region so. Where the segmentation has a
            confidence, a volume of it is added, to which the node refers in the role CONFIDENCE_ROLE; it refers to
            `volumeNode` in the role INPUT_ROLE.

    Raises:
        InputError: for an output that cannot take segments and for a volume that changed its size meanwhile.
    """
    check_output(segmentationNode, side)
    image = volumeNode.GetImageData()
    if image is None or image.GetDimensions() != segmentation.voxels.shape[::-1]:
        raise InputError(
            _("The size of {name} changed during the segmentation. Segment it again.").format(name=volumeNode.GetName())
        )
    scene = volumeNode.GetScene()
    with scene_transaction(scene, segmentationNode):
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
        attributes = attributes_of(segmentation.provenance)
        for label in segmentation.labels:
            _add_segment(segments, label, labelmap, side, attributes)
        segmentationNode.SetNodeReferenceID(INPUT_ROLE, volumeNode.GetID())
        if segmentation.confidence is not None:
            confidence = _add_confidence(segmentation.confidence, volumeNode)
            segmentationNode.SetNodeReferenceID(CONFIDENCE_ROLE, confidence.GetID())
        set_attributes(segmentationNode, attributes)
        if fresh:
            _place_beside(volumeNode, segmentationNode)
    return segmentationNode


def segmentation_name(volumeNode: Any, title: str) -> str:
    """Return the name of a new node, from the volume's name and the model's title without brackets."""
    return f"{volumeNode.GetName()} {re.sub(r'[(].*?[)]', '', title).strip() or 'segmentation'}"


def _add_confidence(confidence: np.ndarray, volumeNode: Any) -> Any:
    """Return a volume on the voxels of `volumeNode`, 0 to 100 percent, shown so."""
    scene, ijk_to_ras = volumeNode.GetScene(), vtk.vtkMatrix4x4()
    image = vtk.vtkImageData()
    image.SetDimensions(confidence.shape[::-1])
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(confidence.ravel(), deep=True))
    name = scene.GenerateUniqueName(f"{volumeNode.GetName()} confidence")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    volumeNode.GetIJKToRASMatrix(ijk_to_ras)
    node.SetIJKToRASMatrix(ijk_to_ras)
    node.SetAttribute(CONFIDENCE_ROLE, "1")  # so that it is not taken for an image
    node.CreateDefaultDisplayNodes()  # before the voxels, over which it would look for a window
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 100)
    node.SetAndObserveImageData(image)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    # Below its volume, and not below its segmentation: what is there counts as content of the segmentation, has no
    # export, and loses its place when the segmentation is deleted.
    hierarchy, item = hierarchy_item(volumeNode)
    if item:
        hierarchy.CreateItem(item, node)
    return node


def _to_segmentation(volumeNode: Any, segmentationNode: Any) -> tuple[np.ndarray, Any]:
    """4x4 from the volume's index to the segmentation node's coordinates, and what still bends those, or None."""
    source, target = volumeNode.GetParentTransformNode(), segmentationNode.GetParentTransformNode()
    local, between = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(local)
    if source is target:  # both under one non-linear transform, too
        return array_of(local), None
    transform = transform_between(source, target)
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform):
        return array_of(local), transform
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(source, target, between)
    return array_of(between) @ array_of(local), None


def _bent(voxels: np.ndarray, index_to_ras: np.ndarray, transform: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return labels moved by `transform` on their grid, and the index (i, j, k) of their first voxel.

    Positions are in memory for one slice at a time, since they take a hundred times as much as the labels.

    Raises:
        InputError: if the labels would get far more voxels than the volume has.
    """
    to_index, back = np.linalg.inv(index_to_ras), transform.GetInverse()
    ends = []
    for k in np.flatnonzero(voxels.any(axis=(1, 2))):
        j, i = np.nonzero(voxels[k])
        labeled = moved(np.stack([i, j, np.full(len(i), k)], axis=1), index_to_ras)
        index = moved(through(transform, labeled), to_index)
        ends += [index.min(axis=0), index.max(axis=0)]
    if not ends:
        return voxels, np.zeros(3, int)
    lower, upper = np.floor(np.min(ends, axis=0)) - 1, np.ceil(np.max(ends, axis=0)) + 1
    if not np.prod(upper - lower + 1) <= GROWTH * max(voxels.size, SMALL):  # nor where it is not a number
        raise InputError(
            _(
                "The transform between the volume and the output enlarges the labels "
                "to more than {growth} times the size of the volume. "
                "Correct the transform, or choose another output."
            ).format(growth=GROWTH)
        )
    first = lower.astype(int)
    result = np.zeros((upper - lower + 1).astype(int)[::-1], voxels.dtype)
    j, i = np.indices(result.shape[1:]).reshape(2, -1)
    for number, labels in enumerate(result):
        target = moved(np.stack([i, j, np.full(len(i), number)], axis=1) + first, index_to_ras)
        nearest = np.rint(moved(through(back, target), to_index)).astype(int)[:, ::-1]
        inside = ((nearest >= 0) & (nearest < voxels.shape)).all(axis=1)
        labels.reshape(-1)[inside] = voxels[tuple(nearest[inside].T)]
    return result, first


def _oriented_image(voxels: np.ndarray, first: np.ndarray, index_to_ras: np.ndarray) -> Any:
    """Slicer's image of the labeled part of `voxels` [k, j, i], whose first voxel has the index `first` (i, j, k)."""
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
    scalars = numpy_support.numpy_to_vtk(part.ravel(), deep=True)
    scalars.SetName(SCALARS)
    image.GetPointData().SetScalars(scalars)
    return image


def _set_reference(segmentationNode: Any, volumeNode: Any, index_to_ras: np.ndarray) -> None:
    """The volume and its grid, which the Segment Editor and the DICOM export read."""
    i, j, k = (length - 1 for length in volumeNode.GetImageData().GetDimensions())
    matrix = slicer.util.vtkMatrixFromArray(index_to_ras)
    grid = slicer.vtkSegmentationConverter.SerializeImageGeometry(matrix, (0, i, 0, j, 0, k))
    segmentationNode.GetSegmentation().SetConversionParameter(REFERENCE_GEOMETRY, grid)
    segmentationNode.SetNodeReferenceID(REFERENCE_ROLE, volumeNode.GetID())


def _type_for(labels: Sequence[Label]) -> type:
    """Return the smallest voxel type for the labels."""
    return np.uint8 if max(label.value for label in labels) <= 255 else np.int16


def _add_segment(segments: Any, label: Label, labelmap: Any, side: str | None, attributes: dict[str, str]) -> None:
    """Add one segment that shares `labelmap` with the others, under a name and an id that are not taken."""
    taken = {segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())}
    label = sided(label, side)
    base = label.name
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
    # Without terms and algorithm, Slicer exports no DICOM segmentation, or one that a person has drawn.
    segment.SetTag(TAG, terminology_entry(label.terminology or UNSPECIFIED))
    segment.SetTag("DICOM.SegmentAlgorithmType", "AUTOMATIC")
    segment.SetTag("DICOM.SegmentAlgorithmName", f"LightSeg {attributes.get('LightSeg.Model', '')}".strip())
    identifier = segments.GenerateUniqueSegmentID(re.sub(r"\W+", "_", base))
    if not segments.AddSegment(segment, identifier):
        raise RuntimeError(_("The segment {name} could not be added. See the error log.").format(name=name))


def _place_beside(volumeNode: Any, segmentationNode: Any) -> None:
    """Put the segmentation into the volume's folder or study; the volume may have no place outside the application."""
    hierarchy, item = hierarchy_item(volumeNode)
    if item:
        hierarchy.CreateItem(hierarchy.GetItemParent(item), segmentationNode)
