"""Memory of a run, told beforehand: against sums by hand and against what the process really takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from LightSegLib.networks import build
from LightSegLib.pipeline.memory import activations, available
from torch import Tensor, nn

MEGABYTE = 10**6


class Fork(nn.Module):
    """Two convolutions whose results are both needed for the third."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv3d(1, 4, 1), nn.Conv3d(1, 2, 1)
        self.last = nn.Conv3d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat((self.left(x), self.right(x)), dim=1))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_pass_holds_what_is_still_needed(batch: int) -> None:
    """The input, the six channels side by side and the three of the output; the parts were let go when joined."""
    assert activations(Fork(), (batch, 1, 16, 16, 32)) == batch * 16 * 16 * 32 * 4 * (1 + 6 + 3)


def test_a_small_patch_is_measured_as_it_is() -> None:
    """The bundled model's: a smaller one would be padded to it, and the padding counted many times."""
    network = build("lightmedseg", {"in_channels": 1, "classes": 3})
    tile, four = (activations(network, (1, 1, *sides)) for sides in ((32, 48, 32), (64, 96, 32)))
    assert tile < 20e6
    assert 3 * tile < four < 5 * tile


def test_a_network_for_one_size_alone_is_measured_by_shapes() -> None:
    class Fixed(Fork):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[2:] != (16, 16, 16):
                raise ValueError("This network takes 16 x 16 x 16 voxels.")
            return super().forward(x)

    assert activations(Fixed(), (1, 1, 16, 16, 16)) == 16**3 * 4 * 10


def test_a_size_that_the_network_refuses_is_told() -> None:
    unet = {"features_per_stage": [2, 2], "kernel_sizes": 3, "strides": [1, 4], "n_conv_per_stage": 1}
    network = build("plain_conv_unet", unet | {"n_conv_per_stage_decoder": 1, "in_channels": 1, "classes": 2})
    with pytest.raises(ValueError, match="multiples of 4"):
        activations(network, (1, 1, 8, 8, 10))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process does not tell its own peak alone")
def test_the_estimate_is_near_what_a_process_takes() -> None:
    """A U-Net on one patch, in a process of its own: neither half of it nor twice as much."""
    program = """
import re, torch
from pathlib import Path
from LightSegLib.networks import build
from LightSegLib.pipeline.memory import activations
unet = {"in_channels": 1, "classes": 2, "features_per_stage": [16, 32], "kernel_sizes": 1, "strides": [1, 2],
        "n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
network = build("plain_conv_unet", unet).eval()
shape = (1, 1, 96, 128, 128)
estimate = activations(network, shape)
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
with torch.inference_mode():
    network(torch.zeros(shape).contiguous(memory_format=torch.channels_last_3d))
print(estimate, peak() - before)
"""
    library = Path(__file__).resolve().parents[2] / "LightSeg"
    words = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True, cwd=library
    ).stdout.split()
    estimate, taken = map(int, words)
    assert taken / 2 < estimate < taken * 2


def test_the_computer_tells_what_is_left() -> None:
    left = available(torch.device("cpu"))
    assert left is None or left > 100 * MEGABYTE
