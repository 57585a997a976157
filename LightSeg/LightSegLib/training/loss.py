"""Training objectives.

`SegmentationLoss` is that of LightMedSeg (section 3.7, eq. 22): Dice + cross-entropy + boundary. The paper does not
state the weights of the three terms; all are 1 here. `drawn_loss` is cross-entropy + Dice over drawn voxels, for many
classes of very different size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SegmentationLoss(nn.Module):
    """Loss of logits [B, C, D, H, W] against labels [B, D, H, W].

    Args:
        frequencies: share of each class among the voxels of the training set.
        exponent: classes weigh by frequency ** -exponent, scaled to a mean of 1 over the classes present; the
            paper's inverse frequency is 1, equal weights are 0.
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
        """Return the loss of logits [B, classes, k, j, i] for labels [B, k, j, i]."""
        logits = logits.float()
        target = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).float()
        probabilities = logits.softmax(dim=1)
        cross_entropy = F.cross_entropy(logits, labels, weight=self.weights)
        return self.dice(probabilities, target) + cross_entropy + self.boundary(probabilities, target)

    def dice(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Return one minus the weighted mean over classes of the soft Dice, summed over the whole batch."""
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
    """Return the voxels [B, 1, k, j, i] (0 or 1) with more than one class within `dilation` voxels (maximum norm).

    `target` is one-hot, [B, classes, k, j, i].
    """
    dilated = target
    for axis in range(3):  # one axis after another finds the same maximum in a fifth of the time
        side, padding = [1, 1, 1], [0, 0, 0]
        side[axis], padding[axis] = 2 * dilation + 1, dilation
        dilated = F.max_pool3d(dilated, side, stride=1, padding=padding)
    return (dilated.sum(dim=1, keepdim=True) > 1).to(target.dtype)


def drawn_voxels(labels: Tensor, classes: int, each: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return flat indices [n] of drawn voxels, about `each` of every class, and their weights [n].

    A weight is how many voxels a drawn one represents.

    Labels [voxels] of `classes` or above are never drawn. Small structures keep all their voxels: a step costs little,
    and sums weighted by what each voxel represents are those of the whole image in the mean.
    """
    counts = torch.bincount(labels, minlength=classes)[:classes]
    share = torch.cat(((each / counts.clamp(min=1)).clamp(max=1), torch.zeros(1)))
    probability = share[labels.clamp(max=classes)]
    chosen = (torch.rand(len(labels), generator=random) < probability).nonzero()[:, 0]
    return chosen, 1 / probability[chosen]


def drawn_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy plus one minus the mean soft Dice of the structures present, over drawn voxels.

    logits [n, classes], labels [n], weights [n]: how many voxels each one represents. Class 0, the background, has no
    Dice of its own.
    """
    logarithms = logits.log_softmax(1)
    entropy = (F.nll_loss(logarithms, labels, reduction="none") * weights).sum() / weights.sum()
    probabilities = logarithms.exp() * weights[:, None]
    classes = logits.shape[1]
    size = torch.zeros(classes, device=logits.device).index_add_(0, labels, weights)
    hit = probabilities.gather(1, labels[:, None])[:, 0]
    overlap = torch.zeros(classes, device=logits.device).index_add_(0, labels, hit)
    score = (2 * overlap + 1) / (probabilities.sum(0) + size + 1)
    present = (size > 0) & (torch.arange(classes, device=logits.device) > 0)
    return entropy + (1 - score[present].mean() if present.any() else 0)
