"""UNETR++ beyond its golden vectors: names of shared weights, the one patch size, heads, training, half precision."""

from __future__ import annotations

import pytest
import torch
from LightSegLib.core.errors import ModelError
from LightSegLib.models.matching import load_state
from LightSegLib.networks import build
from LightSegLib.networks.unetrpp import UNETRPP, PairedAttention, TransformerBlock
from reference_weights import fill
from torch import nn

PATCH = (16, 32, 32)
VARIANTS = {"shared": (1, True), "separate": (2, True), "matrix": (1, False)}


def small(projection: str) -> UNETRPP:
    """A variant with its published arguments but for a smaller patch."""
    residual_units, output_projection = VARIANTS[projection]
    arguments = {
        "in_channels": 1,
        "classes": 3,
        "patch_size": list(PATCH),
        "stem_stride": [1, 4, 4],
        "projection": projection,
        "residual_units": residual_units,
        "output_projection": output_projection,
    }
    network = build("unetrpp", arguments)
    assert isinstance(network, UNETRPP)
    return network.eval()


def filled(module: nn.Module) -> nn.Module:
    weights = fill({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}, seed=1)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return module.eval()


def test_a_shared_projection_is_kept_once_and_found_under_both_names() -> None:
    network = small("shared")
    block = "decoder4.decoder_block.0.2.epa_block"
    assert f"{block}.F.weight" in network.state_dict()
    assert not any(".E." in name for name in network.state_dict())
    assert network.canonical_key(f"{block}.E.weight") == f"{block}.F.weight"
    assert network.canonical_key(f"{block}.E.bias") == f"{block}.F.bias"
    for name in network.state_dict():
        assert network.canonical_key(name) == name


def test_of_two_values_of_a_shared_projection_the_second_counts() -> None:
    """The authors' loader copies E and then F into the one layer."""
    network = small("shared")
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    published = {}
    for name, tensor in own.items():
        if ".F." in name:
            published[name.replace(".F.", ".E.")] = torch.zeros_like(tensor)
        published[name] = tensor + 1
    load_state(network, published, "synapse.model")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, own[name] + 1)


@pytest.mark.parametrize("projection", ["separate", "matrix"])
def test_no_other_projection_has_a_second_name(projection: str) -> None:
    network = small(projection)
    for name in [*network.state_dict(), "unetr_pp_encoder.stages.0.0.epa_block.E.weight"]:
        assert network.canonical_key(name) == name


def test_deep_supervision_is_off_until_asked_for() -> None:
    network = small("shared")
    volume = torch.randn(2, 1, *PATCH, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = network(volume)
        assert isinstance(logits, torch.Tensor) and logits.shape == (2, 3, *PATCH)
        network.deep_supervision = True
        heads = network(volume)
    assert [tuple(head.shape) for head in heads] == [(2, 3, *PATCH), (2, 3, 16, 8, 8), (2, 3, 8, 4, 4)]
    assert torch.equal(heads[0], logits)


def test_another_patch_size_is_refused_with_the_right_one() -> None:
    with pytest.raises(ValueError, match="exactly 16 x 32 x 32 voxels, not 32 x 32 x 32"):
        small("matrix")(torch.zeros(1, 1, 32, 32, 32))


def test_an_unknown_projection_in_a_card_is_an_error_of_the_model() -> None:
    with pytest.raises(ModelError, match="no projection 'linear'"):
        UNETRPP(1, 2, PATCH, (1, 4, 4), "linear", 1, True)


@pytest.mark.parametrize("projection", list(VARIANTS))
def test_every_parameter_of_every_variant_learns(projection: str) -> None:
    network = small(projection).train()
    network.deep_supervision = True
    for head in network(torch.randn(1, 1, *PATCH)):
        head.square().mean().backward(retain_graph=True)
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []


def test_batch_statistics_are_those_of_training_and_not_of_the_patch() -> None:
    """A patch's neighbors in the batch change nothing."""
    block = filled(TransformerBlock(60, 16, 8, "separate", 2, True))
    first, second = torch.randn(2, 1, 16, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(block(torch.cat((first, second)))[:1], block(first), atol=1e-5)


@pytest.mark.parametrize("projection", list(VARIANTS))
def test_paired_attention_is_what_the_paper_s_formulas_say(projection: str) -> None:
    """Each head by itself in float64, straight from the formulas and in the layout that the checkpoints need."""
    tokens, channels, heads = 30, 16, 4
    output_projection = VARIANTS[projection][1]
    attention = filled(PairedAttention(tokens, channels, 6, projection, output_projection)).double()
    assert isinstance(attention, PairedAttention)
    x = torch.randn(1, tokens, channels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = dict(attention.named_parameters())
    q, k, v_channel, v_spatial = (weights["qkvv.weight"] @ x[0].T).reshape(4, heads, channels // heads, tokens)

    by_channel, spatial = [], []
    for head in range(heads):
        if projection == "matrix":
            keys, values = k[head] @ weights["EF"], v_spatial[head] @ weights["EF"]
        else:
            first = "E" if projection == "separate" else "F"
            keys = k[head] @ weights[f"{first}.weight"].T + weights[f"{first}.bias"]
            values = v_spatial[head] @ weights["F.weight"].T + weights["F.bias"]
        unit_q = q[head] / q[head].norm(dim=1, keepdim=True)
        unit_k = k[head] / k[head].norm(dim=1, keepdim=True)
        among_channels = torch.softmax(unit_q @ unit_k.T * weights["temperature"][head], dim=1)
        by_channel.append(among_channels @ v_channel[head])
        among_tokens = torch.softmax(unit_q.T @ keys * weights["temperature2"][head], dim=1)
        spatial.append(among_tokens @ values.T)
    xc = torch.cat(by_channel).T
    xs = torch.stack(spatial, dim=1).permute(2, 1, 0).reshape(tokens, channels)  # [N, heads, d] -> [d, heads, N]
    if output_projection:
        xs = xs @ weights["out_proj.weight"].T + weights["out_proj.bias"]
        xc = xc @ weights["out_proj2.weight"].T + weights["out_proj2.bias"]
    expected = torch.cat((xs, xc), dim=1) if output_projection else xc + xs
    assert torch.allclose(attention(x)[0], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_costs_a_block_two_roundings(dtype: torch.dtype) -> None:
    """That is 2 x 2^-7 of the largest output in bfloat16, and 2 x 2^-10 in float16."""
    block = filled(TransformerBlock(120, 32, 24, "shared", 1, True))
    grid = torch.randn(2, 32, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = block(grid)
        with torch.autocast("cpu", dtype):
            rounded = block(grid).float()
    assert (rounded - exact).abs().max() <= 2 * torch.finfo(dtype).eps * exact.abs().max()
