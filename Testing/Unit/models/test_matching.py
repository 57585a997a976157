"""Weights go into a network whole, or the message names what does not fit and whose weights they are."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import torch
from LightSegLib.core.errors import ModelError
from LightSegLib.models.matching import load_state
from LightSegLib.networks import build
from torch import Tensor, nn


class Plain(nn.Module):
    """An encoder that halves the size, a decoder, and two heads as deep supervision has them."""

    def __init__(self, in_channels: int = 1, classes: int = 3, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv3d(in_channels, width, 3, padding=1)
        self.norm = nn.BatchNorm3d(width)
        self.down = nn.Conv3d(width, width, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose3d(width, width, 2, stride=2)
        self.heads = nn.ModuleList((nn.Conv3d(width, classes, 1), nn.ConvTranspose3d(width, classes, 2, stride=2)))


class Aliased(nn.Module):
    """Its authors store the one weight as `layer.weight` and as `again.weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2, bias=False)

    @staticmethod
    def canonical_key(key: str) -> str:
        return key.replace("again.", "layer.")


def state_of(network: nn.Module, seed: int = 5) -> dict[str, Tensor]:
    """Other values for every parameter and buffer of a network."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(tensor.shape, generator=generator).to(tensor.dtype) + (not tensor.is_floating_point()) * 7
        for key, tensor in network.state_dict().items()
    }


def table(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def refusal(network: nn.Module, state: Mapping[str, Tensor], **candidates: nn.Module) -> str:
    """The message for weights that do not fit; the network must be as it was before."""
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_state(network, state, "c.pth", lambda: {title: table(model) for title, model in candidates.items()})
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    return str(caught.value)


# --- weights that fit --------------------------------------------------------------------------


def test_every_parameter_and_buffer_comes_from_the_file() -> None:
    network = Plain()
    state = state_of(network)
    load_state(network, state, "c.pth", candidates=lambda: pytest.fail("nothing was wrong"))
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())


def test_only_the_count_of_training_batches_may_be_absent() -> None:
    network = Plain()
    state = state_of(network)
    del state["norm.num_batches_tracked"]
    load_state(network, state, "c.pth")
    assert torch.equal(network.norm.running_var, state["norm.running_var"])
    del state["norm.running_var"]
    assert "Missing: norm.running_var" in refusal(network, state)


def test_the_authors_second_names_lead_to_the_same_tensor() -> None:
    network, weight = Aliased(), torch.arange(8.0).reshape(2, 4)
    load_state(network, {"layer.weight": weight, "again.weight": weight}, "c.pth")
    assert torch.equal(network.layer.weight, weight)
    load_state(network, {"again.weight": weight + 1}, "c.pth")
    assert torch.equal(network.layer.weight, weight + 1)
    load_state(network, {"layer.weight": weight, "again.weight": weight + 2}, "c.pth")  # as torch does: the last one
    assert torch.equal(network.layer.weight, weight + 2)


# --- weights that do not -----------------------------------------------------------------------


def test_second_names_that_contradict_each_other_are_refused() -> None:
    message = refusal(Aliased(), {"layer.weight": torch.ones(2, 4), "again.weight": torch.ones(2, 5)})
    assert message.endswith("\nOther shape: again.weight (2 x 5, in the model 2 x 4)")
    message = refusal(Aliased(), {"layer.weight": torch.ones(2, 5), "again.weight": torch.ones(2, 5)})
    assert message.endswith("\nOther shape: layer.weight (2 x 5, in the model 2 x 4)")


def test_a_key_that_the_network_does_not_know_is_never_passed_over() -> None:
    network = Plain()
    message = refusal(network, {**state_of(network), "ema_decay": torch.tensor(0.9)})
    assert message == (
        "The weights in c.pth do not fit the network Plain: missing: 0, unexpected: 1, with another shape: 0. "
        "Use weights that were made for this model.\nUnexpected: ema_decay"
    )


def test_the_first_five_of_each_kind_are_listed() -> None:
    network = Plain(width=8)
    state = {key.replace("first.", "stem."): tensor for key, tensor in state_of(Plain(width=4)).items()}
    state |= {f"extra.{n}": torch.ones(1) for n in range(9)}
    state["norm.num_batches_tracked"] = torch.ones(2)
    message = refusal(network, state)
    first, missing, unexpected, other = message.split("\n")
    # of another shape: five of the norm, two each of `down` and `up`, and the heads' weights but not their biases
    assert "c.pth" in first and "missing: 2, unexpected: 11, with another shape: 11. Use weights" in first
    assert missing == "Missing: first.weight, first.bias"
    assert unexpected == "Unexpected: stem.weight, stem.bias, extra.0, extra.1, extra.2, and 6 more"
    assert other == (
        "Other shape: norm.weight (4, in the model 8), norm.bias (4, in the model 8), "
        "norm.running_mean (4, in the model 8), norm.running_var (4, in the model 8), "
        "norm.num_batches_tracked (2, in the model one number), and 6 more"
    )


@pytest.mark.parametrize("family", ["plain", "lightmedseg"])
def test_another_number_of_classes_or_channels_is_reported_in_words(family: str) -> None:
    def made(channels: int, classes: int) -> nn.Module:
        arguments = {"in_channels": channels, "classes": classes}
        return Plain(**arguments) if family == "plain" else build(family, arguments)

    message = refusal(made(1, 14), state_of(made(1, 3)))
    assert f"the network {type(made(1, 2)).__name__}: they have 3 outputs, the model has 14. Use" in message
    message = refusal(made(4, 3), state_of(made(1, 3)))
    assert ": they have 1 input channels, the model has 4. Use" in message


def test_a_head_without_bias_counts_its_outputs_on_the_right_axis() -> None:
    for layer in (nn.Conv3d, nn.ConvTranspose3d):
        message = refusal(
            nn.Sequential(layer(8, 14, 1, bias=False)), state_of(nn.Sequential(layer(8, 3, 1, bias=False)))
        )
        assert "they have 3 outputs, the model has 14" in message


def test_other_widths_inside_are_not_taken_for_other_classes() -> None:
    narrow, wide = (nn.Sequential(nn.Conv3d(1, n, 1), nn.Conv3d(n, 2, 1)) for n in (4, 8))
    assert "missing: 0, unexpected: 0, with another shape: 3" in refusal(wide, state_of(narrow))
    flat, deep = nn.Sequential(nn.Conv2d(1, 2, 3)), nn.Sequential(nn.Conv3d(1, 2, 3))
    assert "0.weight (2 x 1 x 3 x 3, in the model 2 x 1 x 3 x 3 x 3)" in refusal(deep, state_of(flat))


# --- whose weights they are --------------------------------------------------------------------


def test_the_model_that_the_weights_were_made_for_is_named() -> None:
    message = refusal(Aliased(), state_of(Plain()), brain=Plain(), heart=Plain(classes=4), other=Aliased())
    assert re.search(r"; they fit 'brain'\. Use weights .*, or use these with that model\.\n", message)


def test_models_that_fit_equally_well_are_all_named() -> None:
    message = refusal(Plain(classes=5), state_of(Plain()), brain=Plain(), heart=Plain(), liver=Plain(classes=5))
    assert "they have 3 outputs, the model has 5; they fit 'brain' or 'heart'. " in message


def test_weights_that_fit_nearly_look_like_a_model() -> None:
    state = state_of(Plain())
    del state["norm.num_batches_tracked"]  # which every model may lack
    assert "; they fit 'brain'. " in refusal(Aliased(), state, brain=Plain())
    del state["norm.running_var"]  # 13 of 14 tensors
    assert "; they look like those of 'brain'. " in refusal(Aliased(), state, brain=Plain())
    assert "brain" not in refusal(Aliased(), {**state, "a": torch.ones(1), "b": torch.ones(2)}, brain=Plain())  # of 15
    del state["norm.running_mean"]  # 12 of 14
    assert "brain" not in refusal(Aliased(), state, brain=Plain())


def test_the_model_at_hand_is_not_named_as_another() -> None:
    network = Plain()
    state = {**state_of(network), "extra": torch.ones(1)}
    assert "look like" not in refusal(network, state, itself=Plain())


def test_second_names_do_not_hide_whose_weights_they_are() -> None:
    """One tensor under three names counts once, as in nnU-Net's files."""
    state = state_of(Plain())
    state |= {f"decoder.{key}": tensor for key, tensor in state.items()}
    state |= {f"all.{key}": tensor for key, tensor in state.items()}
    assert "; they fit 'brain'. " in refusal(Aliased(), state, brain=Plain())
