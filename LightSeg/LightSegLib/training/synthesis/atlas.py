"""What is common to all label maps: the prior of the network, and the mean image with which others are aligned."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .generator import Generator
from .grid import Grid, Layout
from .options import SynthesisOptions
from .settings import Settings

PRIOR_POSE = 0.5  # of the misalignment of the images: a prior as wide as the typical one
ALIGNED = SynthesisOptions(pose=(0.0, 0.0), mirrored=0.0)
BRIGHTEST = 200.0  # gray level of the brightest structure in the mean image; what is brighter has room up to 255


def prior(generator: Generator, layout: Layout, labels: list[int], step: int, samples: int) -> Tensor:
    """Return the probability [labels, k, j, i] of each class at each place, as often as it is there in random poses.

    On the layout's computed part, with one voxel for `step` of the grid's along each axis.

    Args:
        labels: the classes asked for. With symmetry, mirror images count alike.
    """
    options = SynthesisOptions(pose=(PRIOR_POSE, PRIOR_POSE), mirrored=0.5 if layout.overlap else 0.0)
    counts = torch.zeros(len(labels), *(length // step for length in layout.half.size))
    for number in range(samples):
        classes = generator.classes(number, layout.half, options)
        for n, label in enumerate(labels):
            counts[n] += F.avg_pool3d((classes == label)[None, None].float(), step)[0, 0]
    return counts / samples


def mean_image(generator: Generator, settings: Settings, grid: Grid, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of all subjects and the probability of any structure: uint8 [k, j, i].

    The intensities are those of the settings' first contrast (random ones by tissue where it has none); 255 represents
    a probability of 1.
    """
    typical = _typical(settings)
    structure = torch.tensor([0.0, *(float(bool(value.structure) and not value.rim) for value in settings.values)])
    image, focus = torch.zeros(2, *grid.size)
    for subject in generator.subjects:
        shape = generator.shape(subject, grid, ALIGNED)
        for total, of_source in ((image, typical), (focus, structure)):
            mean = shape.mean(of_source)
            total += mean + mean.flip(-1) if symmetric else 2 * mean
    scale = 2 * len(generator.subjects)
    return tuple((part / scale).clamp(0, 255).round().byte().numpy() for part in (image, 255 * focus))


def surrounding(grid: Grid, margin: float, spacing: float) -> Grid:
    """Return a grid about the same middle that reaches `margin` mm further on all sides, of another spacing."""
    lengths = [length * grid.spacing + 2 * margin for length in grid.size]
    size = [2 * round(length / spacing / 2) for length in lengths]
    middle = [start + (n - 1) / 2 * grid.spacing for start, n in zip(grid.origin, grid.size[::-1], strict=True)]
    x, y, z = (center - (n - 1) / 2 * spacing for center, n in zip(middle, size[::-1], strict=True))
    return Grid((size[0], size[1], size[2]), spacing, (x, y, z))


def _typical(settings: Settings) -> Tensor:
    """Gray level of each source."""
    if settings.contrasts:
        levels = [settings.tissues[value.tissue].intensity[settings.contrasts[0]] for value in settings.values]
    else:  # any that distinguish the tissues
        names = list(settings.tissues)
        levels = [1.0 + names.index(value.tissue) for value in settings.values]
    most = max(level for level, value in zip(levels, settings.values, strict=True) if value.name)
    return torch.tensor([0.0, *levels]) * BRIGHTEST / most
