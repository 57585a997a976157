"""An image on FreeSurfer's grid, with its intensities from 0 to 255, and labels on the way back.

Source: FreeSurfer's `mri_convert --conform`: 256 voxels of 1 mm along left, inferior and anterior, about the middle of
the image; linear interpolation, one byte a voxel, with the 99.9 % quantile of what is above the minimum as the largest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from ..catalog.card import Inference, Preprocessing
from ..core.errors import InputError, ModelError
from ..core.i18n import tr as _
from ..imaging.geometry import Geometry, to_sitk
from ..imaging.roi import RegionOfInterest, Slices
from ..imaging.volume import Volume
from ..networks.meshnet import MeshNet
from .by_layers import ByLayers
from .by_rows import ByRows, Computer
from .labeling import InferenceResult
from .processing.normalization import IntensityTransform, fit_normalization, normalized
from .processing.restore import Decision
from .row_boxes import row_boxes
from .whole_image import Report, WholeImage

SIZE = 256  # voxels of 1 mm along each axis
LARGEST = 255
QUANTILE = 0.999
# Columns, in LPS: i to the front, j down, k to the left; arrays [k, j, i] have the order of FreeSurfer's L, I, A then.
DIRECTION = (0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
DARK = 0.04  # of the brightest: what is darker around a head is air, with its noise
MARGIN = 4  # voxels around what is brighter
LEAST = 100_000  # voxels of 1 mm that a brain, or what there is of it, has at least
SEEN = 100  # voxels of 1 mm from which a structure counts as found
FEW = 0.5  # share of a model's structures; a head that is upside down shows fewer
MUCH = 1 << 22  # voxels of an image of which every second, third, ... is looked at along each axis

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Conformed(WholeImage):
    """A volume on FreeSurfer's grid.

    image: uint8 [k, j, i], axes along L, I, A. grid: its place. original: the volume's own grid.
    region: the part of the volume to be labeled. transform: from bytes to the network's input.
    """

    image: np.ndarray
    grid: Geometry
    original: Geometry
    region: Slices
    transform: IntensityTransform
    name: str = "The volume"

    @property
    def shape(self) -> Shape:
        """Voxels [k, j, i] of the grid."""
        return self.grid.shape

    def bytes_needed(self, network: nn.Module, rules: Inference, computer: Computer) -> int:
        """Return the memory that `label` takes: features, pieces of work, and labels on both grids."""
        grids = 3 * self.image.size + 2 * math.prod(self.original.shape)
        return self._way(network, computer).nbytes + grids

    def label(
        self, network: nn.Module, rules: Inference, computer: Computer, confidence: bool, report: Report
    ) -> InferenceResult:
        """Return labels on the volume's grid.

        Raises:
            InputError: if there is too little of a brain, or too few of its structures.
        """
        decision = Decision.of(rules)
        labels = np.zeros(self.shape, np.uint8 if self._outputs(network) <= 256 else np.uint16)
        sure = np.full(self.shape, 100, np.uint8) if confidence else None

        def decide(logits: Tensor, row: int, j: int, i: int) -> None:
            part = (row, slice(j, j + logits.shape[1]), slice(i, i + logits.shape[2]))
            labels[part] = decision.labels(logits[None])[0].cpu().numpy()
            if sure is not None:
                sure[part] = decision.percent(logits[None])[0].cpu().numpy()

        self._way(network, computer).run(self.rows, decide, lambda rows: report(rows, self.shape[0]))
        if np.count_nonzero(labels) < LEAST:
            raise InputError(
                _(
                    "No brain was found in {volume}, or too little of one. Choose a volume that shows a head, "
                    "check that its directions are right, or choose another model."
                ).format(volume=self.name)
            )
        self._check_structures(labels, self._outputs(network) - 1)
        full = self.returned(labels)
        certain = None if sure is None else self.returned(sure, outside=100)
        return InferenceResult(full, full[self.region], certain, None if certain is None else certain[self.region])

    def _check_structures(self, labels: np.ndarray, structures: int) -> None:
        """Check that a good part of a model's structures was found, as in every head that is the right way up.

        Raises:
            InputError: if not.
        """
        found = int(np.count_nonzero(np.bincount(labels.ravel())[1:] >= SEEN))
        if found < FEW * structures:
            raise InputError(
                _(
                    "Only {found} of {count} structures were found in {volume}, so the head is probably upside down "
                    "or damaged. Correct the directions of the image, or choose another volume."
                ).format(found=found, count=structures, volume=self.name)
            )

    def _way(self, network: nn.Module, computer: Computer) -> ByRows | ByLayers:
        """Return what computes the network on this grid."""
        if not isinstance(network, MeshNet):
            raise ModelError(
                _("The network {network} cannot see a whole image at once. Correct preprocessing.conform.").format(
                    network=type(network).__name__
                )
            )
        if network.arguments["norm"] == "instance":
            return ByLayers(network, self._wanted, self.shape, computer)
        varied = row_boxes(self.image != 0)
        return ByRows(network, self._wanted, varied, self.lowest, self.shape, computer)

    @cached_property
    def _wanted(self) -> np.ndarray:
        return row_boxes(self.head())

    def _outputs(self, network: nn.Module) -> int:
        return int(network.arguments["classes"]) if isinstance(network, MeshNet) else 2

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows from `start` to before `stop` of the network's input, float32 [stop - start, j, i]."""
        return normalized(self.image, slice(start, stop), self.transform)

    @property
    def lowest(self) -> float:
        """The network's input where the image is darkest."""
        return float(self.transform(torch.zeros(1)))

    def head(self) -> np.ndarray:
        """Which voxels [k, j, i] are brighter than air and its noise, with the few around them; bool."""
        bright = self.image > DARK * LARGEST
        around = [
            tuple(slice(max(0, part.start - MARGIN), part.stop + MARGIN) for part in box)
            for box in ndimage.find_objects(bright.view(np.uint8))
        ]
        for box in around:  # one, or none; the rest of the grid would only take time
            bright[box] = ndimage.binary_dilation(ndimage.binary_opening(bright[box]), iterations=MARGIN)
        return bright

    def returned(self, values: np.ndarray, outside: int = 0) -> np.ndarray:
        """Return values [k, j, i] of the grid at the volume's voxels, each that of the nearest.

        The result has the volume's grid: `outside` beyond this grid, and 0 where no labels are wanted.
        """
        import SimpleITK as sitk

        wanted = _part(self.original, self.region)
        resampler = sitk.ResampleImageFilter()
        resampler.SetSize([part.stop - part.start for part in self.region[::-1]])
        resampler.SetOutputSpacing(wanted.spacing)
        resampler.SetOutputOrigin(wanted.origin)
        resampler.SetOutputDirection(wanted.direction)
        resampler.SetInterpolator(sitk.sitkNearestNeighbor)
        resampler.SetDefaultPixelValue(outside)
        full = np.zeros(self.original.shape, values.dtype)
        back = resampler.Execute(to_sitk(values, self.grid))
        full[self.region] = sitk.GetArrayViewFromImage(back)  # a view, which does not keep `back` alive
        return full


