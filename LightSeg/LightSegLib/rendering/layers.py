"""The labels of one or several segmentations, as pictures show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import ndimage

from ..catalog.card import Label
from ..imaging.roi import Slices
from ..imaging.volume import Segmentation


@dataclass(frozen=True)
class Layer:
    """One label of one segmentation: what is drawn in one color and listed in one line.

    Attributes:
        box: the slices k, j, i that hold all its voxels, None where it has none.
    """

    segmentation: Segmentation
    label: Label
    box: Slices | None
    volume_ml: float


def list_layers(results: Sequence[Segmentation]) -> list[Layer]:
    """Return every label of every segmentation, in order."""
    layers = []
    for segmentation in results:
        boxes = ndimage.find_objects(segmentation.voxels)
        volumes = segmentation.volumes_ml()
        for label in segmentation.labels:
            box = boxes[label.value - 1] if label.value <= len(boxes) else None
            layers.append(Layer(segmentation, label, box, volumes[label.name]))
    return layers
