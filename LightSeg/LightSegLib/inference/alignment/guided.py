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
from torch import Tensor

LIMIT = 2.0  # of the change of a logit
LEAST_VARIANCE = 0.02  # share of the variance of all that is labeled; a label with less would judge by noise
ROUNDING = 1e-5  # share of the largest value that is no difference


@dataclass(frozen=True)
class Guide:
    """An image as it is and as the network saw it, both [k, j, i].

    Attributes:
        fine: the part of the image to be labeled.
        coarse: on the network's grid.
    """

    fine: np.ndarray
    coarse: Tensor


class Intensities:
    """The intensity of every label.

    Args:
        coarse: the image that the network saw, [k, j, i].
        probabilities: of the classes, [classes, k, j, i]. Class 0, the background, is left out: what surrounds the
            structures has any intensity.
    """

    def __init__(self, coarse: Tensor, probabilities: Tensor) -> None:
        values = coarse.flatten().double()
        powers = torch.stack((torch.ones_like(values), values, values**2))
        sums = torch.stack([powers @ weights.double() for weights in probabilities.flatten(1)], dim=1)
        count = sums[0].clamp(min=1e-6)
        mean = sums[1] / count
        variance = (sums[2] / count - mean**2).clamp(min=0)
        share = count[1:] / count[1:].sum()
        spread = share @ (variance[1:] + (mean[1:] - share @ mean[1:]) ** 2)
        rounding = ROUNDING * values.abs().max().clamp(min=1e-6)
        variance = variance + LEAST_VARIANCE * spread + rounding**2
        self._mean, self._variance = mean.float(), variance.float()

    def evidence(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return what is to be added to the logits [n, classes] of places, by the two images there [n]."""
        between = (fine + coarse)[:, None] / 2 - self._mean
        change = (coarse - fine)[:, None] * between / self._variance
        change[:, 0] = 0
        return change.clamp(-LIMIT, LIMIT)
