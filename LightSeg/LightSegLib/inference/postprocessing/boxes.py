"""Where labels are, so that a step works on the part of an image that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from ...imaging.roi import Slices


def box_of_each(labels: np.ndarray, values: Sequence[int] = ()) -> Iterator[tuple[int, Slices]]:
    """Yield the labels that occur, in order of their values, with the smallest box around each.

    Args:
        labels: [k, j, i].
        values: those that are wanted; none for all.
    """
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None and (not values or value in values):
            yield value, box


def box_of_all(labels: np.ndarray, values: Sequence[int] = ()) -> Slices | None:
    """Return the smallest box around some labels together; None where there are none.

    Args:
        labels: [k, j, i].
        values: those that are wanted; none for all.
    """
    boxes = [box for _, box in box_of_each(labels, values)]
    if not boxes:
        return None
    k, j, i = (slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
    return k, j, i


def widened(box: Slices, voxels: Sequence[int], shape: Sequence[int]) -> Slices:
    """Return a box with so many voxels more at all sides, as far as the array goes.

    Args:
        box: slices [k, j, i].
        voxels: along k, j, i.
        shape: of the array [k, j, i].
    """
    k, j, i = (
        slice(max(0, s.start - more), min(length, s.stop + more))
        for s, more, length in zip(box, voxels, shape, strict=True)
    )
    return k, j, i


def is_one_of(labels: np.ndarray, values: Sequence[int] = ()) -> np.ndarray:
    """Return where labels have one of some values, as bool; without values, where there is any label."""
    return np.isin(labels, values) if values else labels > 0