def conform(volume: Volume, steps: Preprocessing, roi: RegionOfInterest | None = None) -> Conformed:
    """Bring a volume to FreeSurfer's grid and normalize it by a card's rule.

    The grid is centered on the middle of the image, or on what is bright in it where the image is larger.
    roi: where labels are wanted; of an image that is too large, nothing else is looked at.

    Raises InputError for a sheared grid, for an image of one intensity, for one in which what is bright does not fit
    into the grid, and for one that shows two heads.
    """
    geometry = volume.geometry
    if not geometry.is_orthogonal:
        raise InputError(
            _(
                "{volume} has a sheared grid (for example a CT with gantry tilt), so distances in it are skewed. "
                "Resample it to an orthogonal grid first, in Slicer with 'Resample Scalar/Vector/DWI Volume'."
            ).format(volume=volume.name)
        )
    region = roi.slices(geometry) if roi is not None else _everything(geometry.shape)
    lowest, brightest = _range(volume)
    content = _content(volume, lowest + 2 * DARK * (brightest - lowest))
    if roi is not None and not _fits(content):
        volume = _cropped(volume, region)
        content = _content(volume, lowest + 2 * DARK * (brightest - lowest))
    if not _fits(content):
        extent = " x ".join(f"{math.ceil(high - low)}" for low, high in content.T)  # rounded up, never to the limit
        raise InputError(
            _(
                "{volume} shows {extent} mm, and this model takes heads in {size} mm. "
                "Set a region of interest around the head."
            ).format(volume=volume.name, extent=extent, size=SIZE)
        )
    grid = _grid(volume.geometry, content)
    image = _bytes(_resampled(volume, grid, lowest), volume)
    rule = steps.normalization[0]
    return Conformed(image, grid, geometry, region, fit_normalization(image, rule, volume.name), volume.name)


