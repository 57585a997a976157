"""nnU-Net's U-Nets against the outputs of the package that nnU-Net itself uses, on small networks of each kind.

The vectors in Data/reference were computed with dynamic-network-architectures 0.4.4 from the weights that
`reference_weights.fill` draws; `noise` is how far its float32 was from its own float64.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from LightSegLib.errors import ModelError
from LightSegLib.networks import build
from LightSegLib.weights.matching import load_state
from reference_weights import fill
from torch import nn

REFERENCE = Path(__file__).parent.parent / "Data" / "reference"
NAMES = [f"{family}_unet_{kind}" for family in ("plain_conv", "residual_encoder") for kind in ("anisotropic", "2d")]


def reference(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts (arguments, keys, shapes, seeds) and arrays of one reference network."""
    arrays = dict(np.load(REFERENCE / f"{name}.npz"))
    return json.loads(arrays.pop("facts").tobytes()), arrays


def loaded(facts: dict[str, Any]) -> nn.Module:
    """The network with the reference's weights under all of nnU-Net's keys, loaded strictly."""
    network = build(facts["family"], facts["arguments"]).eval()
    state = fill(facts["state_dict"], facts["weight_seed"], facts["tied"])
    load_state(network, {key: torch.from_numpy(values) for key, values in state.items()}, "the reference")
    return network


@pytest.mark.parametrize("name", NAMES)
def test_every_head_computes_what_nnunets_network_computes(name: str) -> None:
    facts, arrays = reference(name)
    network = loaded(facts)
    network.deep_supervision = True
    random = np.random.default_rng(facts["input_seed"])
    image = torch.from_numpy(random.standard_normal(facts["input_shape"]).astype(np.float32))
    with torch.inference_mode():
        heads = network(image)
    assert len(heads) == len(arrays) // 2 >= 2
    for number, head in enumerate(heads):
        difference = np.abs(head.numpy() - arrays[f"out{number}"]).max()
        assert difference <= 5 * arrays[f"noise{number}"], f"head {number}"


def test_every_key_and_every_tensor_of_nnunets_network_has_its_place() -> None:
    """Hundreds of keys name some dozens of tensors; each of these is a parameter here, and none is left over."""
    for name in NAMES:
        facts, _ = reference(name)
        network = build(facts["family"], facts["arguments"])
        distinct = set(facts["state_dict"]) - set(facts["tied"])
        assert {network.canonical_key(key) for key in facts["state_dict"]} == set(network.state_dict())
        assert len(distinct) == len(network.state_dict()) < len(facts["state_dict"])


def test_without_deep_supervision_there_is_one_result_at_full_resolution() -> None:
    facts, arrays = reference("residual_encoder_unet_anisotropic")
    image = torch.zeros(facts["input_shape"])
    with torch.inference_mode():
        assert loaded(facts)(image).shape == arrays["out0"].shape


def test_a_network_learns_through_its_inplace_activations() -> None:
    """Training needs every gradient; an activation that overwrote what backward needs would raise."""
    facts, _ = reference("residual_encoder_unet_2d")
    network = build(facts["family"], facts["arguments"])
    network(torch.randn(1, 1, 20, 24)).square().mean().backward()
    unused = {f"decoder.seg_layers.0.{kind}" for kind in ("weight", "bias")}  # the coarser head, not computed
    assert {name for name, parameter in network.named_parameters() if parameter.grad is None} == unused


@pytest.mark.parametrize(
    "change", [{"strides": [[1, 1], [2, 2]]}, {"kernel_sizes": 3}, {"features": [4]}, {"kernel_sizes": [[3] * 4] * 3}]
)
def test_arguments_that_make_no_network_are_refused(change: dict[str, object]) -> None:
    facts, _ = reference("plain_conv_unet_2d")
    with pytest.raises(ModelError, match=r"do not fit the network 'plain_conv_unet'.*Correct network_arguments"):
        build("plain_conv_unet", facts["arguments"] | change)
