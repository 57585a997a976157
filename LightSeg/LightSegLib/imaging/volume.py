"""Volumes and segmentations: voxels that never travel without their geometry."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from .geometry import Geometry

if TYPE_CHECKING:
    from ..catalog.card import Label, Total
    from .dicom.grid import Grid

LARGEST_LABEL = 32767
LARGEST_VALUE, SMALLEST_RANGE = 1e37, 1e-30  # beyond which numbers of float32 and their squares are 0 or infinite
FEW_VALUES = 16
SAMPLED = 4096  # voxels that are looked at before all
SLICES = 16  # that are looked at for whether neighbors are alike
ALIKE = 0.25  # share of such neighbors: 0.86 and more in label maps of 54 to 104 structures, up to 0.16 in images


@dataclass(frozen=True)
class Volume:
    """A scalar image.

    Attributes:
        voxels: [k, j, i], of any numeric type.
        geometry: position of the voxels, in LPS mm.
        name: for messages.
        reading: what was done to read it from a file, as JSON has it.
        notices: what a user should know about that.
        slices: the DICOM slices that it was made of, as they are stored; None for any other source.
    """

    voxels: np.ndarray
    geometry: Geometry
    name: str = "volume"
    reading: dict[str, Any] = field(default_factory=dict)
    notices: tuple[Message, ...] = ()
    slices: Grid | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if tuple(self.voxels.shape) != tuple(self.geometry.shape):
            raise ValueError(
                _("voxels of shape {shape} do not fit a geometry of shape {grid}").format(
                    shape=self.voxels.shape, grid=self.geometry.shape
                )
            )


@dataclass(frozen=True)
class Segmentation:
    """Labels on the input's exact grid.

    Attributes:
        voxels: integers [k, j, i]; 0 is background.
        geometry: position of the voxels, in LPS mm.
        labels: name, color and terms of each value.
        provenance: how the result was made: model, version, weights' hash, device, seconds and more.
        confidence: probability of each voxel's label in percent, uint8 [k, j, i], 0 where nothing was computed; None if
            it was not asked for.
        totals: sums of labels, for tables.
    """

    voxels: np.ndarray
    geometry: Geometry
    labels: tuple[Label, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    confidence: np.ndarray | None = None
    totals: tuple[Total, ...] = ()

    @property
    def expected_dice(self) -> dict[str, float]:
        """Dice that the model expects of its structures, by name; empty where its card does not say what to expect."""
        return dict(self.provenance.get("expected_dice", {}))

    def volumes_ml(self) -> dict[str, float]:
        """Return the volume of every label in ml, by name and in the order of the label table, then of every total."""
        values = max(label.value for label in self.labels) + 1
        # slice by slice: numpy counts in a copy of 8 bytes a voxel
        counts = np.sum([np.bincount(part.ravel(), minlength=values) for part in self.voxels], axis=0)
        ml = counts * self.geometry.voxel_volume_ml
        single = {label.name: float(ml[label.value]) for label in self.labels}
        return single | {total.name: float(ml[list(total.labels)].sum()) for total in self.totals}


def voxels_sha256(voxels: np.ndarray) -> str:
    """Return the SHA-256 of [k, j, i] voxels as 32-bit floats: the same for an image in another file or data type."""
    digest = hashlib.sha256()
    for plane in voxels:  # one by one, for the copy
        digest.update(np.ascontiguousarray(plane, "<f4").data)
    return digest.hexdigest()


def check_voxels(voxels: np.ndarray, name: str) -> None:
    """Refuse voxels that no network can make sense of.

    Raises:
        InputError: for empty, two-dimensional, time-varying or color arrays, for NaN or infinite voxels and for a
            constant image.
    """
    if voxels.ndim == 4:
        raise InputError(
            _(
                "{name} has {ndim} dimensions: it is a time series or has several components. "
                "Choose one frame or one component and save it as a three-dimensional image."
            ).format(name=name, ndim=voxels.ndim)
        )
    if voxels.ndim != 3 or min(voxels.shape, default=0) < 2:
        raise InputError(
            _(
                "{name} is not a three-dimensional image (its size is {shape}). "
                "Choose a volume with at least two slices along every axis."
            ).format(name=name, shape=" x ".join(map(str, voxels.shape[::-1])))
        )
    if voxels.dtype.kind not in "iufb":
        raise InputError(
            _(
                "{name} has voxels of type {dtype}, which is not grayscale. "
                "Convert it to an integer or floating-point image."
            ).format(name=name, dtype=voxels.dtype)
        )
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        bad = int(np.size(voxels) - np.count_nonzero(np.isfinite(voxels)))
        raise InputError(
            _(
                "{name} has voxels that are NaN or infinite ({count} of them). Replace them, "
                "for example with the lowest value of the image, and try again."
            ).format(name=name, count=bad)
        )
    low, high = float(voxels.min()), float(voxels.max())
    if max(-low, high) > LARGEST_VALUE or 0 < high - low < SMALLEST_RANGE:
        raise InputError(
            _(
                "{name} has values from {low:g} to {high:g}, which a network cannot compute with. "
                "Rescale them, for example to 0 to 1000, and try again."
            ).format(name=name, low=low, high=high)
        )
    if low == high:
        raise InputError(
            _(
                "{name} is constant: every voxel has the value {flat}. "
                "Check that the right image was chosen and that it was exported completely."
            ).format(name=name, flat=voxels.flat[0])
        )


def few_values(voxels: np.ndarray) -> int:
    """Return how many values [k, j, i] voxels have, where these are whole numbers of 0 and more and few; else 0.

    So have label maps and masks, and no image that shows tissue.
    """
    seen: set[float] = set()
    for part in (
        voxels.reshape(-1)[:: max(1, voxels.size // SAMPLED)],
        *voxels,
    ):  # first a sample of all, which finds most problems
        seen.update(np.unique(part).tolist())
        if len(seen) > FEW_VALUES or min(seen, default=0) < 0:
            return 0
    return len(seen) if all(value == int(value) for value in seen) else 0


def check_labels(voxels: np.ndarray, name: str) -> None:
    """Check that an array is a label map.

    Raises:
        InputError: for NaN, fractional or negative voxels, values above 32767, and gray values of an image.
    """
    if voxels.dtype.kind == "f" and not np.array_equal(voxels, np.round(voxels)):
        raise InputError(
            _("{name} is not a label map because it has fractional voxels. Choose the file with the labels.").format(
                name=name
            )
        )
    if voxels.size and (voxels.min() < 0 or voxels.max() > LARGEST_LABEL):
        raise InputError(
            _(
                "{name} is not a label map because it has voxels below 0 or above {largest}. "
                "Choose the file with the labels."
            ).format(name=name, largest=LARGEST_LABEL)
        )
    if _alike(voxels) < ALIKE and not few_values(voxels):
        raise InputError(_("{name} is an image, not a label map. Choose the file with the labels.").format(name=name))


def is_label_map(voxels: np.ndarray) -> bool:
    """Return whether [k, j, i] voxels are those of a label map, as `check_labels` distinguishes it from an image."""
    try:
        check_labels(voxels, "")
    except InputError:
        return False
    return True


def _alike(voxels: np.ndarray) -> float:
    """Return the share of labeled neighbors within slices, [k, j, i], that have one value, along the better axis.

    Labels are pieces of many voxels, however many there are; gray values are not.
    """
    slices = voxels[:: max(1, len(voxels) // SLICES)]
    shares = []
    for one, other in ((slices[:, 1:], slices[:, :-1]), (slices[:, :, 1:], slices[:, :, :-1])):
        labeled = (one != 0) & (other != 0)
        if count := np.count_nonzero(labeled):
            shares.append(np.count_nonzero((one == other) & labeled) / count)
    return max(shares, default=1.0)
