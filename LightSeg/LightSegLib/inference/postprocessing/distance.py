"""Labels and their surroundings: each grows into the background, or what is far from other labels is removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from ...imaging.roi import Slices
from .boxes import box_of_all, box_of_each, is_one_of, widened

SLAB_VOXELS = 1 << 22  # whose distances are computed at once, with some 30 bytes each
ROUNDING = 1e-6  # mm, by which a distance that is a whole number of voxels may seem longer

Spacing = tuple[float, float, float]


def dilate(labels: np.ndarray, spacing: Spacing, distance_mm: float, values: Sequence[int] = ()) -> None:
    """Grow each label into the background around it; where two meet, the lower value counts.

    A label takes the voxels whose centers are not farther than the distance from that of one of its own.

    Args:
        labels: [k, j, i], changed in place.
        spacing: mm along k, j, i.
        distance_mm: by which they grow.
        values: those that grow; none for all.
    """
    reach = [int((distance_mm + ROUNDING) / mm) for mm in spacing]
    for value, box in list(box_of_each(labels, values)):  # before any has grown
        around = widened(box, reach, labels.shape)
        part = labels[around]
        for rows, near in _near(part == value, spacing, distance_mm, reach[0]):
            slab = part[rows]
            slab[near & (slab == 0)] = value


def _near(mask: np.ndarray, spacing: Spacing, distance_mm: float, reach: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield where a mask [k, j, i] is near, some rows after the other."""
    depth = max(1, SLAB_VOXELS // (mask.shape[1] * mask.shape[2]))
    for start in range(0, len(mask), depth):
        stop = min(start + depth, len(mask))
        first = max(0, start - reach)
        seen = mask[first : stop + reach]
        if seen.any():
            distances = ndimage.distance_transform_edt(~seen, sampling=spacing)
            yield slice(start, stop), distances[start - first : stop - first] <= distance_mm + ROUNDING


def keep_within(
    labels: np.ndarray, reference: np.ndarray, spacing: Spacing, distance_mm: float, values: Sequence[int] = ()
) -> None:
    """Remove what is not in a mask or near it.

    Nearness is counted in steps from a voxel to its neighbor across a face: as many as the distance has mean voxel
    sizes, rounded down.

    Args:
        labels: [k, j, i], changed in place.
        reference: the mask [k, j, i].
        spacing: mm along k, j, i.
        distance_mm: how far from the mask.
        values: those that are changed; none for all.

    Source: what the program of TotalSegmentator 2.18 does around the heart.
    """
    box = box_of_all(labels, values)
    if box is None:
        return
    steps = int(distance_mm / np.mean(spacing))
    around = widened(box, [steps] * 3, labels.shape)
    near = reference[around]
    if steps:  # none would mean without end
        near = ndimage.binary_dilation(near, iterations=steps)
    part = labels[box]
    part[~near[_inside(box, around)] & is_one_of(part, values)] = 0


def _inside(box: Slices, around: Slices) -> Slices:
    """Return where a box is in an array that is cut out around it."""
    k, j, i = (slice(s.start - first.start, s.stop - first.start) for s, first in zip(box, around, strict=True))
    return k, j, i
