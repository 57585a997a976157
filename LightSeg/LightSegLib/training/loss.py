"""The training objective of LightMedSeg (section 3.7, eq. 22): Dice + cross-entropy + boundary.

The paper does not state the weights of the three terms; all are 1 here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SegmentationLoss(nn.Module):
    """Loss of logits [B, C, D, H, W] against labels [B, D, H, W].

    frequencies: share of each class among the voxels of the training set. exponent: classes weigh by
    frequency ** -exponent, scaled to a mean of 1 over the classes present; the paper's inverse frequency is 1,
    equal weights are 0.
    dilation: radius in voxels (maximum norm) of the boundary region; the paper leaves it open.
    """

    weights: Tensor

    def __init__(self, frequencies: list[float], exponent: float = 1.0, dilation: int = 2) -> None:
        super().__init__()
        share = torch.tensor(frequencies)
        present = share > 0  # a class without voxels has no weight: its inverse would drown all others
        weights = torch.where(present, share.clamp_min(1e-6) ** -exponent, 0.0)
        self.register_buffer("weights", weights / weights[present].mean())
        self.dilation = dilation

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits.float()
        target = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).float()
        probabilities = logits.softmax(dim=1)
        cross_entropy = F.cross_entropy(logits, labels, weight=self.weights)
        return self.dice(probabilities, target) + cross_entropy + self.boundary(probabilities, target)

    def dice(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """One minus the weighted mean over classes of the soft Dice, summed over the whole batch."""
        axes = (0, 2, 3, 4)
        overlap = (probabilities * target).sum(axes)
        size = probabilities.sum(axes) + target.sum(axes)
        score = (2 * overlap + 1) / (size + 1)
        return 1 - (self.weights * score).sum() / self.weights.sum()

    def boundary(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy within the dilated class boundaries, divided by the region's size."""
        region = boundary_region(target, self.dilation)
        entropy = F.binary_cross_entropy(probabilities.clamp(1e-6, 1 - 1e-6), target, reduction="none")
        entropy = entropy * self.weights[None, :, None, None, None]
        return (entropy.mean(dim=1, keepdim=True) * region).sum() / region.sum().clamp_min(1)


def boundary_region(target: Tensor, dilation: int) -> Tensor:
    """Voxels [B, 1, ...] (0 or 1) with more than one class within `dilation` voxels in the maximum norm."""
    present = target
    for axis in range(3):  # a box maximum is separable: three short passes instead of a cube
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * dilation + 1, dilation
        present = F.max_pool3d(present, size, stride=1, padding=padding)
    return (present.sum(dim=1, keepdim=True) > 1).to(target.dtype)
