"""Of a result only the structures that a user wants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..catalog.card import Card, Label
from ..catalog.sides import SIDES, base_value, side_of
from ..catalog.structures import chosen_labels, wanted_labels
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..imaging.volume import Segmentation
from .provenance import confidence_facts, nothing_found


def only_wanted(segmentation: Segmentation, card: Card, structures: Iterable[str]) -> Segmentation:
    """Return a result in which all other labels are background; its voxels are changed in place.

    Args:
        segmentation: the result of a model.
        card: of the model.
        structures: see `catalog.structures`; none for all.

    Raises:
        InputError: for structures that the model does not have.
    """
    structures = tuple(structures)
    if not structures:
        return segmentation
    labels = wanted_labels(card, segmentation.labels, structures)
    wanted = {label.value for label in labels}
    table = np.zeros(np.iinfo(segmentation.voxels.dtype).max + 1, segmentation.voxels.dtype)
    table[list(wanted)] = list(wanted)
    for plane in segmentation.voxels:
        plane[...] = table[plane]
    provenance = dict(segmentation.provenance)
    if not segmentation.voxels.any() and nothing_found() not in provenance["notices"]:
        provenance["notices"] = [*provenance["notices"], nothing_found()]
    provenance["notices"] = [*provenance["notices"], *_unknown_sides(segmentation.voxels, labels, card, structures)]
    if segmentation.confidence is not None:
        provenance |= confidence_facts(segmentation.voxels, segmentation.confidence)
    if "expected_dice" in provenance:
        names = {label.name for label in labels}
        stated = provenance["expected_dice"].items()
        provenance["expected_dice"] = {name: dice for name, dice in stated if name in names}
    totals = tuple(total for total in segmentation.totals if wanted.issuperset(total.labels))
    return replace(segmentation, labels=labels, totals=totals, provenance=provenance)


def _unknown_sides(voxels: np.ndarray, labels: Iterable[Label], card: Card, structures: Iterable[str]) -> list[Message]:
    """Return a notice for each structure of which one side was asked for, but is not known: all of it is there."""
    notices = []
    chosen = chosen_labels(card, structures)
    for label in labels:
        if label not in card.labels or label in chosen:
            continue
        asked = [one for one in chosen if base_value(card, one.value) == label.value]
        if {side_of(one) for one in asked} >= set(SIDES) or not (voxels == label.value).any():
            continue
        notices.append(
            _(
                "{asked} was asked for, but the side of what was found is not known, so {found} of either side is in "
                "the result. Check which side it is, or segment the whole image."
            ).format(asked=asked[0].name, found=label.name)
        )
    return notices
