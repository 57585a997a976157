"""The card of a model to be trained: from a given card, or made from the training set."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from ..catalog.card import Card, Inference, Label, Normalization, Preprocessing, Weights
from ..catalog.store import find_card
from ..errors import InputError
from ..volume import read_volume
from .dataset import Dataset
from .options import TrainingOptions

COLORS = ((216, 101, 79), (80, 174, 128), (111, 140, 214), (241, 214, 145), (177, 122, 101), (144, 107, 182))
PATCH_MULTIPLE = 16
LARGEST_PATCH = 96


def starting_card(dataset: Dataset, labels: set[int], out: Path, options: TrainingOptions) -> Card:
    """The card before training: every fact but the weights and the measured quality.

    labels: the values above 0 that occur. Raises InputError where one of them has no name.
    """
    if options.card:
        card = find_card(options.card)
        if len(card.channels) != len(dataset.channels):
            raise InputError(
                f"The card '{card.id}' has {len(card.channels)} channel(s), but the training set has "
                f"{len(dataset.channels)}. Choose another card or leave it out."
            )
    else:
        card = _card_from(dataset, labels, out)
    if unnamed := sorted(labels - {label.value for label in card.labels}):
        raise InputError(
            f"The training set has voxels with the label {unnamed[0]}, which "
            f"{'the card' if options.card else 'dataset.json'} does not name. Name it or correct the label files."
        )
    patch = options.patch_size or card.inference.patch_size
    if not options.card:
        card = dataclasses.replace(card, inference=dataclasses.replace(card.inference, patch_size=patch))
    arguments = {**card.network_arguments, "in_channels": len(card.channels), "classes": card.classes}
    return dataclasses.replace(card, network_arguments=arguments, folder=out)


def _card_from(dataset: Dataset, labels: set[int], out: Path) -> Card:
    names = dataset.labels or {value: f"Label {value}" for value in sorted(labels)}
    shapes, spacings = [], []
    for case in dataset.cases:
        geometry = read_volume(case.images[0]).geometry
        shapes.append(np.array(geometry.shape) * geometry.spacing[::-1])
        spacings.append(geometry.spacing)
    x, y, z = (float(round(value, 4)) for value in np.median(spacings, axis=0))
    voxels = np.median(shapes, axis=0) / (z, y, x)
    k, j, i = (int(np.clip(-(-n // PATCH_MULTIPLE) * PATCH_MULTIPLE, PATCH_MULTIPLE, LARGEST_PATCH)) for n in voxels)
    return Card(
        id=re.sub(r"[^a-z0-9_.-]+", "-", out.name.lower()).strip("-") or "model",
        title=dataset.name,
        version="1.0",
        description=f"{', '.join(names.values())}; trained on {dataset.name}.",
        modality="CT" if dataset.channels == ("CT",) else "MR",
        channels=dataset.channels,
        network="lightmedseg",
        network_arguments={},
        preprocessing=Preprocessing(
            spacing=(x, y, z),
            normalization=tuple(Normalization("zscore", 0.5, 99.5) for _ in dataset.channels),
        ),
        inference=Inference((k, j, i), mirror_axes=(0, 1, 2)),
        labels=tuple(
            Label(value, name, COLORS[n % len(COLORS)]) for n, (value, name) in enumerate(sorted(names.items()))
        ),
        weights=Weights("weights.pt", 0, ""),
        licence="Not stated; it follows from the training data.",
        citation="Not stated.",
        limitations="Not stated.",
    )
