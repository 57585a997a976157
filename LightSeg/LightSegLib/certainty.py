"""Where a segmentation most wants a look: the slices whose labels the network was least sure of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .volume import Segmentation

FEW = 0.1  # of the labelled voxels of the fullest slice; slices with fewer are always doubtful and say little
APART = 3  # slices, so that one doubtful place is not listed again and again


@dataclass(frozen=True)
class DoubtfulSlice:
    """index: (i, j, k) of the middle of the doubt. confidence: mean probability of the slice's labelled voxels."""

    index: tuple[float, float, float]
    confidence: float


def least_certain_slices(segmentation: Segmentation, count: int = 5) -> list[DoubtfulSlice]:
    """At most `count` slices along k, least certain first; none where the segmentation has no confidence."""
    if segmentation.confidence is None:
        return []
    pairs = zip(segmentation.voxels, segmentation.confidence, strict=True)
    sums = [(int(np.count_nonzero(labels)), float(sure[labels > 0].sum())) for labels, sure in pairs]
    fullest = max(voxels for voxels, _ in sums)
    means = {k: total / voxels for k, (voxels, total) in enumerate(sums) if voxels > FEW * fullest}
    chosen: list[int] = []
    for k in sorted(means, key=lambda k: means[k]):
        if len(chosen) < count and all(abs(k - other) >= APART for other in chosen):
            chosen.append(k)
    return [DoubtfulSlice(_middle(segmentation, k), means[k]) for k in chosen]


def _middle(segmentation: Segmentation, k: int) -> tuple[float, float, float]:
    """Mean place of the labelled voxels of slice k, weighted by their doubt."""
    assert segmentation.confidence is not None
    labelled = np.argwhere(segmentation.voxels[k])
    doubt = 1 - segmentation.confidence[k][tuple(labelled.T)]
    j, i = np.average(labelled, axis=0, weights=doubt if doubt.sum() > 0 else None)
    return float(i), float(j), float(k)
