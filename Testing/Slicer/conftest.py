"""A real MRML scene for every test, nodes to put into it, and what must not change in it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from needs_slicer import skip_without_slicer

skip_without_slicer()
import fakes  # noqa: E402
import vtk  # noqa: E402
import vtk.util.numpy_support  # noqa: E402

fakes.install()
from scene_fixtures import *  # noqa: E402, F403 (the scene must be there first)

Make = Callable[..., Any]


@pytest.fixture
def bending_transform(scene: Any) -> Any:
    """A smooth non-linear transform: up to a few mm, along all axes."""
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    random = np.random.default_rng(3)
    for corner in np.ndindex(3, 3, 3):
        point = np.array(corner) * 20.0 - 20
        source.InsertNextPoint(point)
        target.InsertNextPoint(point + random.uniform(-3, 3, 3))
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    return node


@pytest.fixture
def segment(boxes: SimpleNamespace, model: str) -> Make:
    """LightSegLogic().segment with the test model, as the Python console calls it."""
    import LightSeg

    def run(volume: Any, output: Any = None, **options: Any) -> Any:
        return LightSeg.LightSegLogic().segment(volume, model, output, **options)

    return run


@pytest.fixture
def fingerprint(scene: Any) -> Callable[[], Any]:
    """Everything in the scene that a failed run must not change, as one comparable value."""

    def take() -> Any:
        nodes = [scene.GetNthNode(number) for number in range(scene.GetNumberOfNodes())]
        hierarchy, items = scene.GetSubjectHierarchyNode(), vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
        contents = [_content(node) for node in nodes if node.IsA("vtkMRMLSegmentationNode")]
        return sorted(node.GetID() for node in nodes), items.GetNumberOfIds(), contents

    return take


def _content(node: Any) -> tuple[Any, ...]:
    segmentation = node.GetSegmentation()
    segments = [(identifier, _voxels(node, identifier)) for identifier in segmentation.GetSegmentIDs()]
    attributes = [(name, node.GetAttribute(name)) for name in node.GetAttributeNames() or ()]
    references = node.GetTransformNodeID(), node.GetNodeReferenceID("referenceImageGeometryRef")
    return segments, attributes, references, segmentation.GetConversionParameter("Reference image geometry")


def _voxels(node: Any, identifier: str) -> Any:
    """Extent and labels of a segment's layer, None for a surface."""
    image = node.GetBinaryLabelmapInternalRepresentation(identifier)
    scalars = image.GetPointData().GetScalars() if image is not None else None
    return None if scalars is None else (image.GetExtent(), vtk.util.numpy_support.vtk_to_numpy(scalars).tobytes())
