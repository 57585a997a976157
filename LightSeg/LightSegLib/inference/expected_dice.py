"""How well a model has probably done: the Dice that it expects of each structure, and a warning where that is low.

The probabilities of a network are themselves an estimate of the Dice of its labels: with labels where a class is the
most probable one, twice their summed probability over their number plus the probability of the class everywhere, the
"soft" Dice. Networks are too sure or not sure enough of themselves, of some structures more than of others, so a card
states what Dice was measured at what soft Dice, with straight lines between, and how much each structure differs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..catalog.card import Calibration, Card
from ..core.figures import distinct
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


def expected_dice(card: Card, soft_dice: Mapping[int, float]) -> dict[int, float]:
    """Return the Dice that is expected of each label with a soft Dice; none where the card has no calibration."""
    calibration = card.inference.calibration
    if calibration is None:
        return {}
    offsets = calibration.offsets or (0.0,) * len(card.labels)
    return {
        label.value: _expected(calibration, soft_dice[label.value], offset)
        for label, offset in zip(card.labels, offsets, strict=True)
        if label.value in soft_dice
    }


def _expected(calibration: Calibration, soft_dice: float, offset: float) -> float:
    """Return the Dice that is expected of a label, whose mean differs from that of all by an offset."""
    value = float(np.interp(soft_dice, calibration.soft_dice, calibration.dice))
    return round(min(max(value + offset, 0.0), 1.0), 3)


def expected_dice_facts(
    card: Card, soft_dice: Mapping[int, float], expected: Mapping[int, float], labels: np.ndarray
) -> dict[str, Any]:
    """Return for the provenance the soft Dice of each label, and the expected Dice of those in a result [k, j, i].

    An image is judged by all labels of the network, of which a region of interest may show a part.
    """
    found: set[int] = set().union(*(np.unique(part).tolist() for part in labels))
    names = {label.value: label.name for label in card.labels}
    return {
        "soft_dice": {names[value]: round(dice, 4) for value, dice in soft_dice.items() if value in names},
        "expected_dice": {names[value]: dice for value, dice in expected.items() if value in found},
    }


class Figures(NamedTuple):
    """What an image is judged by.

    Attributes:
        mean: expected Dice of large structures.
        information: what the alignment explains, in nats; infinite without one.
        worse: expected Dice of a side, and its label, where the sides of a structure differ most.
        better: the same of the other side.
    """

    mean: float
    information: float
    worse: tuple[float, int]
    better: tuple[float, int]

    @property
    def difference(self) -> float:
        """How much less is expected of the worse side."""
        return round(self.better[0] - self.worse[0], 3)


def explained(alignment: Mapping[str, float]) -> float:
    """Return what an alignment explains, both figures of the provenance together; infinite without one."""
    return alignment["information"] + alignment["inner_information"] if alignment else math.inf


def figures(calibration: Calibration, expected: Mapping[int, float], information: float) -> Figures:
    """Return what an image is judged by.

    Args:
        calibration: which labels are large, and which are sides of one structure.
        expected: Dice of each label of the network; one without voxels counts as 0.
        information: what the alignment explains.
    """
    mean = float(np.mean([expected.get(label, 0.0) for label in calibration.large]))
    pairs = [sorted((expected.get(label, 0.0), label) for label in pair) for pair in calibration.pairs]
    worse, better = max(pairs, key=lambda pair: pair[1][0] - pair[0][0], default=((1.0, 0), (1.0, 0)))
    return Figures(mean, information, worse, better)


def doubts(card: Card, expected: Mapping[int, float], alignment: Mapping[str, float]) -> list[Message]:
    """Return notices about an image that the model does not understand, by the limits of its card.

    Args:
        card: of the model.
        expected: Dice of each label of the network; one without voxels counts as 0.
        alignment: figures of the registration, as in the provenance; empty without one.
    """
    calibration = card.inference.calibration
    if calibration is None:
        return []
    found = figures(calibration, expected, explained(alignment))
    notices = []
    if found.mean < calibration.least_dice:
        mean, least = distinct(found.mean, calibration.least_dice)
        notices.append(
            _(
                "The model is unsure of this image (it expects a Dice of {mean} of large structures, "
                "less than the limit of {least}), as with strong motion or noise, large lesions, "
                "a part of the body that is missing, or a child. Check every structure before you use the result."
            ).format(mean=mean, least=least)
        )
    if found.information < calibration.least_information:
        information, least = distinct(found.information, calibration.least_information)
        notices.append(
            _(
                "The model is unsure of the position of this image, which agrees less with the model's template "
                "({information}) than it should ({least} or more), as with strong noise or a part of the body "
                "that is missing. Check that every structure is in its place before you use the result."
            ).format(information=information, least=least)
        )
    if notices or found.difference <= calibration.most_difference:
        return notices
    names = {label.value: label.name for label in card.labels}
    return [
        _(
            "The model is unsure of one side: it expects a Dice of {low:.3f} of '{worse}' and of {high:.3f} of "
            "'{better}', as beside a large lesion. Check the structures of this side before you use the result."
        ).format(low=found.worse[0], worse=names[found.worse[1]], high=found.better[0], better=names[found.better[1]])
    ]
