"""Every published network accepts its authors' weights and computes what their own code computes.

Testing/Data/reference holds what the authors' code made, in float32 on a CPU, of a random volume and of the weights
of reference_weights.py: a part of every output's voxels, statistics of the whole output, and how far the same code
in float64 is away, which is its rounding error. The strides between the voxels are odd, so that voxels of every
phase of the transposed convolutions are among them.
"""

from __future__ import annotations

import pytest
import torch
from LightSegLib.networks import build
from LightSegLib.networks.mamba import Mamba
from LightSegLib.networks.unetrpp import PairedAttention, TransformerBlock, shared_key
from reference_networks import Reference, load

BLOCKS = {block.__name__: block for block in (Mamba, PairedAttention, TransformerBlock)}


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
