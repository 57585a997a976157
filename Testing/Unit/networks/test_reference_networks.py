"""Every published network accepts its authors' weights and computes what their own code computes.

Testing/Data/reference holds what the authors' code made, in float32 on a CPU, of a random volume and of the weights
of reference_weights.py: a part of every output's voxels, statistics of the whole output, and how far the same code
in float64 is away, which is its rounding error. The strides between the voxels are odd, so that voxels of every
phase of the transposed convolutions are among them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from LightSegLib.networks import build
from LightSegLib.networks.mamba import Mamba
from LightSegLib.networks.unetrpp import PairedAttention, TransformerBlock, shared_key
from reference_weights import fill
from torch import Tensor, nn

FOLDER = Path(__file__).parents[2] / "Data" / "reference"
BLOCKS = {block.__name__: block for block in (Mamba, PairedAttention, TransformerBlock)}


class Reference:
    """The facts <name>.json and the arrays <name>.npz of a network or a block."""

    def __init__(self, name: str) -> None:
        self.facts: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        with np.load(FOLDER / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)

    def state(self) -> dict[str, Tensor]:
        """The weights under all names that the authors' checkpoints have, in their order."""
        shapes = {}
        for line in self.arrays["keys"]:
            key, _, shape = line.partition(" ")
            shapes[key] = [int(length) for length in shape.split(",") if length]
        tied = dict(line.split(" ") for line in self.arrays.get("tied", ()))
        weights = fill(shapes, self.facts["weight_seed"], tied)
        return {key: torch.from_numpy(array) for key, array in weights.items()}

    def input(self) -> Tensor:
        random = np.random.default_rng(self.facts["input_seed"])
        return torch.from_numpy(random.standard_normal(self.facts["input_shape"]).astype(np.float32))

    def check(self, outputs: list[Tensor]) -> None:
        """Hold every output against the stored voxels and statistics, within five times the rounding error."""
        assert len(outputs) == len(self.facts["heads"])
        for number, (output, head) in enumerate(zip(outputs, self.facts["heads"], strict=True)):
            tolerance = 5 * head["noise"]
            assert list(output.shape) == head["shape"]
            voxels = output[tuple(slice(None, None, stride) for stride in head["stride"])].numpy()
            assert np.abs(voxels - self.arrays[f"out{number}"]).max() <= tolerance

            whole = output.double()
            found = {"mean": whole.mean(), "std": whole.std(correction=0), "min": whole.min(), "max": whole.max()}
            for what, value in found.items():
                assert value.item() == pytest.approx(head[what], abs=tolerance), what
            if "channel_mean" in head:
                means = whole.mean(dim=(0, 2, 3, 4)).numpy()
                assert np.abs(means - head["channel_mean"]).max() <= tolerance


def load(module: nn.Module, state: dict[str, Tensor], canonical_key: Callable[[str], str]) -> None:
    """Every key must have its place and its shape, every place its key; names of one tensor must agree."""
    given: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = canonical_key(key)
        assert name not in given or torch.equal(given[name], tensor), key
        given[name] = tensor
    module.load_state_dict(given, strict=True)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("flare24_unet", marks=pytest.mark.slow),
        "slim_unetrv2_128",
        "slim_unetrv2_96",
        *(
            pytest.param(f"unetrpp_{variant}", marks=pytest.mark.slow)
            for variant in ("synapse", "acdc", "lung", "tumor")
        ),
    ],
)
def test_a_network_computes_what_its_authors_network_computes(name: str) -> None:
    reference = Reference(name)
    network = build(reference.facts["network"], reference.facts["arguments"]).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == reference.facts["parameters"]
    load(network, reference.state(), getattr(network, "canonical_key", str))

    if len(reference.facts["heads"]) > 1:
        network.deep_supervision = True  # type: ignore[assignment]
    with torch.inference_mode():
        outputs = network(reference.input())
    reference.check(outputs if isinstance(outputs, list) else [outputs])


@pytest.mark.parametrize(
    "name",
    [
        "mamba_v3_d48_l512_s64",
        "mamba_v3_d384_l64_s8",
        "unetrpp_epa_synapse",
        "unetrpp_epa_acdc",
        "unetrpp_epa_tumor",
        "unetrpp_block_synapse",
        "unetrpp_block_acdc",
        "unetrpp_block_tumor",
    ],
)
def test_a_block_computes_what_its_authors_block_computes(name: str) -> None:
    reference = Reference(name)
    arguments = reference.facts["arguments"]
    block = BLOCKS[reference.facts["block"]](**arguments).eval()
    load(block, reference.state(), shared_key if arguments.get("projection") == "shared" else str)
    with torch.inference_mode():
        reference.check([block(reference.input())])
