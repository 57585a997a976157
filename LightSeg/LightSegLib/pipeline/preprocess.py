"""From volumes to network input, by the card, and the way back to the input's exact grid.

Order: crop to the region of interest, orient, crop to the non-zero part, resample, normalise (nnU-Net v2
swaps the last two). Inference and training both come through here, so that a model is trained on what it will see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..catalog.card import Normalization, Preprocessing
from ..errors import InputError, ModelError
from ..volume import Geometry, Volume
from .region import Region, Slices

WORLD_AXES = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "S": (2, 1), "I": (2, -1)}  # axis, sign in LPS


@dataclass(frozen=True)
class Prepared:
    """Network input and what is needed to come back.

    array: float32 [C, k, j, i] on the working grid. full_shape: the input's [k, j, i]. region: the part of
    the input that was used. order, flips: how its array axes were transposed and then reversed. inner: the
    non-zero part after orientation.
    """

    array: np.ndarray
    full_shape: tuple[int, int, int]
    region: Slices
    order: tuple[int, int, int]
    flips: tuple[int, ...]
    oriented_shape: tuple[int, int, int]
    inner: Slices

    @property
    def inner_shape(self) -> tuple[int, int, int]:
        """Voxels [k, j, i] of the used part at the input's resolution, in the working orientation."""
        k, j, i = (part.stop - part.start for part in self.inner)
        return k, j, i

    def restore(self, labels: np.ndarray) -> np.ndarray:
        """Labels [k, j, i] of `inner_shape` -> labels on the input's grid, background outside the used part."""
        oriented = np.zeros(self.oriented_shape, labels.dtype)
        oriented[self.inner] = labels
        full = np.zeros(self.full_shape, labels.dtype)
        full[self.region] = np.flip(oriented, self.flips).transpose(np.argsort(self.order))
        return full


def prepare(volumes: Sequence[Volume], preprocessing: Preprocessing, roi: Region | None = None) -> Prepared:
    """Network input of the channels' volumes, all on one grid.

    Raises InputError for a sheared grid, a region outside the volume and a region of constant intensity.
    """
    geometry = volumes[0].geometry
    if not geometry.is_orthogonal:
        raise InputError(
            f"{volumes[0].name} has a sheared grid (for example a CT with gantry tilt), so distances in it are skewed. "
            "Resample it to an orthogonal grid first, in Slicer with 'Resample Scalar/Vector/DWI Volume'."
        )
    region = roi.slices(geometry) if roi is not None else _everything(geometry.shape)
    order, flips = (
        (preprocessing.transpose, ())
        if preprocessing.orientation == "input"
        else orientation_steps(geometry, preprocessing.orientation)
    )
    channels = [_orient(volume.voxels[region], order, flips) for volume in volumes]
    inner = _non_zero(channels) if preprocessing.crop == "nonzero" else _everything(channels[0].shape)
    channels = [channel[inner].astype(np.float32) for channel in channels]

    def resampled(array: np.ndarray, spline: int) -> np.ndarray:
        if preprocessing.spacing is None:
            return array
        spacing = np.array(geometry.spacing[::-1])[list(order)]
        return resample(array, tuple(spacing), preprocessing.spacing[::-1], spline)

    spline = 1 if preprocessing.interpolation == "linear" else 3
    content = None
    if any(rule.masked for rule in preprocessing.normalization):
        content = ndimage.binary_fill_holes(np.any([channel != 0 for channel in channels], axis=0))
    if not preprocessing.normalize_first:
        channels = [resampled(channel, spline) for channel in channels]
        content = None if content is None else resampled(content.astype(np.uint8), 0).astype(bool)
    channels = [
        normalize(channel, rule, volume.name, content if rule.masked else None)
        for channel, rule, volume in zip(channels, preprocessing.normalization, volumes, strict=True)
    ]
    if preprocessing.normalize_first:
        channels = [resampled(channel, spline) for channel in channels]
    array = np.stack(channels)
    k, j, i = (geometry.shape[axis] if roi is None else region[axis].stop - region[axis].start for axis in order)
    return Prepared(array, geometry.shape, region, order, flips, (k, j, i), inner)


