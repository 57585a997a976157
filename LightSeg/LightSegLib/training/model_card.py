"""The card of a model to be trained: from a given card, or made from the training set."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..catalog.card import Card, Inference, Label, Normalization, Preprocessing, Weights
from ..catalog.condensed import condensed
from ..catalog.lookup import find_card
from ..core.errors import InputError
from ..core.i18n import tr as _
from ..imaging.volume import Volume
from ..inference.processing.orientation import orientation_steps
from .dataset import Dataset
from .options import TrainingOptions

COLORS = ((216, 101, 79), (80, 174, 128), (111, 140, 214), (241, 214, 145), (177, 122, 101), (144, 107, 182))
ORIENTATION = "RAS"
PATCH_MULTIPLE = 16
LARGEST_PATCH = 96
NOT_STATED = "Not stated; it follows from the training data."
LoadedCase = tuple[list[Volume], np.ndarray]


def starting_card(dataset: Dataset, loaded: Sequence[LoadedCase], out: Path, options: TrainingOptions) -> Card:
    """Return the card before training: every fact but the weights and the measured quality.

    Raises:
        InputError: for a training set without labels or with one that has no name.
    """
    values = {int(value) for _, labels in loaded for value in np.unique(labels)} - {0}
    if not values:
        raise InputError(_("No case of the training set has a labeled voxel. Check that these are the label maps."))
    card = _given_card(dataset, options) if options.card else _card_from(dataset, loaded, values, options)
    if unnamed := sorted(values - {label.value for label in card.labels}):
        raise InputError(
            _(
                "The training set has voxels with the label {label}, which {file} does not name. "
                "Name the label or correct the label maps."
            ).format(label=unnamed[0], file="the card" if options.card else "dataset.json")
        )
    return dataclasses.replace(
        card,
        id=model_id(out),
        # no flip that was not trained, and no expectation that was measured with other weights
        inference=dataclasses.replace(card.inference, mirror_axes=options.flip_axes, calibration=None),
        measured=None,
        network_arguments={**card.network_arguments, "in_channels": len(card.channels), "classes": card.classes},
        folder=out,
    )


def model_id(out: Path) -> str:
    """Return Id of the model in a folder, by the folder's name."""
    return re.sub(r"[^a-z0-9_.-]+", "-", out.name.lower()).strip("-_.") or "model"


def _given_card(dataset: Dataset, options: TrainingOptions) -> Card:
    """Return the chosen card; what it states about a model of other training data is dropped.

    Raises:
        InputError: for one that does not fit the training set, or does not name its network.
    """
    card = find_card(options.card)
    if not card.network or card.metadata_in_weights:
        raise InputError(
            _(
                "The card '{model}' leaves its network to its weights or its parts, so no training can start from it. "
                "Choose another card or omit it."
            ).format(model=card.id)
        )
    if len(card.channels) != len(dataset.channels):
        raise InputError(
            _(
                "The card '{model}' and the training set have different numbers of channels ({card} and {given}). "
                "Choose another card or omit it."
            ).format(model=card.id, card=len(card.channels), given=len(dataset.channels))
        )
    trained = card.weights.sha256 or card.weights.git_blob or card.weights.size or card.weights.sources
    if card.training.get("dataset") == dataset.name or not (card.training or trained):
        return card
    return dataclasses.replace(
        card,
        title=f"{card.title}, trained on {dataset.name}",
        version="1.0",
        description=f"{', '.join(condensed(label.name for label in card.labels))}; trained on {dataset.name}, "
        f"with the network and the preprocessing of {card.id}.",
        license=NOT_STATED,
        citation=NOT_STATED,
        limitations=NOT_STATED,
        sample="",
        homepage="",
        assumptions=(),
        family="",
        task="",
        quality="normal",
    )


def _card_from(dataset: Dataset, loaded: Sequence[LoadedCase], values: set[int], options: TrainingOptions) -> Card:
    """Return a card whose preprocessing and patch size follow from the data."""
    names = dataset.labels or {value: f"Label {value}" for value in sorted(values)}
    sizes, spacings = [], []  # of the oriented arrays, in their order [k, j, i]
    for volumes, _labels in loaded:
        geometry = volumes[0].geometry
        order = list(orientation_steps(geometry, ORIENTATION)[0])
        spacings.append(np.array(geometry.spacing[::-1])[order])
        sizes.append(np.array(geometry.shape)[order] * spacings[-1])
    spacing = np.round(np.median(spacings, axis=0), 4)
    # rounded down: a tile that fills the image with padding has other statistics than those of training
    tiles = np.median(sizes, axis=0) / spacing // PATCH_MULTIPLE * PATCH_MULTIPLE
    k, j, i = options.patch_size or (int(length) for length in np.clip(tiles, PATCH_MULTIPLE, LARGEST_PATCH))
    z, y, x = map(float, spacing)
    return Card(
        id="",
        title=dataset.name,
        version="1.0",
        description=f"{', '.join(names.values())}; trained on {dataset.name}.",
        modality="CT" if all(map(_is_ct, dataset.channels)) else "MR",
        channels=dataset.channels,
        network="lightmedseg",
        network_arguments={},
        preprocessing=Preprocessing(
            ORIENTATION,
            spacing=(x, y, z),
            normalization=tuple(
                _ct_window(loaded, number) if _is_ct(name) else Normalization("zscore", 0.5, 99.5)
                for number, name in enumerate(dataset.channels)
            ),
        ),
        inference=Inference((k, j, i)),
        labels=tuple(
            Label(value, name, COLORS[n % len(COLORS)]) for n, (value, name) in enumerate(sorted(names.items()))
        ),
        weights=Weights("weights.pt", 0, ""),
        license=NOT_STATED,
        citation=NOT_STATED,
        limitations=NOT_STATED,
    )


def _is_ct(channel: str) -> bool:
    """Return whether a channel is named CT."""
    return channel.strip().upper() == "CT"


def _ct_window(loaded: Sequence[LoadedCase], channel: int) -> Normalization:
    """Return percentiles 0.5 and 99.5, mean and standard deviation, in HU, of all labeled voxels."""
    voxels = np.concatenate([volumes[channel].voxels[labels > 0].astype(np.float64) for volumes, labels in loaded])
    lower, upper = np.percentile(voxels, (0.5, 99.5))
    lower, upper, mean, std = (round(float(n), 4) for n in (lower, upper, voxels.mean(), max(voxels.std(), 1e-3)))
    return Normalization("ct", lower, upper, mean, std)
