"""Where a network must compute, row by row: a box [j, i] in each row k of a grid, as int32 [rows, 4].

The four numbers are the first and the one after the last along j, then along i; a row without a box has none between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def row_boxes(mask: np.ndarray) -> np.ndarray:
    """Boxes around the voxels of a mask [k, j, i]."""
    depth, height, width = mask.shape
    boxes = np.empty((depth, 4), np.int32)
    for row, plane in enumerate(mask):
        j, i = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        boxes[row] = (j[0], j[-1] + 1, i[0], i[-1] + 1) if j.size else (height, 0, width, 0)
    return boxes


def whole(shape: Sequence[int]) -> np.ndarray:
    """Boxes of all voxels of a grid [k, j, i]."""
    return np.tile(np.array([0, shape[1], 0, shape[2]], np.int32), (shape[0], 1))


def filled(boxes: np.ndarray) -> np.ndarray:
    """Which rows have a box."""
    return (boxes[:, 0] < boxes[:, 1]) & (boxes[:, 2] < boxes[:, 3])


def grown(boxes: np.ndarray, reach: int, shape: Sequence[int]) -> np.ndarray:
    """Boxes around all voxels within `reach` of the given ones along every axis, in a grid [k, j, i]."""
    size = 2 * reach + 1
    lower = ndimage.minimum_filter1d(boxes[:, ::2], size, axis=0, mode="nearest") - reach
    upper = ndimage.maximum_filter1d(boxes[:, 1::2], size, axis=0, mode="nearest") + reach
    some = ndimage.maximum_filter1d(filled(boxes).astype(np.uint8), size, mode="constant") > 0
    result = np.empty_like(boxes)
    result[:, ::2] = np.maximum(lower, 0)
    result[:, 1::2] = np.minimum(upper, shape[1:])
    result[~some] = (shape[1], 0, shape[2], 0)
    return result


def common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the part that both have in common."""
    result = np.empty_like(first)
    result[:, ::2] = np.maximum(first[:, ::2], second[:, ::2])
    result[:, 1::2] = np.minimum(first[:, 1::2], second[:, 1::2])
    result[~filled(result)] = (np.iinfo(np.int32).max // 4, 0) * 2
    return result


def around(boxes: np.ndarray) -> tuple[int, int, int, int]:
    """The one box around those of several rows; an empty one where there are none."""
    some = boxes[filled(boxes)]
    if not len(some):
        return 0, 0, 0, 0
    j0, _, i0, _ = some.min(axis=0)
    _, j1, _, i1 = some.max(axis=0)
    return int(j0), int(j1), int(i0), int(i1)


def computed(
    wanted: np.ndarray, varied: np.ndarray, reach: tuple[int, int], shape: Sequence[int], border: bool = True
) -> np.ndarray:
    """Where a layer must be computed; elsewhere its values are not needed, or those of an image of one intensity.

    wanted: where the last layer is. varied: where the image differs from the intensity of the air around. reach: voxels
    that the last layer sees of this one, and that this one sees of the image. border: whether a layer is computed
    wherever it is needed in rows that see the zeros beyond a grid's border.
    """
    after, before = reach
    needed = grown(wanted, after, shape)
    boxes = common(needed, grown(varied, before, shape))
    if not border:
        return boxes
    rows = np.arange(len(boxes))
    at_border = (rows < before) | (rows >= len(boxes) - before)
    at_border |= (needed[:, ::2] < before).any(axis=1) | (needed[:, 1::2] > np.subtract(shape[1:], before)).any(axis=1)
    boxes[at_border] = needed[at_border]
    return boxes
