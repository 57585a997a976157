"""From slabs of logits on the working grid to labels at the input's resolution, in integers slab by slab."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

SLAB_BYTES = 64 * 2**20  # resampled logits held at once


class LabelRestorer:
    """Takes logits row by row and decides labels [k, j, i] of `shape`, resampling linearly where needed.

    The two grids share their outer faces: row r of n output rows lies at (r + 0.5) * m / n - 0.5 of m input
    rows, clamped, which is what `preprocess.resample` undoes. outputs: channels of the logits. regions: see
    `Inference`. threshold: what an output must exceed to paint its region, 0 for logits, 0.5 for probabilities.
    """

    def __init__(
        self,
        working_shape: Sequence[int],
        shape: Sequence[int],
        outputs: int,
        regions: Sequence[int] = (),
        threshold: float = 0.0,
    ) -> None:
        self.labels = np.zeros(tuple(shape), np.uint8 if max(outputs, *regions, 0) <= 256 else np.uint16)
        self._regions = regions
        self._threshold = threshold
        self._working = tuple(working_shape)
        rows = (np.arange(shape[0]) + 0.5) * working_shape[0] / shape[0] - 0.5
        self._rows = np.clip(rows, 0, working_shape[0] - 1)
        self._done = 0  # output rows decided
        self._held: Tensor | None = None
        self._first = 0  # working row of the first row held
        plane = 4 * outputs * max(1, shape[1] * shape[2])
        self._batch = max(1, SLAB_BYTES // plane)

    def add(self, slab: Tensor) -> None:
        """The next working rows [outputs, rows, J, I]."""
        held = slab if self._held is None else torch.cat((self._held, slab), dim=1)
        available = self._first + held.shape[1]
        while self._done < len(self._rows):
            stop = min(self._done + self._batch, len(self._rows))
            needed = np.floor(self._rows[self._done : stop]).astype(int) + 1
            stop = self._done + int(np.count_nonzero(np.minimum(needed, self._working[0] - 1) < available))
            if stop == self._done:
                break
            self._decide(held, stop)
        keep_from = self._working[0] if self._done == len(self._rows) else int(self._rows[self._done])
        drop = min(max(keep_from - self._first, 0), held.shape[1])
        self._held = held[:, drop:].clone()
        self._first += drop

    def _decide(self, held: Tensor, stop: int) -> None:
        rows = self._rows[self._done : stop]
        lower = np.floor(rows).astype(int)
        upper = np.minimum(lower + 1, self._working[0] - 1)
        logits = held[:, torch.as_tensor(lower - self._first)]
        fraction = torch.as_tensor(rows - lower, dtype=held.dtype, device=held.device)[None, :, None, None]
        if bool(fraction.any()):
            logits = torch.lerp(logits, held[:, torch.as_tensor(upper - self._first)], fraction)
        if tuple(logits.shape[2:]) != self.labels.shape[1:]:
            logits = F.interpolate(
                logits.transpose(0, 1), size=self.labels.shape[1:], mode="bilinear", align_corners=False
            ).transpose(0, 1)
        self.labels[self._done : stop] = self._labels(logits).cpu().numpy()
        self._done = stop

    def _labels(self, logits: Tensor) -> Tensor:
        if not self._regions:
            return logits.argmax(dim=0)
        labels = torch.zeros_like(logits[0], dtype=torch.int32)
        for output, label in zip(logits, self._regions, strict=True):
            labels[output > self._threshold] = label
        return labels


def keep_largest_component(labels: np.ndarray, mode: str) -> np.ndarray:
    """Labels [k, j, i] with only the largest face-connected piece kept.

    mode: "whole" for one piece of all labels together, "label" for one piece of every label, "none" for all.
    """
    if mode == "none":
        return labels
    masks = [labels > 0] if mode == "whole" else [labels == value for value in np.unique(labels) if value]
    kept = np.zeros_like(labels)
    for mask in masks:
        pieces, count = ndimage.label(mask)
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        sizes[0] = 0
        largest = (pieces == sizes.argmax()) & mask
        kept[largest] = labels[largest]
    return kept
