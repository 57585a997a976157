"""A real MRML scene for every test, and a segmenter whose answer is known to the voxel."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import slicer
import vtk
import vtk.util.numpy_support

if TYPE_CHECKING:
    from LightSegLib.catalog.card import Card
    from LightSegLib.volume import Segmentation, Volume

sys.path.insert(0, str(Path(__file__).parent))
__import__("standins").install()

Make = Callable[..., Any]


@pytest.fixture
def scene() -> Any:
    """An empty scene; as in the application it has its subject hierarchy."""
    slicer.mrmlScene.Clear(1)
    slicer.mrmlScene.GetSubjectHierarchyNode()
    return slicer.mrmlScene


@pytest.fixture
def make_volume(scene: Any) -> Make:
    """Adds a scalar volume of random voxels: make_volume(index_to_ras, transform)."""

    def make(index_to_ras: np.ndarray | None = None, transform: Any = None, voxels: Any = None) -> Any:
        from known_boxes import SHAPE

        if voxels is None:
            voxels = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
        node = slicer.util.addVolumeFromArray(voxels, name="T1")
        if index_to_ras is not None:
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(index_to_ras))
        node.SetAndObserveTransformNodeID(transform.GetID() if transform else None)
        return node

    return make


@pytest.fixture
def make_transform(scene: Any) -> Make:
    """Adds a linear transform node from a 4x4 matrix in RAS."""

    def make(to_parent: np.ndarray) -> Any:
        node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(to_parent))
        return node

    return make


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
def model(tmp_path: Path) -> str:
    """A model folder whose card names LABELS; its weights are not there."""
    from known_boxes import LABELS
    from LightSegLib.catalog.card import Card, Inference, Preprocessing, Weights, write_card

    card = Card(
        id="test-model",
        title="Test model",
        version="1.2.3",
        description="For tests.",
        modality="MR",
        channels=("T1",),
        network="lightmedseg",
        network_arguments={"in_channels": 1, "classes": 4},
        preprocessing=Preprocessing(),
        inference=Inference((32, 32, 32)),
        labels=LABELS,
        weights=Weights("weights.pt", 1, "0" * 64),
        licence="CC-BY-SA-4.0",
        citation="Nobody et al., 2026",
    )
    write_card(card, tmp_path / "model.json")
    return str(tmp_path)


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replaces the network's work by BOXES, and remembers what it was given."""
    from known_boxes import BOXES
    from LightSegLib import segmenter
    from LightSegLib.volume import Segmentation

    seen = SimpleNamespace(volumes=[], roi=None, fail=None)

    class KnownBoxes:
        def __init__(self, card: Card, device: str = "auto", *choices: bool, accept_licence: bool = False) -> None:
            self.card = card

        def segment(self, volumes: list[Volume], roi: Any, progress: Any, cancelled: Any) -> Segmentation:
            seen.volumes, seen.roi = volumes, roi
            if seen.fail:
                raise seen.fail
            voxels = np.zeros(volumes[0].voxels.shape, np.int16)
            for value, box in BOXES.items():
                voxels[tuple(slice(*ends) for ends in box)] = value
            provenance = {
                "model": self.card.id,
                "version": self.card.version,
                "weights_sha256": self.card.weights.sha256,
                "device": "cpu",
                "settings": {"mirror": False},
                "seconds": 1.5,
                "licence": self.card.licence,
                "citation": self.card.citation,
                "notices": [],
            }
            return Segmentation(voxels, volumes[0].geometry, self.card.labels, provenance)

    monkeypatch.setattr(segmenter, "Segmenter", KnownBoxes)
    return seen


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