def orientation_steps(geometry: Geometry, orientation: str) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Transpose order and then axes to flip that bring array axes [k, j, i] closest to `orientation`.

    The letters name the directions in which i, j, k shall run. Only whole axes move, so an oblique grid
    stays oblique and no voxel value changes.
    """
    direction = np.reshape(geometry.direction, (3, 3))  # columns: i, j, k axes in LPS
    wanted = [WORLD_AXES[letter] for letter in orientation]
    # The assignment with the largest summed alignment; greedy choices fail near 45 degrees.
    best = max(
        ((a, b, c) for a in range(3) for b in range(3) for c in range(3) if {a, b, c} == {0, 1, 2}),
        key=lambda columns: sum(
            abs(direction[axis, column]) for (axis, _), column in zip(wanted, columns, strict=True)
        ),
    )
    order = tuple(2 - column for column in best[::-1])  # array axis 2 - column holds index axis `column`
    flips = tuple(
        2 - position
        for position, ((axis, sign), column) in enumerate(zip(wanted, best, strict=True))
        if direction[axis, column] * sign < 0
    )
    return (order[0], order[1], order[2]), flips


def resample(array: np.ndarray, spacing: Sequence[float], target: Sequence[float], order: int = 3) -> np.ndarray:
    """Array [k, j, i] from `spacing` to `target` mm (array order) by spline interpolation.

    Both grids share their outer faces, so the sizes are rounded and voxel centres shift by up to half a voxel.
    Where splines overshoot, the result keeps to the array's range, as in nnU-Net.
    """
    shape = [max(1, round(n * s / t)) for n, s, t in zip(array.shape, spacing, target, strict=True)]
    if tuple(shape) == array.shape:
        return array
    zoom = [new / old for new, old in zip(shape, array.shape, strict=True)]
    result = np.asarray(ndimage.zoom(array, zoom, order=order, mode="nearest", grid_mode=True))
    return np.clip(result, array.min(), array.max(), out=result)


def normalize(
    channel: np.ndarray, rule: Normalization, name: str = "The image", content: np.ndarray | None = None
) -> np.ndarray:
    """Intensities of one channel by its rule (see `Normalization`); float32. `content`: voxels that count, if not all.

    Raises ModelError for a rule that is not known.
    """
    if rule.method == "unknown":
        raise ModelError(
            "The authors have not published how this model's input is normalised, so it cannot run. Write the rule "
            "into preprocessing.normalization of its card ('lightseg info MODEL --json') and use that card."
        )
    if content is not None and content.any():
        result = np.zeros(channel.shape, np.float32)
        result[content] = normalize(channel[content], rule, name)
        return result
    if rule.method == "none":
        return channel.astype(np.float32)
    if rule.method == "ct":
        assert rule.lower is not None and rule.upper is not None and rule.mean is not None and rule.std is not None
        return ((np.clip(channel, rule.lower, rule.upper) - rule.mean) / rule.std).astype(np.float32)
    lower, upper = channel.min(), channel.max()
    if rule.method in ("zscore", "percentile") and rule.lower is not None and rule.upper is not None:
        lower, upper = np.percentile(channel, (rule.lower, rule.upper))
    if not upper > lower:
        raise InputError(
            f"{name} has the same intensity everywhere in the region to segment. "
            "Choose a region that contains the structure, or check the image."
        )
    clipped = np.clip(channel, lower, upper)
    if rule.method == "zscore":
        # float64 sums: a float32 mean over millions of large values is off in the third digit
        return ((clipped - clipped.mean(dtype=np.float64)) / clipped.std(dtype=np.float64)).astype(np.float32)
    return ((clipped - lower) / (upper - lower)).astype(np.float32)


def _orient(array: np.ndarray, order: tuple[int, int, int], flips: tuple[int, ...]) -> np.ndarray:
    return np.flip(array.transpose(order), flips)


def _everything(shape: Sequence[int]) -> Slices:
    k, j, i = (slice(0, length) for length in shape)
    return k, j, i


def _non_zero(channels: Sequence[np.ndarray]) -> Slices:
    occupied = np.any([channel != 0 for channel in channels], axis=0)
    found = ndimage.find_objects(occupied.astype(np.uint8))
    return found[0] if found else _everything(channels[0].shape)
