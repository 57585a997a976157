"""Random patches: where they are cut, and how space and intensities are varied.

One affine map per patch does cropping, flips, rotation and scaling in a single interpolation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; probabilities are per patch.

    Attributes:
        flip_axes: array axes that may be flipped.
    """

    rotation_degrees: float = 20.0
    scale: tuple[float, float] = (0.8, 1.25)
    spatial_probability: float = 0.8
    noise: float = 0.15
    blur_sigma: tuple[float, float] = (0.4, 1.2)
    brightness: float = 0.3
    contrast: tuple[float, float] = (0.65, 1.5)
    gamma: tuple[float, float] = (0.6, 1.6)
    bias_field: float = 0.35
    intensity_probability: float = 0.25
    flip_axes: tuple[int, ...] = ()

    def times(self, strength: float) -> Augmentation:
        """Return these changes at another strength: 0.5 halves them; with 0 nothing is turned, scaled or brightened.

        Factors are raised to the power of `strength`, what is added or turned is multiplied by it. Flips and
        probabilities stay.
        """

        def factor(low: float, high: float) -> tuple[float, float]:
            return low**strength, high**strength

        return dataclasses.replace(
            self,
            rotation_degrees=self.rotation_degrees * strength,
            scale=factor(*self.scale),
            noise=self.noise * strength,
            blur_sigma=(self.blur_sigma[0] * strength, self.blur_sigma[1] * strength),
            brightness=self.brightness * strength,
            contrast=factor(*self.contrast),
            gamma=factor(*self.gamma),
            bias_field=self.bias_field * strength,
        )


def random_patch(
    image: Tensor,
    labels: Tensor,
    patch_size: Sequence[int],
    foreground: bool,
    random: np.random.Generator,
    augmentation: Augmentation,
) -> tuple[Tensor, Tensor]:
    """Return one augmented patch of image [C, k, j, i] and labels [k, j, i]: ([C, *patch], [*patch] of int64).

    Args:
        foreground: center the patch near a random labeled voxel, so that rare classes are seen. Outside the volume
            the image continues with its edge values and the labels are background.
    """
    grid = _grid(labels, patch_size, foreground, random, augmentation)
    patch = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    target = F.grid_sample(labels[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return vary_intensities(patch, random, augmentation), target[0, 0].long()


def vary_intensities(patch: Tensor, random: np.random.Generator, ranges: Augmentation) -> Tensor:
    """Bias field, noise, blur, brightness, contrast and gamma, each with its own probability, channel by channel."""
    channels = []
    for channel in patch:
        if random.random() < ranges.intensity_probability:
            channel = channel * _bias_field(channel.shape, ranges.bias_field, random)
        if random.random() < ranges.intensity_probability:
            channel = channel + random.uniform(0, ranges.noise) * _normal(channel.shape, random)
        if random.random() < ranges.intensity_probability:
            channel = _blur(channel, random.uniform(*ranges.blur_sigma))
        if random.random() < ranges.intensity_probability:
            channel = channel + random.uniform(-ranges.brightness, ranges.brightness)
        if random.random() < ranges.intensity_probability:
            mean = channel.mean()
            channel = (channel - mean) * random.uniform(*ranges.contrast) + mean
        if random.random() < ranges.intensity_probability:
            channel = _gamma(channel, random.uniform(*ranges.gamma))
        channels.append(channel)
    return torch.stack(channels)


def _grid(
    labels: Tensor,
    patch_size: Sequence[int],
    foreground: bool,
    random: np.random.Generator,
    ranges: Augmentation,
) -> Tensor:
    """Sampling positions [1, k, j, i, 3] for grid_sample, in its coordinates (-1..1, order i, j, k)."""
    shape = np.array(labels.shape)
    size = np.array(patch_size)
    matrix = np.eye(3)
    if random.random() < ranges.spatial_probability:
        matrix = _rotation(random, ranges.rotation_degrees) * random.uniform(*ranges.scale, size=3)[None]
    for axis in ranges.flip_axes:
        if random.random() < 0.5:
            matrix[:, axis] *= -1
    slack = np.maximum(shape - size, 0) / 2
    center = (shape - 1) / 2 + random.uniform(-slack - 3, slack + 3)
    if foreground:
        voxels = torch.nonzero(labels)
        if len(voxels):
            chosen = voxels[random.integers(len(voxels))].numpy() + random.uniform(-size / 6, size / 6)
            # near the labels, but no further outside the volume than an unlabeled patch would be
            center = np.clip(chosen, (shape - 1) / 2 - slack - 3, (shape - 1) / 2 + slack + 3)
    to_unit = 2 / shape
    theta = np.zeros((3, 4))
    # affine_grid gives patch positions p in (-1, 1) as (i, j, k); voxel offset = p * size / 2 along (k, j, i)
    theta[:, :3] = (to_unit[:, None] * matrix * (size / 2)[None])[::-1, ::-1]
    theta[:, 3] = ((center + 0.5) * to_unit - 1)[::-1]
    return F.affine_grid(torch.tensor(theta[None], dtype=torch.float32), [1, 1, *patch_size], align_corners=False)


def _rotation(random: np.random.Generator, degrees: float) -> np.ndarray:
    """Return a random rotation [3, 3] of at most `degrees` about each axis."""
    matrix = np.eye(3)
    for axis in range(3):
        angle = math.radians(random.uniform(-degrees, degrees))
        a, b = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    return matrix


def _normal(shape: Sequence[int], random: np.random.Generator) -> Tensor:
    """Return normally distributed numbers of a shape."""
    return torch.from_numpy(random.standard_normal(tuple(shape), dtype=np.float32))


def _bias_field(shape: Sequence[int], strength: float, random: np.random.Generator) -> Tensor:
    """Return a smooth factor around 1, as an inhomogeneous receive coil causes."""
    coarse = torch.from_numpy(random.uniform(-strength, strength, (1, 1, 3, 3, 3)).astype(np.float32))
    return torch.exp(F.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0])


def _blur(channel: Tensor, sigma: float) -> Tensor:
    """Return a channel [k, j, i] blurred by a Gaussian of `sigma` voxels."""
    if not sigma:
        return channel
    radius = max(1, math.ceil(2 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=channel.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    blurred = channel[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        padding = [0] * 6
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        blurred = F.conv3d(F.pad(blurred, padding, mode="replicate"), kernel.reshape(shape))
    return blurred[0, 0]


def _gamma(channel: Tensor, gamma: float) -> Tensor:
    """Return a channel with its range kept and a power of `gamma` in between."""
    lower, upper = channel.min(), channel.max()
    span = (upper - lower).clamp_min(1e-6)
    return ((channel - lower) / span) ** gamma * span + lower
