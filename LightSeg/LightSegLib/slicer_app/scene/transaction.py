"""Taking back what a failed run has added to a scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .attributes import ATTRIBUTES, CONFIDENCE_ROLE, INPUT_ROLE, REFERENCE_GEOMETRY, REFERENCE_ROLE, set_attributes


def hierarchy_item(node: Any) -> tuple[Any, int]:
    """Return the scene's subject hierarchy, or None, and the node's item in it, or 0."""
    hierarchy = node.GetScene().GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    return hierarchy, hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0


@contextmanager
def scene_transaction(scene: Any, segmentationNode: Any) -> Iterator[None]:
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
    hierarchy, item = hierarchy_item(node)
    if item and parent:
        hierarchy.SetItemParent(item, parent)
    elif item:
        hierarchy.RemoveItem(item, False, False)


def _node_ids(scene: Any) -> set[str]:
    """Return the IDs of all nodes in a scene."""
    return {scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())}


def _snapshot(node: Any) -> Callable[[], None]:
    """Return a function that takes back what `write_segmentation` does to an existing segmentation node."""
    segments = node.GetSegmentation()
    identifiers = set(segments.GetSegmentIDs())
    representation = segments.GetSourceRepresentationName()
    geometry = segments.GetConversionParameter(REFERENCE_GEOMETRY)
    transform = node.GetTransformNodeID()
    references = {role: node.GetNodeReferenceID(role) for role in (REFERENCE_ROLE, CONFIDENCE_ROLE, INPUT_ROLE)}
    hierarchy, item = hierarchy_item(node)
    parent = hierarchy.GetItemParent(item) if item else 0
    attributes = {name: text for name in ATTRIBUTES if (text := node.GetAttribute(name)) is not None}

    def restore() -> None:
        for identifier in set(segments.GetSegmentIDs()) - identifiers:
            segments.RemoveSegment(identifier)
        segments.SetSourceRepresentationName(representation)
        segments.SetConversionParameter(REFERENCE_GEOMETRY, geometry)
        for role, identifier in references.items():
            node.SetNodeReferenceID(role, identifier)
        node.SetAndObserveTransformNodeID(transform)
        set_attributes(node, attributes)
        _put_item_back(node, parent)

    return restore
