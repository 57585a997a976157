"""From volumes to network input, by the card, and the way back to the input's exact grid.

Order: crop to the region of interest, orient, crop to the non-zero part, resample, normalize (nnU-Net v2
swaps the last two). Inference and training both come through here, so that a model is trained on what it will see.
nnU-Net's order needs no float copy of the image: rows of the network's input are made when they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ...catalog.card import Inference, Normalization, Preprocessing
from ...core.errors import DeviceError, InputError
from ...core.figures import distinct_sizes
from ...core.i18n import Message
from ...core.i18n import tr as _
from ...core.system import free_memory
from ...imaging.roi import RegionOfInterest, Slices
from ...imaging.volume import Volume
from .normalization import CHUNK_VOXELS, IntensityTransform, chunks, fit_normalization, normalized
from .orientation import axis_steps, oriented
from .resample import Resampler, Shape, nearest_axes, resample_labels, resampled_shape, separate_axis
from .restore import SLAB_BYTES, Decision, LabelRestorer, Restorer

LARGEST_GRID = 1_000_000_000  # voxels, and GROWTH times those of the image: more comes of a wrong spacing
GROWTH = 100
SLICES = 8  # that an image has at least along an axis which must not become a single voxel

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Channel:
    """One channel of the network's input, which `rows` computes.

    Attributes:
        image: the used part [k, j, i] in the working orientation, of any type.
        mask: its voxels that count, where not all do.
        bounds: its range after scaling, to which the resampler keeps.
    """

    image: np.ndarray
    transform: IntensityTransform
    mask: np.ndarray | None
    resampler: Resampler
    bounds: tuple[Tensor, Tensor] | None = None

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to before `stop` of the working grid, float32 [stop - start, j, i]."""
        rows = torch.empty((stop - start, *self.resampler.new_shape[1:]))
        depth, height, width = self.resampler.shape
        step = max(1, CHUNK_VOXELS * self.resampler.new_shape[0] // (depth * height * width))
        for row in range(start, stop, step):
            after = min(row + step, stop)
            first, last = self.resampler.needed(row, after)
            scaled = normalized(self.image, slice(first, last), self.transform, self.mask)
            rows[row - start : after - start] = self.resampler(scaled, row, after, self.bounds)
        return rows


class NetworkInput(Protocol):
    """Volumes on the grid on which a network works, and the way back.

    Attributes:
        shape: of that grid [k, j, i].
        full_shape: the input's.
        inner_shape: voxels and mm of the part of the input that is labeled, in the order of `blank`'s second array.
        spacing: see `inner_shape`.
    """

    @property
    def channels(self) -> Sequence[object]:
        """Channels of the input, one per channel of the model."""

    @property
    def shape(self) -> Shape:
        """Voxels [k, j, i] of the network's grid."""

    @property
    def full_shape(self) -> Shape:
        """Voxels [k, j, i] of the input."""

    @property
    def inner_shape(self) -> Shape:
        """Voxels [k, j, i] of the part to be labeled."""

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm [k, j, i] of the part to be labeled."""

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to before `stop` of the network's input, float32 [C, stop - start, j, i]."""

    def blank(self, dtype: np.dtype | type) -> tuple[np.ndarray, np.ndarray]:
        """Return zeros on the input's grid, and the view of them for the part to be labeled."""

    def restorer(
        self, rules: Inference, decision: Decision, labels: np.ndarray, confidence: np.ndarray | None
    ) -> Restorer:
        """Return the restorer that writes to such views; see `Restorer`."""

    def bytes_to_restore(self, outputs: int) -> int:
        """Return the memory that the restorer takes."""

    @property
    def notices(self) -> list[Message]:
        """What the user should know about this input."""

    @property
    def facts(self) -> dict[str, Any]:
        """What is added to the provenance."""


@dataclass(frozen=True)
class PreparedVolumes:
    """Network input and what is needed to come back.

    Attributes:
        shape: of the working grid [k, j, i].
        full_shape: the input's.
        roi_slices: the part of the input that was used.
        order: how its array axes were transposed and then reversed.
        flips: how its array axes were transposed and then reversed.
        spacing: the input's, in mm along the axes so ordered.
        inner: the non-zero part after orientation.
        working_spacing: that of the working grid, in mm.
    """

    channels: tuple[Channel, ...]
    shape: Shape
    full_shape: Shape
    roi_slices: Slices
    order: Shape
    flips: tuple[int, ...]
    inner: Slices
    spacing: Spacing
    working_spacing: Spacing

    @property
    def inner_shape(self) -> Shape:
        """Voxels [k, j, i] of the used part at the input's resolution, in the working orientation."""
        k, j, i = (part.stop - part.start for part in self.inner)
        return k, j, i

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to before `stop` of the network's input, float32 [C, stop - start, j, i]."""
        return torch.stack([channel.rows(start, stop) for channel in self.channels])

    @property
    def array(self) -> np.ndarray:
        """The whole network input, float32 [C, k, j, i]."""
        return self.rows(0, self.shape[0]).numpy()

    def blank(self, dtype: np.dtype | type) -> tuple[np.ndarray, np.ndarray]:
        """Return zeros on the input's grid, and the view of them [k, j, i] of `inner_shape` for the used part."""
        full = np.zeros(self.full_shape, dtype)
        return full, oriented(full[self.roi_slices], self.order, self.flips)[self.inner]

    def restorer(
        self, rules: Inference, decision: Decision, labels: np.ndarray, confidence: np.ndarray | None
    ) -> LabelRestorer:
        """Return the restorer that takes logits of the working grid and decides labels at the input's resolution."""
        picked = nearest_axes(rules.resampling, self.working_spacing, self.spacing)
        return LabelRestorer(self.shape, labels, decision, picked, confidence)

    def bytes_to_restore(self, outputs: int) -> int:
        """Return the memory that the restorer takes."""
        return 3 * max(2 * SLAB_BYTES, 4 * outputs * math.prod(self.inner_shape[1:]))

    @property
    def notices(self) -> list[Message]:
        """An empty list: there is nothing to report."""
        return []

    @property
    def facts(self) -> dict[str, Any]:
        """An empty dict: nothing is added to the provenance."""
        return {}


def prepare(
    volumes: Sequence[Volume], preprocessing: Preprocessing, roi: RegionOfInterest | None = None
) -> PreparedVolumes:
    """Return the network input of the channels' volumes, all on one grid.

    Raises:
        InputError: for a sheared grid, a region outside the volume and a region of constant intensity.
        ModelError: for a normalization that is not known.
    """
    geometry = volumes[0].geometry
    if not geometry.is_orthogonal:
        raise InputError(
            _(
                "{name} has a sheared grid (as a CT with gantry tilt has), which distorts distances. "
                "Resample it to an orthogonal grid first, in Slicer with 'Resample Scalar/Vector/DWI Volume'."
            ).format(name=volumes[0].name)
        )
    roi_slices = roi.slices(geometry) if roi is not None else everything(geometry.shape)
    order, flips = axis_steps(geometry, preprocessing)
    images = [oriented(volume.voxels[roi_slices], order, flips) for volume in volumes]
    inner = _non_zero(images) if preprocessing.crop == "nonzero" else everything(images[0].shape)
    images = [image[inner] for image in images]
    k, j, i = (geometry.spacing[2 - axis] for axis in order)
    spacing = (k, j, i)
    target = _target(preprocessing.spacing, spacing)
    shape = resampled_shape(images[0].shape, spacing, target)
    check_grid(volumes[0].name, images[0].shape, shape, spacing, target)
    if not preprocessing.normalize_first:
        check_memory(4 * 2 * len(images) * math.prod(shape))
    axis = separate_axis(preprocessing.resampling, spacing, target)
    resampler = Resampler(images[0].shape, shape, preprocessing.resampling, axis)
    mask = None
    if any(rule.masked for rule in preprocessing.normalization):
        mask = ndimage.binary_fill_holes(np.any([image != 0 for image in images], axis=0))
        mask = mask if mask.any() else None
    make = _normalized_first if preprocessing.normalize_first else _normalized_last
    channels = tuple(
        make(image, rule, volume.name, mask if rule.masked else None, resampler)
        for image, rule, volume in zip(images, preprocessing.normalization, volumes, strict=True)
    )
    return PreparedVolumes(channels, shape, geometry.shape, roi_slices, order, flips, inner, spacing, target)


def check_grid(name: str, before: Shape, after: Shape, spacing: Spacing, target: Spacing) -> None:
    """Check that a spacing is plausible.

    Raises:
        InputError: if the spacing cannot be right: it would blow the image up, or shrink it to nothing.
    """
    huge = math.prod(after) > max(LARGEST_GRID, GROWTH * math.prod(before))
    flat = any(new == 1 and old >= SLICES for old, new in zip(before, after, strict=True))
    if huge or flat:
        own, wanted = (" x ".join(f"{mm:.4g}" for mm in lengths[::-1]) for lengths in (spacing, target))
        grid = " x ".join(map(str, after[::-1]))
        raise InputError(
            _(
                "{name} has voxels of {spacing} mm, so the model, which works at {wanted} mm, "
                "would get {grid} voxels. Correct the spacing in the file header, or choose another model."
            ).format(name=name, spacing=own, wanted=wanted, grid=grid)
        )


def check_memory(needed: int) -> None:
    """Check that an array of `needed` bytes fits in memory.

    Raises:
        DeviceError: if an array of so many bytes does not fit.
    """
    free = free_memory()
    if free is not None and needed > free:
        size, rest = distinct_sizes(needed, free)
        raise DeviceError(
            _(
                "This computer has too little memory for this volume ({needed} are needed to prepare it, "
                "{free} are free). Close other programs or choose a smaller region of interest."
            ).format(needed=size, free=rest)
        )


def _normalized_first(
    image: np.ndarray, rule: Normalization, name: str, mask: np.ndarray | None, resampler: Resampler
) -> Channel:
    """Return a channel that is normalized before resampling, as nnU-Net v2 does."""
    transform = fit_normalization(image, rule, name, mask)
    return Channel(image, transform, mask, resampler, _bounds(image, transform, mask, resampler))


def _normalized_last(
    image: np.ndarray, rule: Normalization, name: str, mask: np.ndarray | None, resampler: Resampler
) -> Channel:
    """Statistics of the resampled image are asked for, so all of it is made now."""
    shape = resampler.new_shape
    if shape != resampler.shape:
        image = _normalized_first(image, Normalization("none"), name, None, resampler).rows(0, shape[0]).numpy()
        mask = None if mask is None else resample_labels(mask, shape)
    return Channel(image, fit_normalization(image, rule, name, mask), mask, Resampler(shape, shape, resampler.rule))


def _bounds(
    image: np.ndarray, transform: IntensityTransform, mask: np.ndarray | None, resampler: Resampler
) -> tuple[Tensor, Tensor] | None:
    """Range of the scaled image, or that of each of its slices across the separate axis, where splines could leave it.

    Both broadcast to [k, j, i].
    """
    if not resampler.overshoots:
        return None
    separate = resampler.axis
    others = tuple(axis for axis in range(3) if axis != separate)
    lower, upper = [], []
    for rows in chunks(image.shape):
        scaled = normalized(image, rows, transform, mask)
        lower.append(scaled.amin(others, keepdim=True))
        upper.append(scaled.amax(others, keepdim=True))
    if separate == 0:
        return torch.cat(lower), torch.cat(upper)
    return torch.cat(lower).amin(0, keepdim=True), torch.cat(upper).amax(0, keepdim=True)


def _target(wanted: Sequence[float | None] | None, spacing: Spacing) -> Spacing:
    """Return the spacing [k, j, i] of the working grid by a card's i, j, k, or the input's."""
    k, j, i = (own if new is None else new for new, own in zip((wanted or (None,) * 3)[::-1], spacing, strict=True))
    return k, j, i


def everything(shape: Sequence[int]) -> Slices:
    """Return slices that select the whole array."""
    k, j, i = (slice(0, length) for length in shape)
    return k, j, i


def _non_zero(images: Sequence[np.ndarray]) -> Slices:
    """Return the box around the voxels that are not 0 in every channel; everything where there are none."""
    occupied = [np.zeros(length, bool) for length in images[0].shape]
    for image in images:
        for rows in chunks(image.shape):
            part = image[rows] != 0
            for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
                along = occupied[axis][rows] if axis == 0 else occupied[axis]
                along |= part.any(others)
    if not occupied[0].any():
        return everything(images[0].shape)
    found = [np.flatnonzero(line) for line in occupied]
    k, j, i = (slice(int(line[0]), int(line[-1]) + 1) for line in found)
    return k, j, i
