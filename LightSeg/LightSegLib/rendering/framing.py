"""Which cuts show a result best, and how large: positions are RAS in mm, as Slicer displays them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..imaging.geometry import Geometry
from ..imaging.ras import LPS_TO_RAS
from ..imaging.volume import Volume
from .layers import Layer

MOST_POINTS = 200_000  # of a label, about; more would not change the choice
SLAB_VOXELS = 1 << 20
# The view is so many times as long as the labels, and a rim longer: small ones are seen with what is around them.
MARGIN, RIM_MM = 1.1, 20.0


@dataclass(frozen=True)
class Framing:
    """The point [3] that all three slices pass through, their middle [3], and mm per pixel."""

    focus: np.ndarray
    middle: np.ndarray
    mm_per_pixel: float


def index_to_ras(geometry: Geometry) -> np.ndarray:
    """4x4 matrix from voxel index (i, j, k, 1) to RAS position in mm."""
    return LPS_TO_RAS @ geometry.index_to_world


def frame(volume: Volume, layers: Sequence[Layer], width: int, height: int) -> Framing:
    """Choose slices that show much of the labels, and a scale at which these fill them, with a rim of what is around.

    Each slice is where its plane crosses most labeled voxels: the mere center of two paired organs would be between
    them and show neither.
    """
    low, high = _bounds(_corners(volume.geometry))
    points = _labeled_points(layers)
    if not len(points):
        points = np.array([(low + high) / 2])
    label_low, label_high = _bounds(points)
    focus = np.array([_busiest(points[:, axis], min(volume.geometry.spacing)) for axis in range(3)])
    shown_mm = min(float((label_high - label_low).max()) * MARGIN + RIM_MM, float((high - low).max()) * 1.05)
    # The view follows the labels, but does not leave the image while there is image to show.
    inner_low, inner_high = low + shown_mm / 2, high - shown_mm / 2
    middle = np.clip((label_low + label_high) / 2, np.minimum(inner_low, inner_high), np.maximum(inner_low, inner_high))
    middle = np.where(inner_low > inner_high, (low + high) / 2, middle)
    return Framing(focus, middle, shown_mm / min(width, height))


def _labeled_points(layers: Sequence[Layer]) -> np.ndarray:
    """Return RAS positions [n, 3] of labeled voxels; of very many, a regular choice."""
    found = [np.empty((0, 3))]
    for layer in layers:
        if layer.box is None:
            continue
        index = _places(layer.segmentation.voxels[layer.box] == layer.label.value) + [part.start for part in layer.box]
        matrix = index_to_ras(layer.segmentation.geometry)
        found.append(index[:, ::-1] @ matrix[:3, :3].T + matrix[:3, 3])
    return np.concatenate(found)


def _places(mask: np.ndarray) -> np.ndarray:
    """Return array indices [n, 3] of the voxels of a mask; of very many, a regular choice.

    All of a large label at once would take more memory than the image.
    """
    step = 1 + np.count_nonzero(mask) // MOST_POINTS
    rows, seen = max(1, SLAB_VOXELS // mask[0].size), 0
    found = []
    for start in range(0, len(mask), rows):
        flat = np.flatnonzero(mask[start : start + rows])
        chosen = flat[-seen % step :: step] + start * mask[0].size
        seen += len(flat)
        found.append(np.stack(np.unravel_index(chosen, mask.shape), axis=-1))
    return np.concatenate(found)


def _busiest(positions: np.ndarray, step: float) -> float:
    """Return the position along an axis near which most of `positions` are, within 3 mm or three steps."""
    bins = max(1, int(np.ceil(float(np.ptp(positions)) / step)))
    counts, edges = np.histogram(positions, bins)
    smooth = ndimage.uniform_filter1d(counts.astype(float), max(3, round(3 / step)), mode="constant")
    best = int(smooth.argmax())
    return float(edges[best] + edges[best + 1]) / 2


def _corners(geometry: Geometry) -> np.ndarray:
    """Return RAS positions [8, 3] of the outer corners of the voxel grid."""
    k, j, i = geometry.shape
    index = np.array([[x, y, z, 1] for x in (-0.5, i - 0.5) for y in (-0.5, j - 0.5) for z in (-0.5, k - 0.5)])
    return np.asarray((index @ index_to_ras(geometry).T)[:, :3])


def _bounds(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest coordinates of points [n, 3]."""
    return points.min(axis=0), points.max(axis=0)
