"""A head as hippodeep takes it, and the hippocampi on the way back.

The three networks see a head of 64 x 64 x 64 places, then a box of 107 x 72 x 68 mm of an average head, at 1 mm, which
an affine map of the second network lays into the image. Arrays are [i, j, k] here, along L, A and S, as the networks
take them; places are RAS mm.

Source: B. Thyreau et al., doi:10.1016/j.media.2017.11.004, and the authors' program, for intensities, grids, the way in
which the networks follow each other, and thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..catalog.card import Inference
from ..core.errors import InputError, ModelError
from ..core.i18n import tr as _
from ..imaging.geometry import Geometry
from ..imaging.ras import LPS_TO_RAS
from ..imaging.roi import RegionOfInterest, Slices
from ..imaging.volume import Volume
from ..networks.hippodeep import SIZE, HippoDeep
from .by_rows import Computer
from .labeling import InferenceResult
from .processing.orientation import orientation_steps, oriented, turned
from .whole_image import Report, WholeImage

LEFT, RIGHT = 1, 2  # labels
AVERAGE = np.array(  # from index (i, j, k) of the average head's 64 places along each axis to RAS mm
    [[-20 / 7, 0, 0, 90], [0, 24 / 7, 0, -126], [0, 0, 20 / 7, -72], [0, 0, 0, 1]]
)
BOX = np.array([[-1.0, 0, 0, 54], [0, 1, 0, -59], [0, 0, 1, -45], [0, 0, 0, 1]])  # the same of the box
BOX_SHAPE = (107, 72, 68)
# What the third network sees of the box, with the axis i running outwards: of the right side, of the left mirrored.
RIGHT_PART, LEFT_PART, HEIGHT = slice(6, 54), slice(53, 101), slice(2, 66)
EDGE = slice(2, -2)  # of what it sees, the part for which it has an output
HALF = 0.5  # of a voxel that is labeled
LEAST_FOUND_ML = 0.6  # of the larger hippocampus; a shrunken one has some 1 ml, T2 and FLAIR heads here gave up to 0.48
LEAST_ML = 100.0  # of a brain, or what there is of it


@dataclass(frozen=True)
class HippoDeepImage(WholeImage):
    """A volume for hippodeep.

    Attributes:
        volume: turned so that its axes run closest to L, A, S.
        original: the volume's own grid.
        region: the part of it to be labeled.
        found: where the average head is in the volume, once it was found: from RAS mm there to RAS mm here.
    """

    volume: Volume
    original: Geometry
    region: Slices
    found: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, volume: Volume, roi: RegionOfInterest | None = None) -> HippoDeepImage:
        """Return a volume in this form.

        Raises:
            InputError: for a volume of one intensity, and a region outside of it.
        """
        geometry = volume.geometry
        shape = geometry.shape
        region = roi.slices(geometry) if roi else (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
        if volume.voxels.min() == volume.voxels.max():
            raise InputError(
                _("{volume} has the same intensity everywhere. Choose a volume that shows a head.").format(
                    volume=volume.name
                )
            )
        return cls(turned(volume, *orientation_steps(geometry, "LAS")), geometry, region)

    @property
    def facts(self) -> dict[str, Any]:
        """Where the average head was found."""
        return {"alignment": self.found} if self.found else {}

    def bytes_needed(self, network: nn.Module, rules: Inference, computer: Computer) -> int:
        """Return the memory that `label` takes: the image as floats, twice, and features of the networks."""
        return 4 * 3 * self.volume.voxels.size + 4 * 300 * SIZE**3

    @torch.inference_mode()
    def label(
        self, network: nn.Module, rules: Inference, computer: Computer, confidence: bool, report: Report
    ) -> InferenceResult:
        """Return the hippocampi on the volume's grid.

        Raises:
            InputError: if there is no brain, or one that lies upside down.
        """
        if not isinstance(network, HippoDeep):
            raise ModelError(_("The network is not hippodeep. Correct the model's card."))
        network = network.to(computer.device)
        voxels = self.volume.voxels
        values = torch.from_numpy(voxels.transpose(2, 1, 0).astype(np.float32)).to(computer.device)
        values = (values - values.mean(dtype=torch.float64).float()) / values.double().std(correction=0).float()
        report(0, 3)
        to_average = self._alignment(network, values)
        report(1, 3)
        to_index = np.linalg.inv(to_ras(self.volume.geometry))
        crop = _sampled(values, to_index @ np.linalg.inv(to_average) @ BOX, BOX_SHAPE)
        crop = (crop - crop.mean()) / crop.std(correction=0)
        views = crop[RIGHT_PART, :, HEIGHT], crop[LEFT_PART, :, HEIGHT].flip(0)
        found = [computer.pool.submit(_hippocampus, network, view) for view in views]
        right, left = (one.result() for one in found)
        report(2, 3)
        sides = torch.zeros((2, *BOX_SHAPE), device=computer.device)
        sides[0, LEFT_PART, :, HEIGHT][EDGE, EDGE, EDGE] = left.flip(0)
        sides[1, RIGHT_PART, :, HEIGHT][EDGE, EDGE, EDGE] = right
        result = self._returned(sides, np.linalg.inv(BOX) @ to_average @ to_ras(self.volume.geometry), confidence)
        report(3, 3)
        return result

    def _alignment(self, network: HippoDeep, values: Tensor) -> np.ndarray:
        """Return the map, 4x4, from RAS mm in the volume to RAS mm in the average head."""
        whole = F.interpolate(values[None, None], size=(SIZE,) * 3, mode="trilinear", align_corners=True)
        prior = network.head(whole)
        brain = prior[0, 0]
        geometry = self.volume.geometry
        share = math.prod((length - 1) / (SIZE - 1) for length in geometry.shape) * geometry.voxel_volume_ml
        if float(brain[brain > HALF].sum()) * share < LEAST_ML:
            raise InputError(
                _(
                    "No brain was found in {volume}, or too little of one. Choose a volume that shows a head, "
                    "check that its directions are right, or choose another model."
                ).format(volume=self.volume.name)
            )
        rows = network.affine(prior[:, [1, 3]] * brain)[0].cpu().double().numpy()
        shape = geometry.shape[::-1]
        here = _to_unit(shape) @ np.linalg.inv(to_ras(geometry))
        there = _to_unit((SIZE,) * 3) @ np.linalg.inv(AVERAGE)
        matrix = np.linalg.inv(there) @ np.linalg.inv(rows).T @ here
        up = np.linalg.inv(matrix)[:3, 2]
        if np.linalg.det(matrix[:3, :3]) <= 0 or up[2] < HALF * np.linalg.norm(up):
            raise InputError(
                _(
                    "The head in {volume} does not lie as the directions in its header say. "
                    "Correct the header, or export the image again."
                ).format(volume=self.volume.name)
            )
        self.found["average_to_image_ras"] = np.linalg.inv(matrix).round(6).tolist()
        return np.asarray(matrix)

    def _returned(self, sides: Tensor, to_box: np.ndarray, confidence: bool) -> InferenceResult:
        """Return labels of probabilities [left and right, i, j, k] in the box; to_box: from the volume's indices."""
        shape = self.volume.geometry.shape
        labels = np.zeros(shape, np.uint8)
        sure = np.full(shape, 100, np.uint8) if confidence else None
        corners = np.stack(np.meshgrid(*((0.0, n - 1.0) for n in BOX_SHAPE), [1.0], indexing="ij")).reshape(4, -1)
        places = (np.linalg.inv(to_box) @ corners)[2::-1]
        low = np.clip(np.floor(places.min(axis=1)), 0, shape).astype(int)
        high = np.clip(np.ceil(places.max(axis=1)) + 1, 0, shape).astype(int)
        if (low < high).all():
            shift = np.eye(4)
            shift[:3, 3] = low[::-1]
            part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            size = tuple(int(n) for n in (high - low)[::-1])
            left, right = (_sampled(side, to_box @ shift, size).cpu().numpy().transpose(2, 1, 0) for side in sides)
            most = np.maximum(left, right)
            labels[part] = np.where(most < HALF, 0, np.where(left >= right, LEFT, RIGHT))
            if sure is not None:
                sure[part] = np.rint(100 * np.maximum(most, 1 - most)).astype(np.uint8)
        sizes = np.bincount(labels.ravel(), minlength=3)[1:] * self.volume.geometry.voxel_volume_ml
        if sizes.max() < LEAST_FOUND_ML:
            raise InputError(
                _(
                    "No hippocampus was found in {volume}. "
                    "Check that the directions in its header are those of the head "
                    "and that it is a T1-weighted image, or choose another model."
                ).format(volume=self.volume.name)
            )
        full, certain = self._on_original(labels), None if sure is None else self._on_original(sure)
        return InferenceResult(full, full[self.region], certain, None if certain is None else certain[self.region])

    def _on_original(self, values: np.ndarray) -> np.ndarray:
        """Return values with the axes of the original grid, 0 where no labels are wanted."""
        full = np.zeros(self.original.shape, values.dtype)
        oriented(full, *orientation_steps(self.original, "LAS"))[...] = values
        wanted = np.zeros_like(full)
        wanted[self.region] = full[self.region]
        return wanted


