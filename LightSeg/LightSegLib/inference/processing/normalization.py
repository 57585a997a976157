"""Intensities as the network wants them: statistics of a whole image first, then any rows of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...catalog.card import Normalization
from ...core.errors import InputError, ModelError
from ...core.i18n import tr as _

CHUNK_VOXELS = 4_000_000  # looked at together, so that no second copy of a large image is needed


@dataclass(frozen=True)
class IntensityTransform:
    """Intensity transform of a normalization: clip to lower..upper, subtract shift, divide by divisor."""

    lower: float = -math.inf
    upper: float = math.inf
    shift: float = 0.0
    divisor: float = 1.0

    def __call__(self, values: Tensor) -> Tensor:
        """float32 values, changed in place."""
        if math.isfinite(self.lower) or math.isfinite(self.upper):
            values.clamp_(self.lower, self.upper)
        if self.shift:
            values.sub_(self.shift)
        return values if self.divisor == 1.0 else values.div_(self.divisor)


def fit_normalization(
    image: np.ndarray, rule: Normalization, name: str = "The image", mask: np.ndarray | None = None
) -> IntensityTransform:
    """Return the scale of an image [k, j, i] by its rule (see `Normalization`); mask: voxels that count, if not all.

    Raises:
        ModelError: for a rule that is not known.
        InputError: for an image of constant intensity.
    """
    if rule.method == "unknown":
        raise ModelError(
            _(
                "The authors have not published how the input of this model is normalized, so it cannot run. "
                "Write the rule into preprocessing.normalization of its card ('lightseg info MODEL --json') and "
                "use that card."
            )
        )
    if rule.method == "none":
        return IntensityTransform()
    if rule.method == "ct":
        assert rule.lower is not None and rule.upper is not None and rule.mean is not None and rule.std is not None
        return IntensityTransform(rule.lower, rule.upper, rule.mean, rule.std)
    if rule.method in ("zscore", "percentile") and rule.lower is not None and rule.upper is not None:
        lower, upper = np.percentile(image if mask is None else image[mask], (rule.lower, rule.upper))
    else:
        ranges = [(values.min(), values.max()) for values in _masked_voxels(image, mask)]
        lower, upper = min(low for low, _ in ranges), max(high for _, high in ranges)
    if not upper > lower:
        raise InputError(
            _(
                "{name} has the same intensity everywhere in the region to segment. "
                "Choose a region that contains the structure, or check the image."
            ).format(name=name)
        )
    lower, upper = float(lower), float(upper)
    if rule.method != "zscore":
        scaled = IntensityTransform(lower, upper, lower, upper - lower)
        return scaled if rule.clip else replace(scaled, lower=-math.inf, upper=math.inf)
    # float64 sums, in two passes: a float32 mean over millions of large values is off in the third digit
    sums = [
        (values.size, np.clip(values, lower, upper).sum(dtype=np.float64)) for values in _masked_voxels(image, mask)
    ]
    count = sum(size for size, _ in sums)
    mean = float(sum(part for _, part in sums)) / count
    squares = [np.square(np.clip(values, lower, upper) - mean).sum() for values in _masked_voxels(image, mask)]
    return IntensityTransform(lower, upper, mean, math.sqrt(float(sum(squares)) / count))


def normalized(image: np.ndarray, rows: slice, transform: IntensityTransform, mask: np.ndarray | None = None) -> Tensor:
    """Some rows of an image [k, j, i], scaled, as float32; 0 outside the content."""
    values = transform(torch.from_numpy(np.array(image[rows], np.float32, order="C")))
    return values if mask is None else values.masked_fill_(torch.from_numpy(~mask[rows]), 0.0)


def chunks(shape: Sequence[int]) -> Iterator[slice]:
    """Return slices that cover all rows of an array [k, j, i], some at a time."""
    depth = max(1, CHUNK_VOXELS // max(1, shape[1] * shape[2]))
    return (slice(row, min(row + depth, shape[0])) for row in range(0, shape[0], depth))


def _masked_voxels(image: np.ndarray, mask: np.ndarray | None) -> Iterator[np.ndarray]:
    """Yield the voxels that count, as float64, some rows at a time."""
    for part in chunks(image.shape):
        values = image[part] if mask is None else image[part][mask[part]]
        if values.size:
            yield values.astype(np.float64)
