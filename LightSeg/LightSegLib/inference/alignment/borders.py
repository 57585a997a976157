"""What the border head of a network sees of an image: intensities around places, relative to those of the tissues."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...networks.border_head import SIDE, STEP, BorderNetwork
from .guided import Guide, Intensities

OFFSETS = tuple(itertools.product(range(-(SIDE // 2), SIDE // 2 + 1), repeat=3))  # of a patch's samples, k, j, i


class Borders:
    """The border head of a network for one image.

    Args:
        to_grid: 4x4, from index (i, j, k) in the labels to that on the network's grid.
        probabilities: of the classes on that grid, [classes, k, j, i].
    """

    def __init__(self, network: BorderNetwork, guide: Guide, to_grid: np.ndarray, probabilities: Tensor) -> None:
        self._network, self._guide = network, guide
        self._image = torch.from_numpy(guide.image.astype(np.float32))
        self._steps = np.linalg.inv(to_grid)[:3, :3] * (STEP / np.array(guide.spacing))
        self._unit = Unit(guide.coarse, probabilities, network.tissues)

    def changes(self, logits: Tensor, evidence: Tensor, voxels: Sequence[Tensor], on_left: Tensor) -> Tensor:
        """Return what is added to the logits of voxels beside the evidence of their intensity, [classes, n].

        Args:
            logits: [classes, n].
            evidence: [classes, n].
            voxels: k, j, i of each in the labels.
            on_left: bool [n].
        """
        places = [voxel + first for voxel, first in zip(voxels, self._guide.start, strict=True)][::-1]
        patches = self._unit.of(sampled(self._image, places, self._steps))
        return self._network.border_changes(logits, evidence, patches, self._unit.tissues, on_left)


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


def sampled(image: Tensor, places: Sequence[Tensor], steps: np.ndarray) -> Tensor:
    """Return the patches [3, 3, 3, n] around places, interpolated linearly.

    Args:
        image: [k, j, i].
        places: x, y, z [n], indices along i, j, k.
        steps: 3x3, how a step along each axis (i, j, k) of the patch changes x, y, z.
    """
    around = torch.from_numpy(np.array([offset[::-1] for offset in OFFSETS]) @ steps.T).float()  # [27, (x, y, z)]
    size = torch.tensor(image.shape[::-1])
    middle = (2 * torch.stack([place.float() for place in places], -1) + 1) / size - 1  # -1 to 1 from face to face
    grid = middle + (2 * around / size)[:, None]
    found = torch.nn.functional.grid_sample(
        image[None, None], grid[None, None], padding_mode="border", align_corners=False
    )
    return found.reshape(SIDE, SIDE, SIDE, -1)
