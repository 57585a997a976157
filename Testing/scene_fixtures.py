"""Fixtures for tests with a scene: it is empty at first, and a segmenter's answer is known to the voxel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import slicer
from known_boxes import BOXES, LABELS, SHAPE

if TYPE_CHECKING:
    from LightSegLib.catalog.card import Card
    from LightSegLib.imaging.volume import Segmentation, Volume

Make = Callable[..., Any]


@pytest.fixture
def scene() -> Any:
    """An empty scene; as in the application it keeps colors, views and its subject hierarchy when it is closed."""
    slicer.mrmlScene.Clear(0)
    for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):  # of the test before
        slicer.mrmlScene.RemoveNode(node)
    slicer.mrmlScene.GetSubjectHierarchyNode()
    return slicer.mrmlScene


@pytest.fixture
def make_volume(scene: Any) -> Make:
    """Adds a scalar volume of random voxels: make_volume(index_to_ras, transform)."""

    def make(index_to_ras: np.ndarray | None = None, transform: Any = None, voxels: Any = None) -> Any:
        if voxels is None:
            voxels = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
        node = slicer.util.addVolumeFromArray(voxels, name="T1")
        if index_to_ras is not None:
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(index_to_ras))
        node.SetAndObserveTransformNodeID(transform.GetID() if transform else None)
        return node

    return make


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model folder whose card names LABELS; its weights are not there."""
    from LightSegLib.catalog.card import Card, Inference, Preprocessing, Weights
    from LightSegLib.catalog.card_file import write_card

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
        license="CC-BY-SA-4.0",
        citation="Nobody et al., 2026",
    )
    write_card(card, tmp_path / "model.json")
    return str(tmp_path)


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replaces the network's work by BOXES, and remembers what it was given."""
    from LightSegLib.imaging.volume import Segmentation
    from LightSegLib.inference import segmenter

    seen = SimpleNamespace(volumes=[], roi=None, fail=None)

    class KnownBoxes:
        def __init__(self, card: Card, *choices: Any) -> None:
            self.card = card

        def segment(self, volumes: list[Volume], roi: Any, *options: Any) -> Segmentation:
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
                "license": self.card.license,
                "citation": self.card.citation,
                "notices": [],
            }
            return Segmentation(voxels, volumes[0].geometry, self.card.labels, provenance)

    monkeypatch.setattr(segmenter, "Segmenter", KnownBoxes)
    return seen


@pytest.fixture
def make_transform(scene: Any) -> Make:
    """Adds a linear transform node from a 4x4 matrix in RAS."""

    def make(to_parent: np.ndarray) -> Any:
        node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(to_parent))
        return node

    return make
