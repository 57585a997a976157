"""The work of a network, beside what PyTorch's own counter counts, which takes seconds to load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from LightSegLib.catalog.lookup import find_card
from LightSegLib.inference.backends.multiply_adds import counted
from LightSegLib.networks import build
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"
OF_EACH_NETWORK = [
    "hippocampus-mr-lightmedseg",
    "wholebody-tumor-ct-flare24",
    "brain-tumor-mr-slim-unetrv2",
    "abdomen-ct-unetrpp",
    "brain-tissue-tiny",
    "hippodeep",
]


@pytest.mark.parametrize("model", OF_EACH_NETWORK)
def test_every_network_takes_what_pytorch_counts(model: str) -> None:
    card = find_card(model)
    network = build(card.network, card.network_arguments).to("meta")
    tile = torch.empty(1, len(card.channels), *card.inference.patch_size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(tile)
    assert 2 * counted(network, tile).all == counter.get_total_flops()


def test_all_kinds_of_products_are_counted() -> None:
    """By hand: 4 x 6 x 5 for each of the first seven."""

    class Products(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a, b = x, torch.zeros(6, 5)
            a @ b
            torch.mm(a, b)
            a.matmul(b)
            torch.addmm(torch.zeros(5), a, b)
            nn.functional.linear(a, b.T)
            torch.bmm(a[None], b[None])
            torch.einsum("ij, jk -> ik", a, b)
            query, keys = torch.zeros(1, 2, 7, 3), torch.zeros(1, 2, 8, 3)
            return nn.functional.scaled_dot_product_attention(query, keys, keys)

    work = counted(Products(), torch.zeros(4, 6))
    assert (work.convolutions, work.products) == (0, 7 * 4 * 6 * 5 + 2 * 2 * 7 * 8 * 3)


def test_counting_loads_no_compiler() -> None:
    """Every process that chooses a backend counts."""
    script = (
        f"import sys; sys.path.insert(0, {str(LIBRARY)!r}); import torch\n"
        "from LightSegLib.inference.backends.multiply_adds import counted\n"
        "print(counted(torch.nn.Conv3d(1, 2, 3), torch.zeros(1, 1, 8, 8, 8)).all, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(2 * 27 * 6**3), "False"]
