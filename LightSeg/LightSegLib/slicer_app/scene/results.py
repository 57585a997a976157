"""What a segmentation node holds: the volumes of its segments, and on which image."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from vtk.util import numpy_support

from .attributes import INPUT_ROLE, LABELMAP, SEGMENT_TAGS, provenance_of
from .coordinates import array_of


def segment_volumes(
    segmentationNode: Any, transformNode: Any = None
) -> list[tuple[str, tuple[float, float, float], float]]:
    """Return name, color and volume in ml of every segment that is stored as voxels.

    Transforms that scale count.

    Args:
        segmentationNode: segmentation.
        transformNode: transform that it is under, where the node itself has none, as in a sequence.
    """
    segments, rows = segmentationNode.GetSegmentation(), []
    parent, to_world = transformNode or segmentationNode.GetParentTransformNode(), vtk.vtkMatrix4x4()
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
        voxel = abs(np.linalg.det((array_of(to_world) @ array_of(image_to_world))[:3, :3])) / 1000
        value = segment.GetLabelValue()
        found = counts[image][value] if value < len(counts[image]) else 0
        rows.append((segment.GetName(), segment.GetColor(), float(found * voxel)))
    return rows


def total_volumes(segmentationNode: Any) -> list[tuple[str, float]]:
    """Return name and volume in ml of the model's totals whose segments all exist."""
    known = set(names_of_last_run(segmentationNode))
    volumes = {name: volume for name, _, volume in segment_volumes(segmentationNode) if name in known}
    totals = provenance_of(segmentationNode).get("totals", {})
    return [
        (name, sum(volumes[part] for part in parts)) for name, parts in totals.items() if set(parts) <= set(volumes)
    ]


def expected_dice(segmentationNode: Any) -> dict[str, float]:
    """Return the Dice that the model of the last run expects of its segments, by name; empty where it states none."""
    stated, known = provenance_of(segmentationNode).get("expected_dice"), names_of_last_run(segmentationNode)
    if not isinstance(stated, dict):  # a scene may come from an untrusted source
        return {}
    return {name: float(stated[name]) for name in known if isinstance(stated.get(name), int | float)}


def _counts(labels: np.ndarray) -> np.ndarray:
    """Return how often each value occurs; part by part, since numpy counts in a copy of 8 bytes a voxel."""
    parts = np.array_split(labels, max(1, labels.size >> 22))
    values = int(labels.max(initial=0)) + 1
    return np.sum([np.bincount(part, minlength=values) for part in parts], axis=0)


def input_volume(segmentationNode: Any) -> Any:
    """Return the volume that was segmented last, or None."""
    return segmentationNode.GetNodeReference(INPUT_ROLE)


def names_of_last_run(segmentationNode: Any) -> list[str]:
    """Segments of the model that the node's attributes name: none that was drawn by hand or by another model."""
    segments, found = segmentationNode.GetSegmentation(), []
    for number in range(segments.GetNumberOfSegments()):
        segment = segments.GetNthSegment(number)
        tags = {name: vtk.reference("") for name in SEGMENT_TAGS}
        has = all(segment.GetTag(name, text) for name, text in tags.items())
        if has and all(str(text) == segmentationNode.GetAttribute(name) for name, text in tags.items()):
            found.append(segment.GetName())
    return found
