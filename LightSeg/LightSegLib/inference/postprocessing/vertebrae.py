"""Vertebrae whose labels ran into each other: each body is named again by its place along the spine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .boxes import box_of_all, is_one_of
from .pieces import numbered_pieces, piece_sums


def number_vertebrae(labels: np.ndarray, voxel_mm3: float, volume_mm3: float, values: Sequence[int]) -> None:
    """Give each connected piece of all vertebrae one label, if two labels touch; otherwise nothing is changed.

    The pieces are counted upwards from the lowest vertebra whose label there is; where the highest of all is there and
    the lowest is not, downwards from the highest. Small pieces, and those for which no label is left, are removed.

    Args:
        labels: [k, j, i] with k upwards, changed in place.
        voxel_mm3: volume of a voxel.
        volume_mm3: of the smallest piece that is a vertebra.
        values: of the vertebrae, from the highest to the lowest.

    Source: what the program of TotalSegmentator 2.18 does for vertebral bodies, whose labels were eroded for its
    training, so that they are never in touch.
    """
    box = box_of_all(labels, values)
    if box is None:
        return
    part = labels[box]
    mask = is_one_of(part, values)
    if not _touch(np.where(mask, part, 0)):
        return
    pieces, sizes = numbered_pieces(mask)
    large = np.flatnonzero(sizes * voxel_mm3 >= volume_mm3)
    large = large[large > 0]
    heights = piece_sums(pieces, len(sizes) - 1, np.arange(len(part))) / np.maximum(sizes, 1)
    upwards = large[np.argsort(heights[large], kind="stable")]
    found = _found(part, pieces, large)
    new = np.zeros(len(sizes), labels.dtype)
    if values[0] in found and values[-1] not in found:
        names, bodies = list(values), upwards[::-1]
    else:
        lowest = max((n for n, value in enumerate(values) if value in found), default=-1)
        names, bodies = list(values[: lowest + 1])[::-1], upwards
    for body, value in zip(bodies, names, strict=False):  # the shorter counts
        new[body] = value
    for row, numbers, used in zip(part, pieces, mask, strict=True):
        row[used] = new[numbers[used]]


def _touch(labels: np.ndarray) -> bool:
    """Return whether two different labels [k, j, i] are next to each other across a face."""
    for axis in range(3):
        lines = np.moveaxis(labels, axis, 0)
        for one, other in zip(lines, lines[1:], strict=False):
            if ((one != other) & (one > 0) & (other > 0)).any():
                return True
    return False


def _found(labels: np.ndarray, pieces: np.ndarray, large: np.ndarray) -> set[int]:
    """Return the labels that large pieces have."""
    is_large = np.zeros(int(pieces.max()) + 1, bool)
    is_large[large] = True
    rows = zip(labels, pieces, strict=True)
    return {int(value) for row, numbers in rows for value in np.unique(row[is_large[numbers]])}
