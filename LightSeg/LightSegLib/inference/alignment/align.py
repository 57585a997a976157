"""A volume as a network sees it that takes images in one position: found, moved onto its grid, and the way back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...catalog.card import Alignment, Inference, Preprocessing
from ...core.errors import InputError, NothingToAlignError
from ...core.i18n import Message, joined
from ...core.i18n import tr as _
from ...imaging.geometry import Geometry, triple
from ...imaging.roi import RegionOfInterest, Slices
from ...imaging.volume import Volume
from ...networks.border_head import BorderNetwork
from ..processing.orientation import axis_steps, oriented, turned
from ..processing.preprocess import Spacing
from ..processing.resample import Shape
from ..processing.restore import Decision
from .aligned_restore import BATCH, POINT_BYTES, POINTS, AlignedRestorer, box, places
from .borders import OFFSETS
from .guided import Guide
from .registration import Registration, register
from .search import Check
from .template import Template

MOST_SAMPLES = 3  # of the image within a voxel of the grid, along each axis
SIZES = (0.1, 12.0)  # of an image's longest side over the template's; others come of a wrong spacing
CUT_OFF = 0.02  # share of the focus outside the image that deserves a notice


@dataclass(frozen=True)
class Aligned:
    """Volumes on the grid of an aligned model; see `NetworkInput`.

    Attributes:
        channels: the volumes, all on one grid, with their axes turned as the card asks by `order` and `flips`, and with
            the middle at 0 mm: the place of the first voxel rounds in another way in each order of the axes, and
            nothing that is computed shall depend on how a volume was stored.
        full_shape: the input's.
        grid_to_image: 4x4, from index (i, j, k) on the network's grid to LPS mm from the middle of the image.
        roi_slices: the part of the turned image to be labeled.
        registration: of the template with the image where it is in the world.
        border_network: the network, where it has a border head.
        threads: that make labels of logits side by side.
    """

    channels: tuple[Volume, ...]
    full_shape: Shape
    order: Shape
    flips: tuple[int, ...]
    shape: Shape
    grid_to_image: np.ndarray
    roi_slices: Slices
    registration: Registration
    border_network: BorderNetwork | None = None
    threads: int = 1

    @property
    def inner_shape(self) -> Shape:
        """Voxels [k, j, i] of the part to be labeled."""
        k, j, i = (part.stop - part.start for part in self.roi_slices)
        return k, j, i

    @property
    def spacing(self) -> Spacing:
        """Voxel size of the input in mm [k, j, i]."""
        x, y, z = self.channels[0].geometry.spacing
        return z, y, x

    @property
    def to_grid(self) -> np.ndarray:
        """4x4, from index (i, j, k) in the part to be labeled to that on the network's grid."""
        shift = np.eye(4)
        shift[:3, 3] = [part.start for part in self.roi_slices[::-1]]
        return np.linalg.inv(self.grid_to_image) @ self.channels[0].geometry.index_to_world @ shift

    def moved(self, step: np.ndarray, rules: Alignment) -> Aligned:
        """Return the same volumes on another grid.

        Args:
            step: 4x4, from index (i, j, k) on that grid to that on this one.
            rules: of the grid.
        """
        grid = _grid(rules).index_to_world
        matrix = self.registration.matrix @ grid @ step @ np.linalg.inv(grid)
        registration = replace(self.registration, matrix=matrix, looked_again=True)
        return replace(self, grid_to_image=self.grid_to_image @ step, registration=registration)

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to before `stop` of the network's input, float32 [C, stop - start, j, i]."""
        return self._input[:, start:stop]

    @cached_property
    def _input(self) -> Tensor:
        """Return the channels on the network's grid, float32 [C, k, j, i]."""
        return torch.stack([_interpolated(volume, self.grid_to_image, self.shape) for volume in self.channels])

    def blank(self, dtype: np.dtype | type) -> tuple[np.ndarray, np.ndarray]:
        """Return zeros on the input's grid, and the view of them for the part to be labeled."""
        full = np.zeros(self.full_shape, dtype)
        return full, oriented(full, self.order, self.flips)[self.roi_slices]

    def restorer(
        self, rules: Inference, decision: Decision, labels: np.ndarray, confidence: np.ndarray | None
    ) -> AlignedRestorer:
        """Return the restorer that takes logits of the grid and decides labels on the input's grid."""
        guide = None
        if rules.guided_upsampling:
            start = tuple(part.start for part in self.roi_slices)
            spacing = tuple(np.linalg.norm(self.grid_to_image[:3, :3], axis=0))
            guide = Guide(self.channels[0].voxels, self._input[0], start, self.border_network, spacing, self.threads)
        return AlignedRestorer(self.shape, self.to_grid, labels, decision, confidence, guide)

    def bytes_to_restore(self, outputs: int) -> int:
        """Return the memory that the restorer takes: the logits twice, and what each thread computes for some voxels.

        With a border head also the image, and the inputs of the head thrice.
        """
        needed = 2 * 4 * outputs * math.prod(self.shape)
        points = max(POINTS, math.prod(self.inner_shape[1:]))  # of a slice at least
        needed += self.threads * (points * POINT_BYTES + 3 * 4 * outputs * BATCH)
        if self.border_network is not None:
            head = 3 * self.threads * BATCH * (len(OFFSETS) * 3 + 4 * outputs)
            needed += 4 * (math.prod(self.channels[0].voxels.shape) + head)
        return needed

    @property
    def notices(self) -> list[Message]:
        """What the user should know about the alignment."""
        missing = 1 - self.registration.inside
        if missing <= CUT_OFF:
            return []
        return [
            _(
                "About {percent:.0f} % of what the model segments is outside the image, "
                "so the volumes of structures at its border are too small."
            ).format(percent=100 * missing)
        ]

    @property
    def facts(self) -> dict[str, Any]:
        """What is added to the provenance."""
        found = self.registration
        return {
            "alignment": {
                "template_to_image_lps": found.matrix.round(6).tolist(),
                "information": round(found.information, 4),
                "inner_information": round(found.inner_information, 4),
                "inside": round(found.inside, 4),
                "looked_again": found.looked_again,
            }
        }


