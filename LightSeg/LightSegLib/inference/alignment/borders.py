"""What the border head of a network sees of an image: intensities around places, relative to those of the tissues."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...imaging.roi import Slices
from ...networks.border_head import SIDE, STEP, BorderNetwork
from .guided import Guide, Intensities

OFFSETS = tuple(itertools.product(range(-(SIDE // 2), SIDE // 2 + 1), repeat=3))  # of a patch's samples, k, j, i


class Borders:
    """The border head of a network for one image.

    Args:
        to_grid: 4x4, from index (i, j, k) in the labels to that on the network's grid.
        part: the labels that are asked for.
        probabilities: of the classes on that grid, [classes, k, j, i].
    """

    def __init__(
        self, network: BorderNetwork, guide: Guide, to_grid: np.ndarray, part: Slices, probabilities: Tensor
    ) -> None:
        self._network = network
        steps = np.linalg.inv(to_grid)[:3, :3] * (STEP / np.array(guide.spacing))
        reach = (np.ceil(np.abs(steps).sum(1)).astype(int) + 1)[::-1].tolist()  # along k, j, i
        first = [max(0, start + one.start - far) for start, one, far in zip(guide.start, part, reach, strict=True)]
        last = [start + one.stop + far for start, one, far in zip(guide.start, part, reach, strict=True)]
        seen = guide.image[tuple(map(slice, first, last))]
        self._shift = [start - low for start, low in zip(guide.start, first, strict=True)]
        self._patches = Patches(torch.from_numpy(seen.astype(np.float32)), steps)
        self._unit = Unit(guide.coarse, probabilities, network.tissues)

    def changes(self, logits: Tensor, evidence: Tensor, voxels: Sequence[Tensor], on_left: Tensor) -> Tensor:
        """Return what is added to the logits of voxels beside the evidence of their intensity, [classes, n].

        Args:
            logits: [classes, n].
            evidence: [classes, n].
            voxels: k, j, i of each in the labels.
            on_left: bool [n].
        """
        patches = self._patches([voxel + shift for voxel, shift in zip(voxels, self._shift, strict=True)])
        return self._network.border_changes(logits, evidence, self._unit.of(patches), self._unit.tissues, on_left)


class Unit:
    """The unit of intensities: standard deviations from the mean of all that is labeled.

    Args:
        coarse: the image on the network's grid, [k, j, i].
        probabilities: of the classes, [classes, k, j, i].
        tissues: number of the tissue of each class.

    Attributes:
        spread: the unit, in the image's intensities.
        tissues: [2, tissues but the background's], mean and standard deviation of each in this unit.
    """

    def __init__(self, coarse: Tensor, probabilities: Tensor, tissues: Sequence[int]) -> None:
        of_tissue = probabilities.new_zeros(max(tissues) + 1, *coarse.shape)
        of_tissue.index_add_(0, torch.tensor(tissues), probabilities)
        found = Intensities(coarse, of_tissue)
        self._center, self.spread = found.center, found.spread
        means, deviations = (found.mean - found.center) / found.spread, found.variance.sqrt() / found.spread
        self.tissues = torch.stack((means, deviations))[:, 1:]

    def of(self, intensities: Tensor) -> Tensor:
        """Return intensities in this unit."""
        return (intensities - self._center) / self.spread


class Patches:
    """The patches around voxels of an image, interpolated linearly; beyond the image its border goes on.

    From every voxel the samples are at the same steps, so each is the same weighted sum of neighbors.

    Args:
        image: [k, j, i].
        steps: 3x3, how a step along each axis (i, j, k) of a patch changes the index i, j, k of the image.
    """

    def __init__(self, image: Tensor, steps: np.ndarray) -> None:
        samples = np.array([offset[::-1] for offset in OFFSETS]) @ steps.T  # [27, (i, j, k)]
        lower = np.floor(samples).astype(int)
        corners = np.array(list(itertools.product((0, 1), repeat=3)))
        neighbors = (lower[:, None] + corners).reshape(-1, 3)
        share = np.abs(1 - corners - (samples - lower)[:, None]).prod(-1)
        kept, place = np.unique(neighbors, axis=0, return_inverse=True)
        weights = np.zeros((len(samples), len(kept)))
        np.add.at(weights, (np.arange(len(samples)).repeat(len(corners)), place.ravel()), share.ravel())
        used = weights.any(0)
        self._weights = torch.from_numpy(weights[:, used]).float()
        around = (np.abs(kept).max(0) + 1).tolist()  # along i, j, k
        margins = [margin for margin in around for _ in range(2)]
        padded = torch.nn.functional.pad(image[None, None], margins, mode="replicate")[0, 0]
        self._reach = around[::-1]
        self._strides = torch.tensor(padded.stride())
        self._neighbors = torch.from_numpy(kept[used][:, ::-1].copy()) @ self._strides
        self._values = padded.flatten()

    def __call__(self, voxels: Sequence[Tensor]) -> Tensor:
        """Return the patches [3, 3, 3, n] around voxels (k, j, i of each)."""
        index = sum(
            (voxel + reach) * step for voxel, reach, step in zip(voxels, self._reach, self._strides, strict=True)
        )
        seen = self._values.take(index + self._neighbors[:, None])
        return (self._weights @ seen).reshape(SIDE, SIDE, SIDE, -1)
