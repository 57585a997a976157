"""How well a model has probably done: the Dice that it expects of each structure, and a warning where that is low.

The probabilities of a network are themselves an estimate of the Dice of its labels: with labels where a class is the
most probable one, twice their summed probability over their number plus the probability of the class everywhere, the
"soft" Dice. Networks are too sure or not sure enough of themselves, so a card states what Dice was measured at what
soft Dice; between these points the line is straight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..catalog.card import Calibration, Card
from ..core.i18n import Message
from ..core.i18n import tr as _

if TYPE_CHECKING:
    from torch import Tensor

    from .processing.restore import Decision


class SoftDice:
    """Adds up, slab by slab, what the soft Dice of every output needs."""

    def __init__(self, decision: Decision) -> None:
        self._decision = decision
        self._sums: np.ndarray | float = 0.0  # [3, outputs]: voxels, their probability, the probability everywhere

    def add(self, slab: Tensor) -> None:
        """The next rows of what the network gives, [outputs, rows, J, I]."""
        import torch

        probabilities = self._decision.probabilities(slab[None])[0].flatten(1)
        sure, labels = (values.cpu() for values in probabilities.max(dim=0))
        count = len(probabilities)
        voxels = torch.bincount(labels, minlength=count)
        chosen = torch.bincount(labels, sure.double(), count)
        everywhere = probabilities.sum(dim=1).cpu()
        self._sums = self._sums + torch.stack((voxels.double(), chosen, everywhere.double())).numpy()

    def by_label(self) -> dict[int, float]:
        """Return the soft Dice of each label that has voxels, by its value."""
        counts, sure, everywhere = np.reshape(self._sums, (3, -1))
        return {
            int(value): float(2 * sure[value] / (counts[value] + everywhere[value]))
            for value in np.flatnonzero(counts)
            if value > 0
        }


def expected_dice(calibration: Calibration, soft_dice: Mapping[int, float]) -> dict[int, float]:
    """Return the Dice that is expected at each soft Dice, by a card's points."""
    values = np.interp(list(soft_dice.values()), calibration.soft_dice, calibration.dice)
    return {label: round(float(value), 3) for label, value in zip(soft_dice, values, strict=True)}


def expected_dice_facts(card: Card, expected: Mapping[int, float], labels: np.ndarray) -> dict[str, Any]:
    """Return the expected Dice of each structure in a result [k, j, i], for the provenance."""
    found: set[int] = set().union(*(np.unique(part).tolist() for part in labels))
    return {
        "expected_dice": {
            label.name: expected[label.value]
            for label in card.labels
            if label.value in found and label.value in expected
        }
    }


def doubts(calibration: Calibration, expected: Mapping[int, float], alignment: Mapping[str, float]) -> list[Message]:
    """Return a notice for an image that the model does not understand.

    Args:
        calibration: the card's.
        expected: Dice of each label of the network; one without voxels counts as 0.
        alignment: figures of the registration, as in the provenance; empty without one.
    """
    mean = float(np.mean([expected.get(label, 0.0) for label in calibration.large]))
    agreement = alignment.get("information", 0.0) + alignment.get("inner_information", 0.0)
    if mean >= calibration.least_dice and (not alignment or agreement >= calibration.least_information):
        return []
    return [
        _(
            "The model is unsure of this image (it expects a Dice of {mean:.2f} of large structures), "
            "as with strong motion or noise, large lesions, a part of the body that is missing, or a child. "
            "Check every structure before you use the result."
        ).format(mean=mean)
    ]
