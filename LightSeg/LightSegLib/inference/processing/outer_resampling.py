"""Images on a model's voxel size before all other steps, and labels back on the image's own grid: outer resampling.

The first and the last voxels of both grids are at the same places, unlike in `resample`, where the outer faces are.
Values are interpolated linearly, labels are those of the nearest voxel.

Source: the program of TotalSegmentator 2.18, which so wraps nnU-Net, and `scipy.ndimage.zoom`, whose sums are
repeated here in their order, since the last bit decides what a value near a whole number is truncated to.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...catalog.card import Preprocessing
from ...core.figures import distinct
from ...core.i18n import Message
from ...core.i18n import tr as _
from ...imaging.geometry import Geometry
from ...imaging.roi import RegionOfInterest, Slices
from ...imaging.volume import Volume
from .orientation import orientation_steps, oriented, turned_geometry
from .preprocess import check_grid, check_memory, everything
from .resample import Shape

FEWEST_VALUES = 64  # whole numbers between the lowest and the highest value, of which an image can be made
CHUNK_VOXELS = 100_000  # interpolated together
AS_STORED: tuple[Shape, tuple[int, ...]] = ((0, 1, 2), ())

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class OuterGrid:
    """Volumes on a model's voxel size, and the way back.

    Attributes:
        volumes: one per channel.
        full_shape: voxels [k, j, i] of the input.
        region: the part of the input that the volumes show.
        order: how its array axes were transposed and then reversed.
        flips: how its array axes were transposed and then reversed.
        notices: what the user should know about this.
    """

    volumes: tuple[Volume, ...]
    full_shape: Shape
    region: Slices
    order: Shape
    flips: tuple[int, ...]
    notices: tuple[Message, ...] = ()

    def restored(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values [k, j, i] on the input's grid, 0 outside the region, and the view of the region."""
        full = np.zeros(self.full_shape, values.dtype)
        part = oriented(full[self.region], self.order, self.flips)
        rows, *columns = (nearest(old, new) for old, new in zip(values.shape, part.shape, strict=True))
        for row, source in enumerate(rows):
            part[row] = values[source][np.ix_(*columns)]
        return full, part


def resample_outside(
    volumes: Sequence[Volume], steps: Preprocessing, roi: RegionOfInterest | None = None
) -> OuterGrid | None:
    """Return volumes, all on one grid, with the voxel size that a card's outer resampling asks for.

    Args:
        volumes: one per channel.
        steps: those of the card; without an outer resampling nothing is done.
        roi: the part to be resampled.

    Returns:
        None where nothing has to be done since the voxels have this size.

    Raises:
        InputError: for a sheared grid, an implausible spacing and a region outside the volume.
        DeviceError: if this computer has too little memory.
    """
    rule, geometry = steps.outer_resampling, volumes[0].geometry
    if rule is None:
        return None
    order, flips = AS_STORED if steps.orientation == "input" else orientation_steps(geometry, steps.orientation)
    k, j, i = (_stored(geometry.spacing[2 - axis]) for axis in order)
    spacing, target = (k, j, i), rule.spacing[::-1]
    if spacing == target:
        return None
    region = roi.slices(geometry) if roi is not None else everything(geometry.shape)
    images = [oriented(volume.voxels[region], order, flips) for volume in volumes]
    shape = zoomed_shape(images[0].shape, spacing, target)
    check_grid(volumes[0].name, images[0].shape, shape, spacing, target)
    check_memory(4 * len(images) * math.prod(shape))
    grid = _grid(geometry, region, order, flips)
    grid = replace(
        grid, spacing=rule.spacing, shape=shape
    )  # as the program states it, though the last voxels stay, too
    resampled, notices = [], []
    for volume, image in zip(volumes, images, strict=True):
        whole, notice = drops_fractions(volume.name, image, rule.whole_numbers)
        notices += [] if notice is None else [notice]
        resampled.append(replace(volume, voxels=linear(image, shape, whole), geometry=grid))
    return OuterGrid(tuple(resampled), geometry.shape, region, order, flips, tuple(notices))


