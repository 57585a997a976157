"""Masks grown by a box, in three short passes instead of one over a cube."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dilated(masks: Tensor, radius: int) -> Tensor:
    """Return the maximum of masks [B, C, k, j, i] within `radius` voxels along every axis, same shape."""
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * radius + 1, radius
        masks = F.max_pool3d(masks, size, stride=1, padding=padding)
    return masks
