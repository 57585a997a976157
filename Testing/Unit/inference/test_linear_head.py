"""Models of many labels: what is added up are the features before the last layer, and the labels stay the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from LightSegLib.catalog.card import Card
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.models.importing import import_model
from LightSegLib.networks import build, linear_head
from nnunet_models import DATASET, PLAIN_CONV_UNET, make_plans, write_model

LABELS = 20
NETWORK = {**PLAIN_CONV_UNET["arch_kwargs"], "features_per_stage": [4, 8], "n_stages": 2}
NETWORK |= {"kernel_sizes": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1]}
NETWORK |= {"n_conv_per_stage_decoder": [1]}


@pytest.fixture
def card(user_models: Path, tmp_path: Path) -> Card:
    plans = make_plans(patch_size=[16, 16, 16], architecture={**PLAIN_CONV_UNET, "arch_kwargs": NETWORK})
    labels = {"background": 0} | {f"organ {value}": value for value in range(1, LABELS + 1)}
    return import_model(write_model(tmp_path / "results", plans, {**DATASET, "labels": labels}))


def segmented(card: Card) -> Segmentation:
    shape = (24, 40, 44)
    voxels = np.random.default_rng(0).normal(100, 200, shape).astype(np.float32)
    options = InferenceOptions("cpu", "float32", mirror=True, confidence=True, openvino=False)
    return Segmenter(card, options).segment([Volume(voxels, Geometry(shape, (1.4, 1.7, 2.0)))])


def test_the_labels_are_those_of_layers_in_their_order_in_less_memory(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = segmented(card)
    monkeypatch.setattr(linear_head, "LEAST_RATIO", 1000)
    expected = segmented(card)
    assert found.confidence is not None and expected.confidence is not None
    assert len(np.unique(expected.voxels)) > 3
    assert (found.voxels == expected.voxels).mean() > 0.9999
    assert np.abs(found.confidence.astype(int) - expected.confidence).max() <= 1
    assert found.provenance["memory_estimate_mb"] < expected.provenance["memory_estimate_mb"]


def test_both_parts_of_a_network_give_its_logits_and_share_its_parameters(card: Card) -> None:
    network = build(card.network, card.network_arguments).eval()
    (body,), head = linear_head.split((network,))
    assert head is not None and (head.channels, head.outputs) == (4, LABELS + 1)
    tile = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(head(body(tile)), network(tile))
    parameters = {id(parameter) for parameter in network.parameters()}
    assert {id(parameter) for parameter in body.parameters()} < parameters


def test_networks_stay_whole_where_nothing_is_saved_or_there_are_several(card: Card) -> None:
    network = build(card.network, card.network_arguments).eval()
    few = build(card.network, {**card.network_arguments, "classes": 7}).eval()
    for networks in ((few,), (network, network)):
        assert linear_head.split(networks) == (networks, None)


def test_probabilities_are_added_up_after_the_last_layer(card: Card) -> None:
    probabilities = replace(card, inference=replace(card.inference, average="probabilities"))
    less, more = (segmented(each).provenance["memory_estimate_mb"] for each in (card, probabilities))
    assert less < more
