"""Models on disk that consist of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from LightSegLib.catalog.card import Card, Inference, Label, ModelPart, Preprocessing, Weights
from LightSegLib.catalog.card_file import read_card, write_card
from threshold_models import UNCHANGED


def write_composite(folder: Path, labels: Sequence[str], parts: dict[str, tuple[int, ...]], **fields: Any) -> Card:
    """A model folder with a card alone; labels have the values 1, 2, ...; parts: what those of each model become."""
    folder.mkdir(parents=True)
    card = Card(
        id=folder.name,
        title=folder.name.capitalize(),
        version="1",
        description="Consists of others.",
        modality="MR",
        channels=("image",),
        network="",
        network_arguments={},
        preprocessing=fields.pop("preprocessing", Preprocessing(normalization=(UNCHANGED,))),
        inference=fields.pop("inference", Inference((16, 16, 16))),
        labels=tuple(Label(value, name, (200, 90, 40)) for value, name in enumerate(labels, start=1)),
        weights=Weights("parts"),
        license="CC0-1.0",
        citation=f"{folder.name}.",
        parts=tuple(ModelPart(model, values) for model, values in parts.items()),
        **fields,
    )
    write_card(card, folder / "model.json")
    return read_card(folder / "model.json")
