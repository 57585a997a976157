"""A second fit of the affine map, to the labels that a network has found by means of the first one.

Registration by intensities is least accurate where a contrast differs from the template's. If the map is right, the
network finds each structure where its prior expects it. So the map is changed until the mean cross entropy of the
prior and the network's probabilities, over points drawn at random, is lowest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...catalog.card import Alignment
from ..processing.resample import Shape
from .align import Aligned
from .aligned_restore import cells, weighted_corners

POINTS = 6_000  # that are not certain to be background; a regular lattice would favor shifts by whole voxels
DRAWN = 15_000  # points, to find that many
CERTAIN = 0.99
STEPS, RATE = 60, 0.1  # of Adam, in the mean
MEAN_DECAY, SQUARE_DECAY, TINY = 0.9, 0.999, 1e-8  # its usual constants
TRIAL = 20  # of these steps, after which a map that hardly moved is left as it is
TURNED = 40.0  # voxels from the middle at which a turn counts as much as a shift
UNLIKELY = 1e-3  # added to the prior before its logarithm
LEAST = 2.0  # mm; what moves the brain less is not worth another pass of the network
INNER = 0.25  # share of the grid's length from its middle where that is measured

Network = Callable[[Tensor], Tensor]  # images [1, C, k, j, i] -> logits [1, classes, k, j, i]


def look_again(aligned: Aligned, network: Network, prior: Tensor, rules: Alignment) -> tuple[Aligned, Network]:
    """Return the volumes with a better map and the network, or, where the map was good, what gives its logits once.

    Args:
        network: called with the whole grid, not mirrored.
        prior: see `smoothed`.
        rules: of the grid.
    """
    least = LEAST / max(rules.spacing)
    with torch.no_grad():
        logits = network(aligned.rows(0, aligned.shape[0])[None])
        step = fitted(logits[0].float().cpu().softmax(0), prior, least)
    if displacement(step, aligned.shape) < least:
        once = [logits]
        del logits  # which are large, and would stay as long as what returns them
        return aligned, lambda images: once.pop()
    return aligned.moved(step, rules), network


def smoothed(prior: Tensor) -> Tensor:
    """Return the logarithm of a smoothed prior [classes, k, j, i], [1, classes, k/2, j/2, i/2]; class 0 is background.

    It is the same for every image, and takes an eighth of the memory.
    """
    return (F.avg_pool3d(F.avg_pool3d(prior[None], 3, 1, 1, count_include_pad=False), 2) + UNLIKELY).log()


@torch.inference_mode(False)
@torch.enable_grad()
def fitted(probabilities: Tensor, prior: Tensor, least: float = 0.0) -> np.ndarray:
    """Return the 4x4 matrix from where a voxel is on a better grid to where it is on this one, in indices (i, j, k).

    Args:
        probabilities: of the classes, [classes, k, j, i], found on this grid.
        prior: see `smoothed`.
        least: voxels; a map that has moved by less than half of it after TRIAL steps is not sought further.
    """
    size = torch.tensor(probabilities.shape[:0:-1], dtype=torch.float32)
    random = torch.Generator().manual_seed(0)
    points = torch.rand(DRAWN, 3, generator=random) * 2 - 1  # of the grid's extent from face to face
    found = _at(points, probabilities[None])
    unsure = (found[:, 0] < CERTAIN).nonzero()[:POINTS, 0]
    if len(unsure) == 0:
        return np.eye(4)
    found, places = found[unsure], points[unsure] * size / 2  # voxels from the middle
    shape, values = (prior.shape[2], prior.shape[3], prior.shape[4]), prior[0].flatten(1).T.contiguous()
    change, mean, square = torch.zeros(3, 4, requires_grad=True), torch.zeros(3, 4), torch.zeros(3, 4)
    for step in range(STEPS):
        if step == TRIAL and displacement(_as_matrix(change, size), probabilities.shape[1:]) < least / 2:
            break
        moved = places + places @ change[:, :3].T / TURNED + change[:, 3]
        (gradient,) = torch.autograd.grad(_cross_entropy(moved / size + 0.5, found, shape, values), change)
        # Adam, written out: torch's own would load torch's compiler, which takes longer than all of this
        mean.lerp_(gradient, 1 - MEAN_DECAY)
        square.lerp_(gradient**2, 1 - SQUARE_DECAY)
        typical = (square / (1 - SQUARE_DECAY ** (step + 1))).sqrt() + TINY
        rate = RATE * (1 + math.cos(math.pi * step / STEPS)) / (1 - MEAN_DECAY ** (step + 1))
        with torch.no_grad():
            change -= rate * mean / typical
    return _as_matrix(change, size)


def _cross_entropy(places: Tensor, found: Tensor, shape: Shape, values: Tensor) -> Tensor:
    """Return the mean over places of the cross entropy of what was found there and the prior, interpolated linearly.

    The sum over the classes comes before that over the corners of a cell, since its gradient is not needed.

    Args:
        places: [n, 3] (x, y, z), 0 to 1 from face to face.
        found: probabilities, [n, classes].
        shape: of the prior, [k, j, i].
        values: its logarithm, [voxels, classes].
    """
    lengths = torch.tensor(shape[::-1])
    corner, fractions = cells((places * lengths - 0.5).T.unbind(), shape)
    total = torch.zeros(())
    for offset, weight in weighted_corners(shape, fractions):
        total = total - (weight * (values[corner + offset] * found).sum(1)).mean()
    return total


def _as_matrix(change: Tensor, size: Tensor) -> np.ndarray:
    """Return a change of the map [3, 4], about the middle of a grid of `size` (i, j, k), as `fitted` returns it."""
    matrix = np.eye(4)
    matrix[:3, :3] += change.detach()[:, :3].double().numpy() / TURNED
    matrix[:3, 3] = change.detach()[:, 3].double().numpy()
    middle = np.eye(4)
    middle[:3, 3] = (size.numpy() - 1) / 2
    return middle @ np.linalg.inv(matrix) @ np.linalg.inv(middle)


def displacement(step: np.ndarray, shape: Sequence[int]) -> float:
    """Return how many voxels a 4x4 matrix of indices (i, j, k) moves what is half-way to the corners of a grid."""
    corners = np.array(list(itertools.product(*((n * INNER, n * (1 - INNER)) for n in shape[::-1]))))
    return float(np.linalg.norm(corners @ step[:3, :3].T + step[:3, 3] - corners, axis=1).max())


def _at(places: Tensor, maps: Tensor) -> Tensor:
    """Return the values [n, maps] of maps [1, maps, k, j, i] at places [n, 3] (x, y, z), -1 to 1 from face to face."""
    return F.grid_sample(maps, places[None, None, None], padding_mode="border", align_corners=False)[0, :, 0, 0].T
