"""Of a result only the structures that a user wants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..catalog.card import Card
from ..catalog.structures import wanted_labels
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
    if segmentation.confidence is not None:
        provenance |= confidence_facts(segmentation.voxels, segmentation.confidence)
    if "expected_dice" in provenance:
        names = {label.name for label in labels}
        stated = provenance["expected_dice"].items()
        provenance["expected_dice"] = {name: dice for name, dice in stated if name in names}
    totals = tuple(total for total in segmentation.totals if wanted.issuperset(total.labels))
    return replace(segmentation, labels=labels, totals=totals, provenance=provenance)
