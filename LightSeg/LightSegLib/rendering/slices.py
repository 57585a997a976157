"""Axial, coronal and sagittal cuts through a volume and its labels, along the axes of the patient.

The cuts are sampled in world coordinates, so oblique, left-handed and anisotropic grids come out upright, to
scale and on the right side. World positions here are RAS in mm, as Slicer displays them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from ..imaging.geometry import Geometry
from ..imaging.volume import Segmentation, Volume
from .framing import Framing, index_to_ras
from .layers import Layer

FINER = 2  # slices are drawn this much finer than the picture and averaged, which smooths outlines
FILL, OUTLINE = 0.35, 5  # opacity of a label's area; width of its outline in fine pixels


@dataclass(frozen=True)
class Plane:
    """A viewing direction: the world axes along the width, the height and the depth of a picture."""

    name: str
    across: int  # world axis 0=R, 1=A, 2=S
    across_sign: int
    up: int
    normal: int
    letters: tuple[str, str, str, str]  # at the left, right, top and bottom edge


# As in Slicer: the patient's right is at the left of the picture, the face looks left in the sagittal cut.
AXIAL = Plane("Axial", 0, -1, 1, 2, ("R", "L", "A", "P"))
CORONAL = Plane("Coronal", 0, -1, 2, 1, ("R", "L", "S", "I"))
SAGITTAL = Plane("Sagittal", 1, -1, 2, 0, ("A", "P", "S", "I"))
PLANES = (AXIAL, CORONAL, SAGITTAL)


@dataclass(frozen=True)
class Raster:
    """The pixels of a picture in space: RAS position of the first one, steps [3] to the right and down, in mm."""

    first: np.ndarray
    right: np.ndarray
    down: np.ndarray
    width: int
    height: int


def draw_slices(
    volume: Volume, layers: Sequence[Layer], framing: Framing, width: int, height: int
) -> list[Image.Image]:
    """Return the three pictures, RGB, in the order of PLANES, gray scale shared."""
    grays = [_gray(volume, _raster(plane, framing, width, height)) for plane in PLANES]
    low, high = _window(np.concatenate([gray.ravel() for gray in grays]))
    pictures = []
    for plane, gray in zip(PLANES, grays, strict=True):
        level = np.clip((np.nan_to_num(gray, nan=low) - low) / (high - low), 0, 1) * 255
        picture = Image.fromarray(np.rint(level).astype(np.uint8)).convert("RGB")
        pixels = np.asarray(picture.resize((FINER * width, FINER * height), Image.Resampling.NEAREST))
        for segmentation in {id(layer.segmentation): layer.segmentation for layer in layers}.values():
            own = [layer for layer in layers if layer.segmentation is segmentation]
            pixels = _tinted(pixels, _cut(segmentation, own, _raster(plane, framing, width, height, FINER)), own)
        pictures.append(Image.fromarray(pixels).reduce(FINER))
    return pictures


def _gray(volume: Volume, raster: Raster) -> np.ndarray:
    """Return the intensities of all pixels [rows, columns]; NaN outside of the image."""
    block, index, outside = _block(volume.voxels, volume.geometry, raster)
    order = 3 if block.size < 20_000_000 else 1  # splines are smoother, but slow where an oblique cut needs it all
    values = ndimage.map_coordinates(block.astype(np.float32), index, order=order, mode="nearest")
    return np.where(outside, np.nan, values)


def _cut(segmentation: Segmentation, layers: Sequence[Layer], raster: Raster) -> np.ndarray:
    """Return the label of every pixel of a cut [rows, columns], 0 for none, without steps at voxel edges.

    Each label's mask is interpolated linearly; a pixel has the label with the largest share of it, if the labels
    together hold more of it than the background does.
    """
    block, index, outside = _block(segmentation.voxels, segmentation.geometry, raster)
    values = np.array([0, *(layer.label.value for layer in layers)])
    position = np.zeros(max(int(block.max(initial=0)), int(values.max())) + 1, np.uint16)  # in `values`, by voxel
    position[values] = np.arange(len(values))
    padded = np.pad(block, 1, mode="edge")
    low = np.floor(index).astype(int)
    first = np.ravel_multi_index(tuple(low + 1), padded.shape, mode="clip")  # the first of the 8 voxels around a pixel
    corners = list(np.ndindex(2, 2, 2))
    steps = [np.ravel_multi_index(corner, padded.shape) for corner in corners]
    near = np.stack([position[padded.take(first + step, mode="clip")] for step in steps])
    found = np.where(outside, 0, near[0])
    mixed = (near != near[0]).any(axis=0) & ~outside  # few of the pixels; the others are among voxels of one label
    far, near = (index - low)[:, mixed], near[:, mixed]
    shares, pixels = np.zeros((len(values), near.shape[1])), np.arange(near.shape[1])
    for corner, label in zip(corners, near, strict=True):
        shares[label, pixels] += math.prod(part if upper else 1 - part for part, upper in zip(far, corner, strict=True))
    found[mixed] = np.where(shares[0] < 0.5, shares[1:].argmax(axis=0) + 1, 0)
    return values[found]


def _tinted(pixels: np.ndarray, labels: np.ndarray, layers: Sequence[Layer]) -> np.ndarray:
    """Return pixels, uint8 [rows, columns, 3], with a translucent color over each label and its inner edge opaque."""
    colors = np.zeros((labels.max() + 1, 3), np.float32)
    for layer in layers:
        if layer.label.value < len(colors):
            colors[layer.label.value] = layer.label.color
    near = 2 * OUTLINE + 1
    edge = ndimage.minimum_filter(labels, near, mode="nearest") != ndimage.maximum_filter(labels, near, mode="nearest")
    opacity = np.where(labels > 0, np.where(edge, np.float32(1), np.float32(FILL)), np.float32(0))[..., None]
    return np.rint(pixels + opacity * (colors[labels] - pixels)).astype(np.uint8)


def _raster(plane: Plane, framing: Framing, width: int, height: int, finer: int = 1) -> Raster:
    """Return the pixels of a cut, or parts of them, `finer` times as many along each side."""
    width, height, step = width * finer, height * finer, framing.mm_per_pixel / finer
    right, down, first = np.zeros(3), np.zeros(3), framing.middle.astype(float)
    right[plane.across] = plane.across_sign * step
    down[plane.up] = -step
    first[plane.normal] = framing.focus[plane.normal]
    first -= right * (width - 1) / 2 + down * (height - 1) / 2
    return Raster(first, right, down, width, height)


def _block(voxels: np.ndarray, geometry: Geometry, raster: Raster) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the part of `voxels` around the pixels of `raster`, since a cut needs little of a large image.

    Returns it with the pixels' (fractional) array indices in it [3, rows, columns], and with [rows, columns] of bool
    that is True for pixels beyond the outer faces of the image.
    """
    to_index = np.linalg.inv(index_to_ras(geometry))
    first = (to_index[:3, :3] @ raster.first + to_index[:3, 3])[::-1]  # array order k, j, i
    right, down = ((to_index[:3, :3] @ step)[::-1] for step in (raster.right, raster.down))
    columns, rows = np.arange(raster.width), np.arange(raster.height)[:, None]
    index = np.stack([first[axis] + right[axis] * columns + down[axis] * rows for axis in range(3)])

    shape = np.array(voxels.shape)
    outside = np.zeros(index.shape[1:], bool)
    for at, size in zip(index, shape, strict=True):
        outside |= (at < -0.5) | (at > size - 0.5)
    corners = index[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    low = np.clip(np.floor(corners.min(axis=1)) - 2, 0, shape - 1).astype(int)
    high = np.clip(np.ceil(corners.max(axis=1)) + 3, low + 1, shape).astype(int)
    block = voxels[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return block, index - low[:, None, None], outside


def _window(values: np.ndarray) -> tuple[float, float]:
    """Black and white point: most of the displayed intensities, without padding and single bright spots."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    tissue = values[values > values.min() + 0.02 * (np.percentile(values, 99.5) - values.min())]
    low, high = np.percentile(tissue if tissue.size else values, [1, 99.7])
    # Head room above the brightest tissue keeps it short of white, so that colors and letters stand out.
    return float(low), float(max(high + 0.08 * (high - low), low + 1e-6))
