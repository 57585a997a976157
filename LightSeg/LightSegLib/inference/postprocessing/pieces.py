"""Connected pieces of labels: the largest is kept, or small ones are removed.

Voxels are connected across faces, as in `scipy.ndimage.label`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from ...imaging.roi import Slices
from .boxes import box_of_all, box_of_each, is_one_of


def keep_largest(labels: np.ndarray, values: Sequence[int] = (), together: bool = False) -> None:
    """Keep only the largest piece of each label; of equally large ones the first in the array's order.

    Args:
        labels: [k, j, i], changed in place.
        values: those that are changed; none for all.
        together: one piece of all these labels, which are then connected to each other.
    """
    for box, mask in _masks(labels, values, together):
        pieces, sizes = numbered_pieces(mask)
        dropped = np.ones(len(sizes), bool)
        dropped[[0, 1 + int(sizes[1:].argmax())]] = False
        remove(labels[box], pieces, dropped)


def remove_small(
    labels: np.ndarray, voxel_mm3: float, volume_mm3: float, values: Sequence[int] = (), together: bool = False
) -> None:
    """Remove the pieces that are not larger than a volume.

    Args:
        labels: [k, j, i], changed in place.
        voxel_mm3: volume of a voxel.
        volume_mm3: of the largest piece that is removed.
        values: those that are changed; none for all.
        together: pieces of all these labels, which are then connected to each other.
    """
    for box, mask in _masks(labels, values, together):
        pieces, sizes = numbered_pieces(mask)
        dropped = sizes * voxel_mm3 <= volume_mm3
        dropped[0] = False
        remove(labels[box], pieces, dropped)


def remove_labels(labels: np.ndarray, values: Sequence[int]) -> None:
    """Remove labels [k, j, i], in place."""
    for value, box in box_of_each(labels, values):
        part = labels[box]
        part[part == value] = 0


def numbered_pieces(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the piece of each voxel [k, j, i], 0 outside of the mask, and how many voxels each has."""
    pieces, count = ndimage.label(mask)
    return pieces, piece_sums(pieces, count, np.ones(len(pieces), int))


def piece_sums(pieces: np.ndarray, count: int, weights: np.ndarray) -> np.ndarray:
    """Return for each piece the sum of its voxels' weights.

    Args:
        pieces: the number of the piece of each voxel [k, j, i].
        count: of pieces.
        weights: of the voxels of each row along k.

    Returns:
        One more than there are pieces; the first is that of the voxels of none, which is 0.
    """
    sums = np.zeros(count + 1, weights.dtype)
    for row, weight in zip(pieces, weights, strict=True):  # by rows, since the counting copies what it counts
        counts = np.bincount(row.ravel())
        sums[: len(counts)] += counts * weight
    sums[0] = 0
    return sums


def remove(labels: np.ndarray, pieces: np.ndarray, dropped: np.ndarray) -> None:
    """Remove the labels [k, j, i] of pieces, in place; `dropped` has an entry for each piece, the first for none."""
    for row, numbers in zip(labels, pieces, strict=True):
        row[dropped[numbers]] = 0


def _masks(labels: np.ndarray, values: Sequence[int], together: bool) -> Iterator[tuple[Slices, np.ndarray]]:
    """Yield boxes, and where in each a label is, or all of them together."""
    if not together:
        for value, box in box_of_each(labels, values):
            yield box, labels[box] == value
    elif (box_of_them := box_of_all(labels, values)) is not None:
        yield box_of_them, is_one_of(labels[box_of_them], values)