def _range(volume: Volume) -> tuple[float, float]:
    """Minimum and QUANTILE, of what is above it, of some voxels."""
    values = _sparse(volume.voxels)
    lowest = float(values.min())
    above = values[values > lowest]
    if above.size == 0:
        raise InputError(
            _(
                "{volume} has the same intensity everywhere. Choose a volume that shows a head, or check the file."
            ).format(volume=volume.name)
        )
    return lowest, float(np.quantile(above, QUANTILE))


def _sparse(voxels: np.ndarray) -> np.ndarray:
    step = max(1, math.ceil((voxels.size / MUCH) ** (1 / 3)))
    return voxels[::step, ::step, ::step]


def _content(volume: Volume, threshold: float) -> np.ndarray:
    """Bounds of what is brighter, LPS mm [2, 3]."""
    bright = ndimage.binary_opening(volume.voxels > threshold)
    if not bright.any():
        bright = volume.voxels > threshold
    parts = [np.flatnonzero(bright.any(tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    if not parts[0].size:
        raise InputError(
            _("{volume} shows nothing but noise. Choose a volume that shows a head.").format(volume=volume.name)
        )
    corners = np.array([[i, j, k, 1.0] for k, j, i in itertools.product(*((part[0], part[-1]) for part in parts))])
    places = (volume.geometry.index_to_world @ corners.T)[:3]
    return np.stack((places.min(axis=1), places.max(axis=1)))


def _fits(content: np.ndarray) -> bool:
    return bool((content[1] - content[0] <= SIZE).all())


def _grid(geometry: Geometry, content: np.ndarray) -> Geometry:
    """Return FreeSurfer's grid, with its middle in that of the image."""
    k, j, i = geometry.shape
    center = (geometry.index_to_world @ [(i - 1) / 2, (j - 1) / 2, (k - 1) / 2, 1.0])[:3]
    half = (SIZE - 1) / 2
    if (content[0] < center - half).any() or (content[1] > center + half).any():
        center = content.mean(axis=0)
    origin = center - np.reshape(DIRECTION, (3, 3)) @ np.full(3, half)
    return Geometry((SIZE,) * 3, (1.0,) * 3, tuple(map(float, origin)), DIRECTION)  # type: ignore[arg-type]


def _resampled(volume: Volume, grid: Geometry, lowest: float) -> np.ndarray:
    import SimpleITK as sitk

    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.shape[::-1])
    resampler.SetOutputSpacing(grid.spacing)
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(lowest)
    values = sitk.GetArrayFromImage(
        resampler.Execute(to_sitk(volume.voxels.astype(np.float32, copy=False), volume.geometry))
    )
    return np.asarray(values)


def _bytes(values: np.ndarray, volume: Volume) -> np.ndarray:
    """From 0, the minimum, to LARGEST, QUANTILE of what is above it; the values themselves are lost."""
    lowest = float(values.min())
    above = values[values > lowest]
    largest = float(np.quantile(above, QUANTILE)) if above.size else lowest
    if not largest > lowest:
        raise InputError(
            _(
                "{volume} has the same intensity everywhere in the region to segment. "
                "Choose a region that contains the head, or check the image."
            ).format(volume=volume.name)
        )
    values -= lowest
    values *= LARGEST / (largest - lowest)
    return np.rint(np.clip(values, 0, LARGEST, out=values), out=values).astype(np.uint8)


def _cropped(volume: Volume, region: Slices) -> Volume:
    return replace(volume, voxels=volume.voxels[region], geometry=_part(volume.geometry, region))


def _part(geometry: Geometry, region: Slices) -> Geometry:
    """The grid of a part of a volume."""
    matrix = geometry.index_to_world
    matrix[:3, 3] = (matrix @ [*(part.start for part in region[::-1]), 1.0])[:3]
    k, j, i = (part.stop - part.start for part in region)
    return Geometry((k, j, i), geometry.spacing, tuple(map(float, matrix[:3, 3])), geometry.direction)  # type: ignore[arg-type]


def _everything(shape: Sequence[int]) -> Slices:
    k, j, i = (slice(0, length) for length in shape)
    return k, j, i
