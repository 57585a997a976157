"""What the scanner does to an image: coil sensitivity, slices, noise, field of view, gray levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .draw import Draw
from .options import SynthesisOptions


def scan(image: Tensor, spacing: float, options: SynthesisOptions, draw: Draw, slices: float | None = None) -> Tensor:
    """Return an ideal image [k, j, i] as a scanner would store it, resampled to its grid.

    The order is that of the acquisition: the receiving coil's bias field, averaging within slices and voxels, Rician
    noise of the voxels acquired, resampling, gray levels.

    Args:
        slices: thickness in mm along k instead of a random one; 0 for none.
    """
    image = blurred(image, draw.span(options.blur))
    image = image * torch.exp(bias_field(image, options, draw))
    profiles = _profiles(image, spacing, options, draw, slices)
    for axis, (average, _) in profiles.items():
        image = along(image, average, axis)
    image = rician(image, draw.span(options.noise), draw)
    for axis, (_, interpolate) in profiles.items():
        image = along(image, interpolate, axis)
    return graded(image, math.exp(options.gamma * float(draw.normal(1))))


def bias_field(image: Tensor, options: SynthesisOptions, draw: Draw) -> Tensor:
    """Logarithm of a smooth random sensitivity [k, j, i]."""
    low, high = options.bias_nodes
    nodes = low + draw.choice(high - low + 1)
    return draw.span(options.bias) * draw.smooth(image.shape, [nodes] * 3)[0]


def rician(image: Tensor, deviation: float, draw: Draw) -> Tensor:
    """Magnitude of the image with independent Gaussian noise in its real and imaginary part."""
    if deviation == 0:
        return image
    real, imaginary = draw.normal(2, *image.shape) * deviation
    return ((image + real) ** 2 + imaginary**2).sqrt()


def graded(image: Tensor, exponent: float) -> Tensor:
    """Return the intensities from 0 to 1, to the power of `exponent`."""
    image = image.clamp(min=0)
    return (image / image.max().clamp(min=1e-6)) ** exponent


def slice_profile(length: int, spacing: float, thickness: float, distance: float, offset: float) -> Tensor:
    """Return the matrix [slices, length]: the mean over each slice of the voxels it covers, in proportion to the cover.

    thickness and distance of slices in mm; offset: mm from the first voxel's center to the first slice's. There are as
    many slices as have their center between the first voxel's and the last one's.
    """
    centers = torch.arange(offset, (length - 1) * spacing + 1e-6, distance)
    if len(centers) == 0:
        centers = torch.tensor([(length - 1) * spacing / 2])
    voxels = torch.arange(length) * spacing
    low = torch.maximum(centers[:, None] - thickness / 2, voxels - spacing / 2)
    high = torch.minimum(centers[:, None] + thickness / 2, voxels + spacing / 2)
    cover = (high - low).clamp(min=0)
    return cover / cover.sum(1, keepdim=True)


def interpolation(length: int, spacing: float, count: int, distance: float, offset: float) -> Tensor:
    """Return the matrix [length, count] that interpolates `count` slices linearly, constant beyond them."""
    at = ((torch.arange(length) * spacing - offset) / distance).clamp(0, count - 1)
    below = at.floor().clamp(max=max(count - 2, 0))
    matrix = torch.zeros(length, count)
    rows = torch.arange(length)
    matrix[rows, below.long()] = 1 - (at - below)
    if count > 1:
        matrix[rows, below.long() + 1] += at - below
    return matrix


def blurred(image: Tensor, deviation: float) -> Tensor:
    """Gaussian blur with a standard deviation in voxels along each axis; what is beyond the grid does not count."""
    if deviation < 0.2:  # less than a twentieth of a voxel's weight goes elsewhere
        return image
    for axis, length in enumerate(image.shape):
        distance = torch.arange(length)[:, None] - torch.arange(length)
        kernel = torch.exp(-0.5 * (distance / deviation) ** 2)
        image = along(image, kernel / kernel.sum(1, keepdim=True), axis)
    return image


def along(image: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Return the image [k, j, i] with `matrix` applied to its rows along an axis."""
    return torch.tensordot(matrix, image, ([1], [axis])).movedim(0, axis)


def _profiles(
    image: Tensor, spacing: float, options: SynthesisOptions, draw: Draw, slices: float | None
) -> dict[int, tuple[Tensor, Tensor]]:
    """Averaging and interpolating matrix of each axis along which the acquired voxels are larger than the grid's."""
    sizes: dict[int, tuple[float, float]] = {}
    if slices is not None:
        sizes[0] = (slices, slices)
    elif draw.happens(options.thick):
        thickness = draw.span(options.thickness)
        sizes[draw.choice(3)] = (thickness, thickness / (1 - draw.span(options.gap)))
    elif draw.happens(options.coarse):
        voxel = draw.span(options.coarse_voxel)
        sizes = dict.fromkeys(range(3), (voxel, voxel))
    result = {}
    for axis, (thickness, distance) in sizes.items():
        if distance <= spacing:
            continue  # finer than the grid, whose voxels average over more
        length = image.shape[axis]
        offset = draw.uniform(0, min(distance, (length - 1) * spacing))
        average = slice_profile(length, spacing, thickness, distance, offset)
        result[axis] = (average, interpolation(length, spacing, len(average), distance, offset))
    return result
