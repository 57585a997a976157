"""Synthetic images with their labels, from label maps: the generative model of SynthSeg on a template's grid.

Shape, contrast and scanner are drawn one after the other (`shape.py`, `contrast.py`, `scanner.py`), as in Billot et
al. 2023 (doi:10.1016/j.media.2023.102789); what differs is that the subject is aligned with a template but for what
a registration leaves, and that known contrasts are among the random ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .contrast import PATCH_NODES, Contrast
from .dilation import dilated
from .draw import Draw
from .grid import Grid
from .label_maps import LabelMap
from .options import SynthesisOptions
from .scanner import scan
from .settings import Halo, Settings
from .shape import Shape

IGNORED = 255  # class of voxels beyond the field of view


@dataclass(frozen=True)
class Sample:
    """One synthetic image with its classes.

    Attributes:
        image: float32 [k, j, i], 0 to 1.
        classes: uint8 [k, j, i], IGNORED beyond the field of view.
        kind: contrast.
    """

    image: Tensor
    classes: Tensor
    kind: str
    subject: str


@dataclass(frozen=True)
class SampleRequest:
    """Properties of an image that are not to be random.

    Attributes:
        slices: mm along k, 0 for none.
    """

    subject: int | None = None
    kind: str | None = None
    slices: float | None = None
    pose: float | None = None
    whole: bool = False  # nothing cut off and no spot


class Generator:
    """Images of subjects that are aligned with the template by 4x4 `affines` (template to subject, mm)."""

    def __init__(self, maps: Sequence[LabelMap], affines: Sequence[np.ndarray], settings: Settings, seed: int) -> None:
        self._maps, self._affines, self._settings, self._seed = maps, affines, settings, seed
        self._classes = torch.tensor(settings.source_classes, dtype=torch.uint8)
        self._mirrored = torch.tensor(settings.mirrored_classes, dtype=torch.uint8)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the label maps."""
        return tuple(label_map.name for label_map in self._maps)

    def shape(self, subject: str, grid: Grid, options: SynthesisOptions, number: int = 0) -> Shape:
        """Return the shape of a subject in the image `number`."""
        index = self.subjects.index(subject)
        return Shape(self._maps[index], self._affines[index], grid, options, Draw(self._seed, number))

    def sample(
        self, number: int, grid: Grid, options: SynthesisOptions, request: SampleRequest | None = None
    ) -> Sample:
        """Return the image `number` of this generator's seed on a grid."""
        request = request or SampleRequest()
        draw = Draw(self._seed, number)
        subject = draw.choice(len(self._maps))
        subject = subject if request.subject is None else request.subject
        if request.pose is not None:
            options = dataclasses.replace(options, pose=(request.pose, request.pose))
        if request.whole:
            options = dataclasses.replace(options, cut=0.0, spot=0.0, halo=0.0)
        shape = Shape(self._maps[subject], self._affines[subject], grid, options, draw)
        sources = shape.sources()
        contrast = Contrast(self._settings, options, draw, request.kind)
        classes = self._classes[sources.long()]
        if shape.mirrored:
            classes = self._mirrored[classes.long()]
        image = self._ideal(shape, sources, contrast, draw)
        if draw.happens(options.spot):
            image = _with_spot(image, classes > 0, grid.spacing, options, draw)
        for halo in self._settings.halos:
            if draw.happens(options.halo):
                level = float(contrast.means[self._settings.source_tissues.index(halo.tissue)])
                image = torch.where(self._band(halo, classes, grid.spacing, options, draw), level, image)
        image = scan(image, grid.spacing, options, draw, request.slices)
        removed = contrast.removed[sources.long()]
        if contrast.partial.any():
            patches = draw.smooth(grid.size, [PATCH_NODES] * 3)[0] > 0
            removed |= contrast.partial[sources.long()] & patches
        image[removed] = 0  # stripping is done after the scan
        image, classes = _cut(image, classes, options, draw)
        return Sample(image, classes, contrast.kind, self._maps[subject].name)

    def _ideal(self, shape: Shape, sources: Tensor, contrast: Contrast, draw: Draw) -> Tensor:
        """Return the mean intensity within each voxel, with the tissue's own texture."""
        return shape.mean(contrast.means) + contrast.deviations[sources.long()] * draw.normal(*sources.shape)

    def _band(self, halo: Halo, classes: Tensor, spacing: float, options: SynthesisOptions, draw: Draw) -> Tensor:
        """Return the mask of a halo, bool [k, j, i], in patches."""
        numbers = {value.value: n for n, value in enumerate(self._settings.structures, start=1)}
        beside, within = (
            torch.isin(classes, torch.tensor([numbers[value] for value in values], dtype=classes.dtype))
            for values in (halo.beside, halo.within)
        )
        reach = math.ceil(draw.span(options.halo_width) / spacing)
        near = dilated(beside[None, None].float(), reach)[0, 0] > 0
        return near & within & (draw.smooth(classes.shape, [PATCH_NODES] * 3)[0] > draw.uniform(-1, 1))

    def classes(self, number: int, grid: Grid, options: SynthesisOptions) -> Tensor:
        """Return the classes alone of a random pose: uint8 [k, j, i]; not those of `sample` with the same number."""
        draw = Draw(self._seed, number)
        subject = draw.choice(len(self._maps))
        shape = Shape(self._maps[subject], self._affines[subject], grid, options, draw)
        classes = self._classes[shape.sources().long()]
        return self._mirrored[classes.long()] if shape.mirrored else classes


def _with_spot(image: Tensor, within: Tensor, spacing: float, options: SynthesisOptions, draw: Draw) -> Tensor:
    """Return a roundish spot of a random intensity within the structures."""
    radius = draw.span(options.spot_radius) / spacing
    distance = torch.zeros(image.shape)
    for axis, length in enumerate(image.shape):
        square = (torch.arange(length) - draw.uniform(0, length)) ** 2
        distance += square.reshape([-1 if axis == other else 1 for other in range(3)])
    distance = distance.sqrt() + 0.3 * radius * draw.smooth(image.shape, [12] * 3)[0]
    inside = (distance < radius) & within
    return torch.where(inside, 0.3 * image + 0.7 * draw.uniform(0, 1), image)


def _cut(image: Tensor, classes: Tensor, options: SynthesisOptions, draw: Draw) -> tuple[Tensor, Tensor]:
    """Return a field of view that ends within the grid: the image is zero beyond it."""
    if not draw.happens(options.cut):
        return image, classes
    axis = draw.choice(3)
    length = image.shape[axis]
    lost = round(draw.span(options.cut_share) * length)
    start = 0 if draw.happens(0.5) else length - lost
    image, classes = image.clone(), classes.clone()
    image.narrow(axis, start, lost).zero_()
    classes.narrow(axis, start, lost).fill_(IGNORED)
    return image, classes