def to_ras(geometry: Geometry) -> np.ndarray:
    """Return the matrix, 4x4, from index (i, j, k) to RAS mm."""
    return np.asarray(LPS_TO_RAS @ geometry.index_to_world)


def _hippocampus(network: HippoDeep, view: Tensor) -> Tensor:
    """Return how likely each voxel is, with 0.5 to 0.75 spread over 0.5 to 1, and 0 below."""
    with torch.inference_mode():
        found = network.hippocampus(view[None, None].contiguous())[0, 0]
        return ((found - HALF) * 2 + HALF).clamp(0, 1) * (found > HALF)


def _to_unit(shape: tuple[int, ...]) -> np.ndarray:
    """Return the matrix from indices of an array to coordinates from -1, the first voxel, to 1, the last."""
    matrix = np.diag([*(2.0 / (length - 1) for length in shape), 1.0])
    matrix[:3, 3] = -1
    return matrix


def _sampled(values: Tensor, to_index: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Return linear samples [i, j, k] of values [i, j, k] where a matrix takes the indices of a grid; 0 beyond."""
    unit = torch.from_numpy(_to_unit(tuple(values.shape)) @ to_index).float().to(values.device)
    axes = [torch.arange(length, dtype=torch.float32, device=values.device) for length in shape]
    index = torch.stack([*torch.meshgrid(*axes, indexing="ij"), torch.ones(shape, device=values.device)], dim=-1)
    places = index @ unit[:3].T  # coordinates of i, j, k
    result = F.grid_sample(values[None, None], places[None].flip(-1), align_corners=True)
    return result[0, 0]
