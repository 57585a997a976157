"""Models on disk whose labels are known beforehand: U-Nets that let the intensities pass and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from LightSegLib.catalog.card import Card, Inference, Label, Normalization, Preprocessing, Weights
from LightSegLib.catalog.card_file import read_card, write_card
from LightSegLib.core.file_hash import sha256
from LightSegLib.networks import build
from LightSegLib.weights.files import save_weights

ARGUMENTS = {
    "in_channels": 1,
    "features_per_stage": [1, 1],
    "kernel_sizes": 1,
    "strides": 1,
    "n_conv_per_stage": 1,
    "n_conv_per_stage_decoder": 1,
    "norm": "batch",
    "negative_slope": 1.0,
}
UNCHANGED = Normalization("ct", 0, 1000, 0, 1)


def write_threshold_model(folder: Path, labels: Sequence[str], levels: Sequence[float], **fields: Any) -> Card:
    """A model folder whose label n (from 1) is where the image is between levels n - 1 and n; fields: of its card."""
    folder.mkdir(parents=True)
    arguments = {**ARGUMENTS, "classes": len(levels) + 1}
    state = build("plain_conv_unet", arguments).state_dict()
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        if "seg_layers" in key:
            values = [0.0, *range(1, len(levels) + 1)]
            if key.endswith("bias"):
                values = [0.0, *(-sum(levels[: n + 1]) for n in range(len(levels)))]
            tensor.copy_(torch.tensor(values).reshape(tensor.shape))
        elif key.endswith(("bias", "running_mean")) or "transpconvs" in key:
            tensor.zero_()
        else:
            tensor.fill_(1)
            if tensor.dim() == 5 and tensor.shape[1] == 2:
                tensor[:, 0] = 0  # what comes from the coarser stage
    weights = folder / "weights.pt"
    save_weights(state, weights)
    card = Card(
        id=folder.name,
        title=folder.name.capitalize(),
        version="1",
        description="Compares intensities.",
        modality="MR",
        channels=("image",),
        network="plain_conv_unet",
        network_arguments=arguments,
        preprocessing=fields.pop("preprocessing", Preprocessing(normalization=(UNCHANGED,))),
        inference=Inference((16, 16, 16)),
        labels=tuple(Label(value, name, (200, 90, 40)) for value, name in enumerate(labels, start=1)),
        weights=fields.pop("weights", Weights(weights.name, weights.stat().st_size, sha256(weights))),
        license="CC0-1.0",
        citation=f"{folder.name}.",
        **fields,
    )
    write_card(card, folder / "model.json")
    return read_card(folder / "model.json")
