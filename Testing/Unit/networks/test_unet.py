"""nnU-Net's U-Nets against the outputs of the package that nnU-Net itself uses, on small networks of each kind.

Their files in Data/reference were made with dynamic-network-architectures 0.4.4 as those of the published networks
were; `source` has the arguments in nnU-Net's own words. Two of the networks have dropouts, which shift the numbers in
nnU-Net's keys.
"""

from __future__ import annotations

import pytest
import torch
from LightSegLib.core.errors import ModelError
from LightSegLib.models.matching import load_state
from LightSegLib.networks import build
from reference_networks import Reference
from torch import Tensor, nn

NAMES = [
    "plain_conv_unet_anisotropic",
    "plain_conv_unet_2d",
    "plain_conv_unet_batch_norm",
    "plain_conv_unet_silu",
    "plain_conv_unet_gelu",
    "residual_encoder_unet_anisotropic",
    "residual_encoder_unet_2d",
    "residual_encoder_unet_bottleneck",
]


def loaded(reference: Reference) -> nn.Module:
    """The network with the reference's weights under all of nnU-Net's keys, loaded strictly."""
    network = build(reference.facts["network"], reference.facts["arguments"]).eval()
    load_state(network, reference.state(), "the reference")
    return network


@pytest.mark.parametrize("name", NAMES)
def test_every_head_computes_what_nnunets_network_computes(name: str) -> None:
    reference = Reference(name)
    network = loaded(reference)
    network.deep_supervision = True  # type: ignore[assignment]
    with torch.inference_mode():
        reference.check(network(reference.input()))


@pytest.mark.parametrize("name", NAMES)
def test_every_key_and_every_tensor_of_nnunets_network_has_its_place(name: str) -> None:
    """Hundreds of keys name some dozens of tensors; each of these is kept once, and none is left over."""
    reference = Reference(name)
    network = build(reference.facts["network"], reference.facts["arguments"])
    keys, kept = reference.state(), network.state_dict()
    assert {network.canonical_key(key) for key in keys} == set(kept)
    assert len(keys) - len(reference.arrays["tied"]) == len(kept)
    assert sum(parameter.numel() for parameter in network.parameters()) == reference.facts["parameters"]


@pytest.mark.parametrize("name", ["plain_conv_unet_anisotropic", "residual_encoder_unet_2d"])
def test_without_deep_supervision_the_finest_head_is_the_result_and_the_others_stay_idle(name: str) -> None:
    reference = Reference(name)
    network = loaded(reference)
    for head in list(network.decoder.seg_layers)[:-1]:
        head.register_forward_pre_hook(lambda *_: pytest.fail("a coarser head was computed"))
    with torch.inference_mode():
        logits = network(reference.input())
    assert isinstance(logits, Tensor)
    difference = (logits - torch.from_numpy(reference.arrays["out0"])).abs().max()
    assert difference <= 5 * reference.facts["heads"][0]["noise"]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_learns_through_its_inplace_activations(name: str) -> None:
    """Training needs every gradient; an activation that overwrote what backward needs would raise."""
    reference = Reference(name)
    network = build(reference.facts["network"], reference.facts["arguments"])
    network.deep_supervision = True  # type: ignore[assignment]
    sum(head.square().mean() for head in network(reference.input())).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", ["plain_conv_unet_2d", "residual_encoder_unet_2d"])
def test_a_network_of_two_dimensions_takes_single_slices_of_a_volume(name: str) -> None:
    reference = Reference(name)
    network = loaded(reference)
    with torch.inference_mode():
        of_slices = network(reference.input().unsqueeze(2))
        network.deep_supervision = True  # type: ignore[assignment]
        heads = network(reference.input().unsqueeze(2))
    reference.check([head.squeeze(2) for head in heads])
    assert of_slices.shape == (*heads[0].shape[:2], 1, *heads[0].shape[3:])
    assert torch.equal(of_slices, heads[0])


def test_a_patch_that_the_strides_do_not_divide_is_refused() -> None:
    reference = Reference("plain_conv_unet_anisotropic")
    with pytest.raises(ValueError, match=r"multiples of 2 x 4 x 4 voxels, not 6 x 16 x 10\. Correct patch_size"):
        loaded(reference)(reference.input()[..., :10])
    with pytest.raises(ValueError, match="multiples of"):  # two slices are no patch of a network of one
        loaded(Reference("plain_conv_unet_2d"))(torch.zeros(1, 1, 2, 16, 16))


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("plain_conv_unet", {"norm": "group"}, "the norm 'group' is not one of instance, batch"),
        ("residual_encoder_unet", {"norm": "group"}, "the norm 'group' is not one of instance, batch"),
        (
            "plain_conv_unet",
            {"activation": "prelu"},
            "the activation 'prelu' is not one of leaky_relu, relu, silu, gelu",
        ),
        ("plain_conv_unet", {"strides": [[1, 1], [2, 2]]}, "strides must be an integer or a list of 3"),
        ("plain_conv_unet", {"kernel_sizes": [[3] * 4] * 3}, "must all have two axes or all have three axes"),
        ("plain_conv_unet", {"kernel_sizes": [[3, 3], [3, 3], [3, 3, 3]]}, "must all have two axes or all have three"),
        ("plain_conv_unet", {"n_conv_per_stage_decoder": [2] * 3}, "n_conv_per_stage_decoder must be .* list of 2"),
        ("residual_encoder_unet", {"bottleneck_channels": [4]}, "bottleneck_channels must be .* list of 3"),
        ("plain_conv_unet", {"features_per_stage": [4]}, "features_per_stage must be a list of at least 2"),
        ("plain_conv_unet", {"features_per_stage": 4}, "int"),
        ("plain_conv_unet", {"features": [4]}, "features"),
        ("plain_conv_unet", {"n_conv_per_stage": [2, "2", 2]}, "str"),
        ("plain_conv_unet", {"n_conv_per_stage": [2, 0, 2]}, "at least one"),
        ("plain_conv_unet", {"strides": [1, 0, 2]}, "must be at least 1"),
        ("plain_conv_unet", {"norm_eps": -1e-5}, "must not be negative"),
        ("plain_conv_unet", {"negative_slope": "0.01"}, "str"),
        ("residual_encoder_unet", {"nonlin_first": True}, "nonlin_first"),
    ],
)
def test_arguments_that_make_no_network_are_refused(name: str, change: dict[str, object], reason: str) -> None:
    """In two sentences: what is wrong, and what to do about it."""
    arguments = Reference(f"{name}_2d").facts["arguments"]
    with pytest.raises(
        ModelError,
        match=rf"do not fit the network '{name}' \(.*{reason}.*\)\. Correct network_arguments in the card\.$",
    ):
        build(name, arguments | change)
