"""Axial, coronal and sagittal cuts through a volume and its labels, along the axes of the patient.

The cuts are sampled in world coordinates, so oblique, left-handed and anisotropic grids come out upright, to
scale and on the right side. World positions here are RAS in mm, as Slicer displays them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from ..imaging.geometry import Geometry
from ..imaging.volume import Volume
from .framing import Framing, index_to_ras
from .layers import Layer
from .palette import Color

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
        picture = picture.resize((FINER * width, FINER * height), Image.Resampling.NEAREST)
        for layer, area in _areas(layers, _raster(plane, framing, width, height, FINER)):
            _tint(picture, area, layer.label.color)
        pictures.append(picture.reduce(FINER))
    return pictures


def _gray(volume: Volume, raster: Raster) -> np.ndarray:
    """Return the intensities of all pixels [rows, columns]; NaN outside of the image."""
    block, index, outside = _block(volume.voxels, volume.geometry, raster)
    order = 3 if block.size < 20_000_000 else 1  # splines are smoother, but slow where an oblique cut needs it all
    values = ndimage.map_coordinates(block.astype(np.float32), index, order=order, mode="nearest")
    return np.where(outside, np.nan, values)


def _areas(layers: Sequence[Layer], raster: Raster) -> list[tuple[Layer, np.ndarray]]:
    """Return the area of every label in a cut, [rows, columns] of bool, without steps at voxel edges.

    Each label's mask is interpolated; a pixel belongs to the label with the largest share of it, if the labels of a
    segmentation together hold more of it than the background does.
    """
    areas = []
    for segmentation in {id(layer.segmentation): layer.segmentation for layer in layers}.values():
        block, index, outside = _block(segmentation.voxels, segmentation.geometry, raster)
        present = set(np.unique(block).tolist())
        own = [layer for layer in layers if layer.segmentation is segmentation and layer.label.value in present]
        if not own:
            continue
        labeled = np.argwhere(np.isin(block, [layer.label.value for layer in own]))
        low, high = (ends[:, None, None] for ends in (labeled.min(axis=0) - 1, labeled.max(axis=0) + 1))
        near = np.all((index > low) & (index < high), axis=0) & ~outside  # no label reaches the other pixels
        points = index[:, near]
        shares = [_share(block == layer.label.value, points) for layer in own]
        winner, inside = np.argmax(shares, axis=0), np.sum(shares, axis=0) > 0.5
        for number, layer in enumerate(own):
            area = np.zeros(outside.shape, bool)
            area[near] = inside & (winner == number)
            areas.append((layer, area))
    return areas


def _share(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return how much of a label there is at fractional indices [3, n], 0 to 1."""
    return np.asarray(ndimage.map_coordinates(mask.astype(np.float32), points, order=1, mode="nearest"))


def _tint(picture: Image.Image, area: np.ndarray, color: Color) -> None:
    """Lay a translucent color over `area` and an opaque outline along its inner edge."""
    edge = area & ~ndimage.binary_erosion(area, ndimage.generate_binary_structure(2, 2), OUTLINE, border_value=1)
    for part, opacity in ((area, FILL), (edge, 1.0)):
        picture.paste(color, mask=Image.fromarray(part * np.uint8(255 * opacity)))


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