def _stored(mm: float) -> float:
    """Return a voxel size as the 32 bits of a NIfTI header hold it, which the program reads."""
    return float(np.float32(mm))


def _grid(geometry: Geometry, region: Slices, order: Shape, flips: tuple[int, ...]) -> Geometry:
    """Return the geometry of a part of an image whose axes are transposed and then reversed."""
    k, j, i = (part.stop - part.start for part in region)
    matrix = geometry.index_to_world
    matrix[:3, 3] = (matrix @ [*(part.start for part in region[::-1]), 1.0])[:3]
    return turned_geometry(Geometry.from_index_to_world(matrix, (k, j, i)), order, flips)


def zoomed_shape(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> Shape:
    """Return the shape [k, j, i] of an array whose voxels get another size.

    Args:
        shape: voxels [k, j, i].
        spacing: mm [k, j, i].
        target: mm [k, j, i].
    """
    k, j, i = (max(1, round(n * (own / new))) for n, own, new in zip(shape, spacing, target, strict=True))
    return k, j, i


def linear(image: np.ndarray, shape: Shape, whole: bool = False) -> np.ndarray:
    """Return an image [k, j, i] with other numbers of voxels, as float32; whole numbers of an integer type keep it.

    Args:
        image: of any numeric type.
        shape: new numbers of voxels.
        whole: drop the fractions.
    """
    result = np.empty(shape, image.dtype if whole and image.dtype.kind in "iu" else np.float32)
    axes = [_places(old, new) for old, new in zip(image.shape, shape, strict=True)]
    depth = max(1, CHUNK_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], depth):
        rows = slice(start, start + depth)
        total: np.ndarray | None = None
        for i, j, k in itertools.product((0, 1), repeat=3):  # in this order and, below, i first
            (lines_k, weights_k), (lines_j, weights_j), (lines_i, weights_i) = axes[0][k], axes[1][j], axes[2][i]
            term = image[np.ix_(lines_k[rows], lines_j, lines_i)].astype(np.float64)
            term *= weights_i
            term *= weights_j[:, None]
            term *= weights_k[rows, None, None]
            total = term if total is None else np.add(total, term, out=total)
        assert total is not None
        result[rows] = np.trunc(total, out=total) if whole else total
    return result


def nearest(length: int, new: int) -> np.ndarray:
    """Return, for each of `new` voxels along an axis whose ends are those of `length` voxels, the nearest of these."""
    return np.floor(_positions(length, new) + 0.5).astype(int)


def _positions(length: int, new: int) -> np.ndarray:
    """Return where `new` voxels are among `length` ones, whose first and last have the same places."""
    return np.arange(new) * ((length - 1) / (new - 1) if new > 1 else 1.0)


def _places(length: int, new: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the voxel below each position and its weight, and those of the voxel above."""
    positions = _positions(length, new)
    below = np.floor(positions).astype(int)
    weights = 1.0 - (positions - below)
    return [(below, weights), (np.minimum(below + 1, length - 1), 1.0 - weights)]


def drops_fractions(name: str, image: np.ndarray, whole_numbers: bool) -> tuple[bool, Message | None]:
    """Return whether the fractions of an image are dropped, and a notice where they are kept against the rule.

    Args:
        name: of the image.
        image: any numbers.
        whole_numbers: what the rule asks for.
    """
    if not whole_numbers:
        return False, None
    low, high = float(image.min()), float(image.max())
    if high - low >= FEWEST_VALUES:
        return True, None
    lowest, highest = distinct(low, high, digits=4, kind="g")
    return False, _(
        "{volume} has values from {low} to {high}. The model was made for images of whole numbers, "
        "which would leave little of this one, so the fractions were kept. Check the result."
    ).format(volume=name, low=lowest, high=highest)