def align(
    volumes: Sequence[Volume],
    preprocessing: Preprocessing,
    template: Template,
    roi: RegionOfInterest | None = None,
    check: Check = lambda: None,
    workers: Executor | None = None,
) -> Aligned:
    """Find the template in the first of the volumes, which share one grid, by a card's alignment.

    Args:
        roi: where labels are wanted; the whole image is looked at all the same.
        check: called between steps, raises to stop.
        workers: for what can be done side by side; the answer is the same.

    Raises:
        NothingToAlignError: if the template is not found.
        InputError: for a region outside the volume and for a volume of a size that cannot be right.
    """
    rules = preprocessing.alignment
    assert rules is not None
    full_shape = volumes[0].geometry.shape
    order, flips = axis_steps(volumes[0].geometry, preprocessing)
    volumes = [turned(volume, order, flips) for volume in volumes]
    geometry = volumes[0].geometry
    _check_size(volumes[0], rules.subject, template.geometry)
    roi_slices = roi.slices(geometry) if roi is not None else _everything(geometry.shape)
    about_middle, middle = _about_middle(geometry)
    volumes = [replace(volume, geometry=about_middle) for volume in volumes]
    registration = register(volumes[0], template, check, workers)
    if not registration.credible:
        fact = _("No {subject} was found in {volume}, or only a small part of one.").format(
            subject=rules.subject, volume=volumes[0].name
        )
        todo = _("Choose a volume that shows a {subject}, or another model.").format(subject=rules.subject)
        raise NothingToAlignError(joined(" ", (fact, todo)), fact)
    grid = _grid(rules)
    to_image = registration.matrix @ grid.index_to_world
    registration = replace(registration, matrix=middle @ registration.matrix)
    return Aligned(tuple(volumes), full_shape, order, flips, grid.shape, to_image, roi_slices, registration)


def _grid(rules: Alignment) -> Geometry:
    """Return the network's grid in the template's coordinates."""
    i, j, k = rules.size
    return Geometry((k, j, i), rules.spacing, rules.origin)


def _about_middle(geometry: Geometry) -> tuple[Geometry, np.ndarray]:
    """Return a geometry with its middle at 0 mm, and the 4x4 matrix that moves it back to its place."""
    matrix = geometry.index_to_world
    half = matrix[:3, :3] @ [(length - 1) / 2 for length in geometry.shape[::-1]]
    back = np.eye(4)
    back[:3, 3] = matrix[:3, 3] + half
    return replace(geometry, origin=triple(-half)), back


def _check_size(volume: Volume, subject: str, template: Geometry) -> None:
    """Check the size of an image before a search, which would take minutes and much memory."""
    longest, usual = (
        max(length * mm for length, mm in zip(grid.shape, grid.spacing[::-1], strict=True))
        for grid in (volume.geometry, template)
    )
    if not SIZES[0] <= longest / usual <= SIZES[1]:
        raise InputError(
            _(
                "According to the spacing in its header, {volume} is {longest:.3g} mm long, "
                "but a {subject} is about {usual:.0f} mm long. Correct the spacing in the file."
            ).format(volume=volume.name, longest=longest, subject=subject, usual=usual)
        )


def _everything(shape: Shape) -> Slices:
    """Return slices that select the whole array."""
    k, j, i = (slice(0, length) for length in shape)
    return k, j, i


def _interpolated(volume: Volume, grid_to_image: np.ndarray, shape: Shape) -> Tensor:
    """Return the volume on a grid [k, j, i], float32; its minimum where there is not a volume.

    Each voxel is the mean of as many linear samples along each axis as the grid is coarser than the volume.
    """
    to_index = np.linalg.inv(volume.geometry.index_to_world) @ grid_to_image
    used = box(to_index, shape, volume.voxels.shape)
    lowest = float(volume.voxels.min())
    if any(part.stop <= part.start for part in used):
        return torch.full(shape, lowest)
    image = torch.from_numpy(volume.voxels[used].astype(np.float32) - np.float32(lowest))[None, None]
    to_index[:3, 3] -= [part.start for part in used[::-1]]
    coarser = np.linalg.norm(to_index[:3, :3], axis=0).min()
    count = int(np.clip(round(float(coarser)), 1, MOST_SAMPLES))
    offsets = (np.arange(count) + 0.5) / count - 0.5
    total = torch.zeros(shape)
    for offset in itertools.product(offsets, repeat=3):
        index = zip(places(to_index, shape, offset), image.shape[:1:-1], strict=True)
        grid = torch.stack([(2 * place + 1) / length - 1 for place, length in index], dim=-1)
        total += torch.nn.functional.grid_sample(image, grid[None], padding_mode="zeros", align_corners=False)[0, 0]
    return total / count**3 + lowest
