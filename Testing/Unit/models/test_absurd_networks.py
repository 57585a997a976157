"""A card or plans of a few bytes cannot have a network of gigabytes made before it is seen that no weights fit."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from LightSegLib.catalog.card import Card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import ModelError
from LightSegLib.core.schema import FieldError
from LightSegLib.models import matching
from LightSegLib.models.matching import fitting_network
from LightSegLib.networks import build
from LightSegLib.nnunet.dataset import read_labels
from nnunet_models import make_plans
from nnunet_settings import read

STATE = {"a.weight": torch.zeros(3), "b.weight": torch.zeros(3)}


def unet(widths: list[int], convolutions: int = 1) -> Card:
    stages = len(widths)
    arguments = {
        "in_channels": 1,
        "classes": 3,
        "features_per_stage": widths,
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [convolutions] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
    }
    card = find_card("hippocampus-mr-lightmedseg")
    return replace(card, network="plain_conv_unet", network_arguments=arguments)


@pytest.mark.parametrize(
    ("card", "words"),
    [(unet([30_000, 30_000]), "do not fit the network"), (unet([2] * 4, 30_000), "many more layers than its weights")],
)
def test_no_memory_is_taken_for_a_network_that_no_weights_fill(
    monkeypatch: pytest.MonkeyPatch, card: Card, words: str
) -> None:
    places = []

    def noting(*arguments: Any) -> Any:
        places.append(torch.get_default_device().type)
        return build(*arguments)

    monkeypatch.setattr(matching, "build", noting)
    started = time.process_time()
    with pytest.raises(ModelError, match=words):
        fitting_network(card, STATE, "weights.pt")
    assert places == ["meta"], "where tensors have no numbers"
    assert time.process_time() - started < 20


def test_the_limit_holds_for_this_network_alone() -> None:
    with pytest.raises(ModelError):
        fitting_network(unet([2] * 4, 30_000), STATE, "weights.pt")
    card = unet([4, 8], 100)
    state = build(card.network, card.network_arguments).state_dict()
    found = fitting_network(card, state, "weights.pt").state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_plans_have_as_many_stages_as_a_patch_can_be_halved() -> None:
    plans = make_plans()
    arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [8] * 33
    with pytest.raises(ModelError, match="features_per_stage must have at most 32 entries"):
        read(plans)


def test_regions_are_as_many_as_can_be_distinguished() -> None:
    names = {f"region {number}": list(range(1, 400)) for number in range(399)}
    dataset = {"labels": {"background": 0, **names}, "regions_class_order": list(range(1, 400))}
    with pytest.raises(FieldError, match="at most 100 regions"):
        read_labels(dataset)
