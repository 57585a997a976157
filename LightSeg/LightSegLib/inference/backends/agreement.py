"""Whether two ways to compute a network find the same labels, and the tile on which that is tried."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

AGREEMENT = 0.995  # mean Dice of the labels with those of float32
FEWEST_VOXELS = 100  # of a label that counts for it
CLOSENESS = 0.02  # deviation of the logits from those of float32, as a share of their spread


def agree(expected: Tensor, found: Tensor, regions: bool) -> bool:
    """Return whether two backends give the same labels, but for a few voxels.

    Args:
        expected: logits [1, outputs, k, j, i].
        found: logits [1, outputs, k, j, i].
        regions: each output is its own label.
    """
    spread = expected.std(dim=(0, 2, 3, 4), keepdim=True).mean()
    if not bool(((found - expected).square().mean().sqrt() <= CLOSENESS * spread).all()):
        return False
    dice = mean_dice(_masks(expected, regions), _masks(found, regions))
    return dice is None or dice >= AGREEMENT


def mean_dice(expected: Tensor, found: Tensor) -> float | None:
    """Return the mean over the masks [labels, ...] with at least FEWEST_VOXELS in either; None where there are none."""
    expected, found = expected.flatten(1), found.flatten(1)
    return dice_of_sizes(expected.sum(1), found.sum(1), (expected & found).sum(1))


def dice_of_sizes(expected: Tensor, found: Tensor, both: Tensor) -> float | None:
    """Return the same of voxels that are counted: of each label in one, in the other, and in both."""
    counted = torch.maximum(expected, found) >= FEWEST_VOXELS
    if not bool(counted.any()):
        return None
    return float((2 * both[counted] / (expected + found)[counted]).mean())


def check_tile(channels: int, patch: tuple[int, int, int], signed: bool) -> Tensor:
    """Return a generated image [1, C, k, j, i] with bodies, gradients and noise, the same at every call."""
    random = np.random.default_rng(0)
    tile = np.empty((channels, *patch), np.float32)
    for channel in tile:
        smooth = ndimage.gaussian_filter(random.normal(size=patch), [max(1.0, side / 12) for side in patch])
        bodies = np.digitize(smooth / max(smooth.std(), 1e-9), (-0.7, 0.3, 1.2)) / 3
        fine = ndimage.gaussian_filter(random.normal(size=patch), 1)
        channel[:] = np.clip(0.15 + 0.6 * bodies + 0.1 * fine / max(fine.std(), 1e-9), 0, 1)
    return torch.from_numpy(4 * tile - 1.5 if signed else tile)[None]


def _masks(logits: Tensor, regions: bool) -> Tensor:
    """[labels, ...] of everything but the background."""
    outputs = logits.movedim(1, 0)
    if regions:
        return outputs > 0
    labels = outputs.argmax(0)
    return torch.stack([labels == label for label in range(1, len(outputs))])
