"""Where a segmentation most wants a look: the slices whose labels the network was least sure of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_SHARE = 0.1  # of the labeled voxels of the fullest slice; slices with fewer are always doubtful and of little use
LEAST_DISTANCE = 3  # slices, so that one doubtful place is not listed again and again


@dataclass(frozen=True)
class LowConfidenceSlice:
    """A slice whose labels have a low confidence.

    Attributes:
        index: (i, j, k) of the middle of the doubt.
        confidence: mean probability of the slice's labeled voxels.
    """

    index: tuple[float, float, float]
    confidence: float


def lowest_confidence_slices(labels: np.ndarray, confidence: np.ndarray, count: int = 5) -> list[LowConfidenceSlice]:
    """Return at most `count` slices along k, lowest confidence first.

    Args:
        labels: [k, j, i].
        confidence: percentages [k, j, i].
    """
    sums = [
        (int(np.count_nonzero(found)), float(sure[found > 0].sum()) / 100)
        for found, sure in zip(labels, confidence, strict=True)
    ]
    fullest = max(voxels for voxels, _ in sums)
    means = {k: total / voxels for k, (voxels, total) in enumerate(sums) if voxels > LEAST_SHARE * fullest}
    chosen: list[int] = []
    for k in sorted(means, key=lambda k: means[k]):
        if len(chosen) < count and all(abs(k - other) >= LEAST_DISTANCE for other in chosen):
            chosen.append(k)
    return [LowConfidenceSlice((*_middle(labels[k], confidence[k]), float(k)), means[k]) for k in chosen]


def _middle(labels: np.ndarray, confidence: np.ndarray) -> tuple[float, float]:
    """Return the mean position (i, j) of a slice's labeled voxels [j, i], weighted by their uncertainty."""
    labeled = np.argwhere(labels)
    uncertainty = 100.0 - confidence[tuple(labeled.T)]
    j, i = np.average(labeled, axis=0, weights=uncertainty if uncertainty.sum() > 0 else None)
    return float(i), float(j)
