"""How well two masks agree: overlap, and the agreement and distance of their surfaces."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

TOLERANCE_MM = 1.0
# share of a square that is inside when 0 to 4 of its corners do and the border runs through edge midpoints
INSIDE_SHARE = np.array([0, 1 / 8, 1 / 2, 7 / 8, 1], np.float32)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of two boolean arrays (Dice 1945); NaN where both are empty."""
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2.0 * int(np.count_nonzero(a & b)) / total if total else math.nan


def surface_agreement(
    a: np.ndarray, b: np.ndarray, spacing: Sequence[float], tolerance: float = TOLERANCE_MM
) -> tuple[float, float]:
    """Return surface Dice at `tolerance` mm, and HD95 in mm, of two boolean arrays.

    Surface Dice: the share of both surfaces that is within the tolerance of the other one, by area (Nikolov et al.
    2018, arXiv:1809.04430, section "Surface DSC"). HD95: the larger of the two directed 95th percentiles, by area, of
    the distances from one surface to the other (the robust form of Huttenlocher et al. 1993, doi:10.1109/34.232073).
    NaN, NaN where both are empty; 0, infinity where one is.

    Args:
        a: [k, j, i].
        b: [k, j, i].
        spacing: mm [k, j, i].
    """
    from scipy import ndimage

    if not a.any() or not b.any():
        return (0.0, math.inf) if a.any() or b.any() else (math.nan, math.nan)
    box = ndimage.find_objects((a | b).astype(np.uint8))[0]
    surfaces = [surface_area(mask[box], spacing) for mask in (a, b)]
    near, total = 0.0, 0.0
    directed = []
    for area, other in (surfaces, surfaces[::-1]):
        distances = ndimage.distance_transform_edt(other == 0, sampling=spacing)[area > 0]
        weights = area[area > 0]
        near += float(weights[distances <= tolerance].sum())
        total += float(weights.sum())
        directed.append(_weighted_percentile(distances, weights, 0.95))
    return near / total, max(directed)


def surface_area(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the area in mm^2 of a mask's surface around each corner point.

    The mask is [k, j, i], the points between its voxels [k+1, j+1, i+1].

    The eight voxel centers around a corner span a cell, which the surface cuts half-way between inside and outside. The
    inside areas of opposite cell faces differ by the surface's area vector (divergence theorem).
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    cell = float(np.prod(spacing))
    squares = np.zeros([size + 1 for size in mask.shape], np.float32)
    for axis in range(3):
        corners = padded
        for other in {0, 1, 2} - {axis}:
            pairs = np.moveaxis(corners, other, 0)
            corners = np.moveaxis(pairs[:-1] + pairs[1:], 0, other)
        component = np.diff(INSIDE_SHARE[corners], axis=axis) * (cell / spacing[axis])
        squares += component**2
    return np.sqrt(squares)


def _weighted_percentile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return the smallest value that at least `share` of the weight does not exceed."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order], dtype=float)
    return float(values[order][np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-6))])
