"""Borders at an image's own voxels, learned: a small network that looks at single places.

A network on a grid of 2 mm sees borders no better than that grid shows them, and a network for every voxel of 1 mm
takes many times the work. Like the point head of PointRend (Kirillov et al. 2020, doi:10.1109/CVPR42600.2020.00982)
this one is asked at borders alone: it changes the logits that were interpolated to a place, by the image around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEP = 1.0  # mm between the samples of a patch
SIDE = 3  # samples of a patch along each axis
FACES = (4, 10, 12, 13, 14, 16, 22)  # of the flattened patch: the middle and its six next neighbors
CLIP = 4.0  # standard deviations from the mean at which intensities are cut
LOWEST = -8.0  # log-probability below which a class is out of the question


class BorderNetwork(Protocol):
    """A network with a border head, such as `AtlasUNet`."""

    @property
    def tissues(self) -> Sequence[int]:
        """Number of the tissue of each class, 0 for the background's."""

    def border_changes(
        self, logits: Tensor, evidence: Tensor, patches: Tensor, tissues: Tensor, on_left: Tensor
    ) -> Tensor:
        """Return what is added to the logits [classes, n] of places."""


class BorderHead(nn.Module):
    """Two layers for each place; a new one changes nothing.

    Places are the last axis, along which the processor computes several at once.

    Args:
        classes: of the logits, class 0 is the background.
        tissues: whose intensities are known.
        channels: of each layer.
    """

    def __init__(self, classes: int, tissues: int, channels: int) -> None:
        super().__init__()
        inputs = 2 * classes + SIDE**3 + (len(FACES) + 2) * tissues
        self.first, self.second = nn.Linear(inputs, channels), nn.Linear(channels, channels)
        self.head = nn.Linear(channels, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, logits: Tensor, evidence: Tensor, patches: Tensor, tissues: Tensor) -> Tensor:
        """Return what to add to the logits, beside the evidence: [classes, n].

        Args:
            logits: [classes, n], interpolated from the network's grid.
            evidence: [classes, n], of guided upsampling.
            patches: [3, 3, 3, n], intensities around each place, 1 mm apart along k, j, i of the network's grid, in
                standard deviations from the mean of all that is labeled.
            tissues: [2, tissues], mean and standard deviation of their intensities, in the same unit.
        """
        means, deviations = tissues[:, :, None, None]
        patches = patches.flatten(0, 2)
        distances = (patches[FACES, :] - means) / deviations
        likely = (-0.5 * distances**2 - deviations.log()).softmax(0)  # [tissues, faces, n]
        inputs = (
            logits.log_softmax(0).clamp(min=LOWEST) / 4,
            evidence,
            patches.clamp(-CLIP, CLIP),
            tissues.reshape(-1, 1).expand(-1, patches.shape[1]),
            likely.movedim(0, 1).flatten(0, 1),
        )
        x = F.silu(_applied(self.first, torch.cat(inputs)))
        return _applied(self.head, F.silu(_applied(self.second, x)))


def _applied(layer: nn.Linear, x: Tensor) -> Tensor:
    """Return the layer's outputs [out, n] of inputs [in, n]."""
    return torch.addmm(layer.bias[:, None], layer.weight, x)
