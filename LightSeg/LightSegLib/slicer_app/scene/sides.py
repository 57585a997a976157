"""The side of the patient that a region is on, and the sides that a segmentation holds already."""

from __future__ import annotations

from typing import Any

from ...catalog.anatomy import SIDE_CODES
from .results import input_volume, names_of_last_run

ONE_SIDE = 0.75  # of a region's width that has to be on one side of the middle
WIDEST = 1 / 3  # of the volume's width: a wider region, or a volume of little else, determines no side


def side_of_region(roiNode: Any, volumeNode: Any) -> str | None:
    """Return the patient's side that a region is on, by the volume's middle.

    Both may be under transforms. It is a proposal: the middle of a volume need not be that of the patient.

    Args:
        roiNode: Markups ROI.
        volumeNode: volume that shows both sides of the patient.

    Returns:
        "left" or "right"; None where the region reaches across the middle or the volume is not much wider than it.
    """
    (low, high), (first, last) = _across(roiNode), _across(volumeNode)
    width, middle = high - low, (first + last) / 2
    if width <= 0 or width > WIDEST * (last - first):
        return None
    right = (high - min(max(middle, low), high)) / width
    if right >= ONE_SIDE:
        return "right"
    return "left" if right <= 1 - ONE_SIDE else None


def lacks_side(segmentationNode: Any, volumeNode: Any, card: Any, side: str) -> bool:
    """Return whether a segmentation holds what this model found in this volume on the other side, and on that alone.

    Args:
        segmentationNode: segmentation, as `write_segmentation` leaves it.
        volumeNode: volume that is to be segmented.
        card: model that segments it.
        side: "left" or "right".
    """
    if input_volume(segmentationNode) is not volumeNode:
        return False
    wanted = {"LightSeg.Model": card.id, "LightSeg.Version": card.version}
    if any(segmentationNode.GetAttribute(name) != value for name, value in wanted.items()):
        return False
    (other,) = SIDE_CODES.keys() - {side}
    names = [name.lower() for name in names_of_last_run(segmentationNode)]
    return bool(names) and all(name.startswith(f"{other} ") for name in names)


def _across(node: Any) -> tuple[float, float]:
    """Return where a node's box begins and ends along the axis to the patient's right, in mm of the world."""
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    return bounds[0], bounds[1]
