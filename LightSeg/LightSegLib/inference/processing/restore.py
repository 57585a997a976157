"""From slabs of logits on the working grid to labels at the input's resolution, in integers slab by slab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...catalog.card import Inference
from ...networks.linear_head import Head
from .resample import Shape, nearest

SLAB_BYTES = 32 * 2**20  # resampled logits held at once


@dataclass(frozen=True)
class Decision:
    """How outputs become labels.

    Args:
        regions: see `Inference`.
        threshold: what an output must exceed to paint its region, 0 for logits, 0.5 for probabilities.
        unnamed: outputs that are of no label, because there are gaps between the values; they are never chosen.
        head: a network's last layer, where what is added up are the features before it (see `linear_head`).
    """

    regions: Sequence[int] = ()
    threshold: float = 0.0
    unnamed: Sequence[int] = ()
    head: Head | None = None

    @classmethod
    def of(cls, rules: Inference, unnamed: Sequence[int] = (), head: Head | None = None) -> Decision:
        """Return the decision of a card's rules."""
        return cls(rules.regions, 0.5 if rules.average == "probabilities" else 0.0, unnamed, head)

    def outputs(self, summed: Tensor) -> Tensor:
        """Return the outputs [n, outputs, ...] of what was added up, [n, channels, ...]."""
        return summed if self.head is None else self.head(summed)

    def labels(self, outputs: Tensor) -> Tensor:
        """Return the labels [n, ...] of outputs [n, outputs, ...]."""
        if not self.regions:
            return self._named(outputs).argmax(dim=1)
        labels = torch.zeros_like(outputs[:, 0], dtype=torch.int32)
        for output, label in zip(outputs.unbind(1), self.regions, strict=True):
            labels[output > self.threshold] = label
        return labels

    def percent(self, outputs: Tensor) -> Tensor:
        """Return the probability of each label, uint8 [n, ...]: of the region that painted last, or that none did."""
        return self._probability(outputs).mul(100).round().to(torch.uint8)

    def _named(self, outputs: Tensor) -> Tensor:
        """Outputs [n, outputs, ...] of which those without a label are the lowest."""
        if not self.unnamed:
            return outputs
        return outputs.index_fill(1, torch.tensor(self.unnamed, device=outputs.device), -torch.inf)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return the probabilities [n, outputs, ...] of classes that exclude each other, 0 of those without a label."""
        probabilities = outputs if self.threshold else outputs.softmax(dim=1)
        if not self.unnamed:
            return probabilities
        return probabilities.index_fill(1, torch.tensor(self.unnamed, device=outputs.device), 0)

    def _probability(self, outputs: Tensor) -> Tensor:
        """Return the probability of the chosen label [n, ...]."""
        if not self.regions:
            return self.probabilities(outputs).amax(dim=1)
        probabilities = outputs if self.threshold else outputs.sigmoid()
        found = 1 - probabilities.amax(dim=1)
        for output, probability in zip(outputs.unbind(1), probabilities.unbind(1), strict=True):
            painted = output > self.threshold
            found[painted] = probability[painted]
        return found


class Restorer(Protocol):
    """Makes labels on the input's grid of a network's outputs."""

    def add(self, slab: Tensor) -> None:
        """The next working rows [outputs, rows, J, I]."""


class LabelRestorer:
    """Takes logits row by row and decides labels [k, j, i], resampling if the working grid differs.

    Args:
        labels: the array to write to, of integers that hold every label. The two grids share their outer faces, so
            row r of n output rows is at (r + 0.5) * m / n - 0.5 of m working rows. Logits are interpolated
            linearly, as nnU-Net does, but along the axes in `nearest_axes` the nearest row is taken.
        confidence: uint8, as large as labels, takes the probability of each label in percent.
    """

    def __init__(
        self,
        working_shape: Shape,
        labels: np.ndarray,
        decision: Decision = Decision(),
        nearest_axes: Sequence[int] = (),
        confidence: np.ndarray | None = None,
    ) -> None:
        self._labels = labels
        self._confidence = confidence
        self._decision = decision
        self._depth = working_shape[0]
        if 0 in nearest_axes:
            self._rows = nearest(working_shape[0], labels.shape[0]).astype(float)
        else:
            rows = (np.arange(labels.shape[0]) + 0.5) * working_shape[0] / labels.shape[0] - 0.5
            self._rows = np.clip(rows, 0, working_shape[0] - 1)
        self._picked = {
            axis: torch.from_numpy(nearest(working_shape[axis], labels.shape[axis]))
            for axis in (1, 2)
            if axis in nearest_axes
        }
        self._done = 0  # output rows decided
        self._held: Tensor | None = None  # [rows, J, I, outputs]
        self._first = 0  # working row of the first row held

    def add(self, slab: Tensor) -> None:
        """The next working rows [outputs, rows, J, I]."""
        slab = slab.permute(1, 2, 3, 0)  # outputs last, as they are in memory
        held = slab if self._held is None else torch.cat((self._held, slab))
        available = self._first + len(held)
        most = max(slab.shape[3], self._decision.head.outputs if self._decision.head else 0)
        batch = max(1, SLAB_BYTES // (4 * most * max(1, self._labels[0].size)))
        while self._done < len(self._rows):
            stop = min(self._done + batch, len(self._rows))
            stop = self._done + int(np.count_nonzero(np.ceil(self._rows[self._done : stop]) < available))
            if stop == self._done:
                break
            self._decide(held, stop)
        keep_from = self._depth if self._done == len(self._rows) else int(self._rows[self._done])
        drop = min(max(keep_from - self._first, 0), len(held))
        self._held = held[drop:].clone()
        self._first += drop

    def _decide(self, held: Tensor, stop: int) -> None:
        """Write the labels of the rows that the held logits suffice for."""
        rows = self._rows[self._done : stop]
        lower, upper = np.floor(rows).astype(int), np.ceil(rows).astype(int)
        logits = held[torch.as_tensor(lower - self._first)]
        fraction = torch.as_tensor(rows - lower, dtype=held.dtype, device=held.device)[:, None, None, None]
        if bool(fraction.any()):
            logits = torch.lerp(logits, held[torch.as_tensor(upper - self._first)], fraction)
        for axis, index in self._picked.items():
            logits = logits.index_select(axis, index.to(logits.device))
        logits = logits.permute(0, 3, 1, 2)
        if logits.shape[2:] != self._labels.shape[1:]:
            logits = F.interpolate(logits, size=self._labels.shape[1:], mode="bilinear", align_corners=False)
        logits = self._decision.outputs(logits)
        self._labels[self._done : stop] = self._decision.labels(logits).cpu().numpy()
        if self._confidence is not None:
            self._confidence[self._done : stop] = self._decision.percent(logits).cpu().numpy()
        self._done = stop
