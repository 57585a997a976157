"""Guided upsampling: the image's own voxels place borders between labels that were found on a coarser grid.

A network on a grid of 2 mm places the border between two tissues within a voxel of that grid; the image shows it more
exactly. Every label's intensity is described by a mean and a variance, weighted by the network's probabilities. Where a
voxel of the image is brighter or darker than the network's image at its place, its logits change by the difference of
the two log-likelihoods, within limits, so that noise and lesions do not decide alone. Other means of guided
upsampling: Kopf et al. 2007, doi:10.1145/1275808.1276497.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...imaging.roi import Slices
from ...networks.border_head import BorderNetwork

LIMIT = 2.0  # of the change of a logit
ADDED_VARIANCE = 0.2  # share of the variance of all that is labeled, added to each label's, which else judges by noise
LEAST_PROBABILITY = 1e-3  # less is the floor of a network's probabilities, which is everywhere, in the air too
ROUNDING = 1e-5  # share of the largest value that is no difference


@dataclass(frozen=True)
class Guide:
    """An image as it is and as the network saw it, both [k, j, i].

    Attributes:
        image: as it is.
        coarse: on the network's grid.
        start: voxel k, j, i of the image at which the part to be labeled begins.
        border_network: the network, where it has a border head.
        spacing: mm of the network's grid along i, j, k, which a border head needs.
        threads: that look at the image side by side; the answer is the same.
    """

    image: np.ndarray
    coarse: Tensor
    start: tuple[int, ...] = (0, 0, 0)
    border_network: BorderNetwork | None = None
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    threads: int = 1

    def part(self, part: Slices) -> np.ndarray:
        """Return the image in slices of the part to be labeled."""
        return self.image[
            tuple(slice(first + one.start, first + one.stop) for first, one in zip(self.start, part, strict=True))
        ]


class Intensities:
    """The intensity of every label.

    Args:
        coarse: the image that the network saw, [k, j, i].
        probabilities: of the classes, [classes, k, j, i]. Class 0, the background, is left out: what surrounds the
            structures has any intensity.

    Attributes:
        mean: of each label's intensity.
        variance: of each label's intensity, with what no image is without.
        center: mean of all that is labeled.
        spread: standard deviation of all that is labeled.
    """

    def __init__(self, coarse: Tensor, probabilities: Tensor) -> None:
        values = coarse.flatten().double()
        powers = torch.stack((torch.ones_like(values), values, values**2))
        sums = torch.stack(
            [powers @ F.threshold(weights.double(), LEAST_PROBABILITY, 0) for weights in probabilities.flatten(1)],
            dim=1,
        )
        count = sums[0].clamp(min=1e-6)
        mean = sums[1] / count
        variance = (sums[2] / count - mean**2).clamp(min=0)
        share = count[1:] / count[1:].sum()
        center = share @ mean[1:]
        mean = torch.where(sums[0] > 0, mean, center)  # of what was not found nothing is known
        spread = share @ (variance[1:] + (mean[1:] - center) ** 2)
        rounding = ROUNDING * values.abs().max().clamp(min=1e-6)
        variance = variance + ADDED_VARIANCE * spread + rounding**2
        self.mean, self.variance = mean.float(), variance.float()
        self.center, self.spread = float(center), float((spread + rounding**2).sqrt())

    def evidence(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return what is to be added to the logits [n, classes] of places, by the two images there [n]."""
        between = (fine + coarse)[:, None] / 2 - self.mean
        change = (coarse - fine)[:, None] * between / self.variance
        change[:, 0] = 0
        return change.clamp(-LIMIT, LIMIT)
