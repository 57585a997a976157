"""What the first run of a model does only once: little is computed to choose a backend, and none of it twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from LightSegLib.inference.backends import accelerate as module
from LightSegLib.inference.backends import backend_choice, openvino_runner
from LightSegLib.inference.backends.accelerate import Model, choose_backend
from LightSegLib.inference.backends.multiply_adds import multiply_adds
from LightSegLib.networks import build
from torch import Tensor, nn

CPU = torch.device("cpu")
UNET = {
    "in_channels": 1,
    "classes": 3,
    "features_per_stage": [4, 6],
    "kernel_sizes": 3,
    "strides": [1, 2],
    "n_conv_per_stage": 2,
    "n_conv_per_stage_decoder": 1,
}
PATCH = (16, 24, 32)


class Seen(nn.Module):
    """A network that remembers the voxels of its inputs; `only`: the one size that it takes."""

    def __init__(self, network: nn.Module, only: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.network, self.only = network.eval(), only
        self.voxels: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.only and tuple(map(int, x.shape[2:])) != self.only:
            raise ValueError("another size")
        if x.device.type == "cpu":
            self.voxels.append(int(x[0, 0].numel()))
        return self.network(x)


class LooksAtSize(nn.Module):
    """Adds the length of the input's first side, as a number that a trace keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + int(x.shape[2])


def unet(family: str = "plain_conv_unet") -> nn.Module:
    torch.manual_seed(0)
    blocks = {"n_blocks_per_stage": 2} if family.startswith("residual") else {"n_conv_per_stage": 2}
    arguments = {name: value for name, value in UNET.items() if name != "n_conv_per_stage"} | blocks
    return build(family, arguments).eval()


@pytest.fixture
def openvino(without_openvino: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO alone to choose, and a folder of its own."""
    monkeypatch.setattr(openvino_runner, "installed", lambda: "of any version")
    monkeypatch.setattr(backend_choice, "_instructions", lambda: ["AVX2"])
    monkeypatch.setattr(backend_choice, "LITTLE_WORK", 1)
    monkeypatch.setattr(module, "user_folder", lambda: tmp_path)
    monkeypatch.setattr(module, "fuse_modules", lambda network, dtype: network)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


@pytest.mark.parametrize("family", ["plain_conv_unet", "residual_encoder_unet"])
def test_a_conversion_by_small_inputs_has_the_bits_of_one_by_the_whole_input(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Seen(unet(family))
    x = torch.randn(1, 1, *PATCH, generator=torch.Generator().manual_seed(1))
    found = openvino_runner.compiled(network, x.shape, "OpenVINO float32", None, "name", 1)(x)
    assert sum(network.voxels) * 8 < x.numel()
    monkeypatch.setattr(openvino_runner, "_small_trace", lambda *_: None)
    expected = openvino_runner.compiled(network, x.shape, "OpenVINO float32", None, "name", 1)(x)
    assert torch.equal(found, expected)
    with torch.inference_mode():
        torch.testing.assert_close(found, network(x), rtol=0, atol=1e-4)


def test_a_network_that_looks_at_the_size_is_traced_with_the_whole_input() -> None:
    network, x = LooksAtSize().eval(), torch.zeros(1, 1, *PATCH)
    found = openvino_runner.compiled(network, x.shape, "OpenVINO float32", None, "name", 1)(x)
    with torch.inference_mode():
        torch.testing.assert_close(found, network(x), rtol=1e-5, atol=1e-5)
        assert float(found[0, 0, 0, 0, 0]) == pytest.approx(16 + float(network.layer.bias[0]), abs=1e-3)


def test_a_network_of_one_size_is_converted_and_checked_at_that_size(
    openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_CHECKED", 1)
    network = Seen(nn.Conv3d(1, 2, 1), only=PATCH)
    assert choose_backend(Model([network], 1, PATCH, "a" * 64), CPU, "auto", True) == "OpenVINO float32"
    assert set(network.voxels) == {np.prod(PATCH)}


def test_the_check_computes_a_part_of_a_tile_and_the_next_process_nothing(
    openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_CHECKED", 1)
    network = Seen(unet())
    model = Model([network], 1, PATCH, "b" * 64)
    chosen = choose_backend(model, CPU, "auto", True)
    assert sum(network.voxels) < 0.3 * np.prod(PATCH)
    network.voxels.clear()
    assert choose_backend(Model([network], 1, PATCH, "b" * 64), CPU, "auto", True) == chosen
    assert sum(network.voxels) <= np.prod(PATCH) / 64, "what is counted to see that the model is large"


def test_a_small_tile_is_checked_as_it_is(openvino: None) -> None:
    network = Seen(nn.Conv3d(1, 2, 1))
    choose_backend(Model([network], 1, PATCH, "c" * 64), CPU, "auto", True)
    assert np.prod(PATCH) in network.voxels


def test_a_model_is_large_by_the_count_of_a_part_or_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution of 2 kernels of 27 voxels: 54 multiply-adds for each voxel."""
    network, shape, work = nn.Conv3d(1, 2, 3, padding=1), (1, 1, 64, 128, 64), 54 * 64 * 128 * 64
    assert multiply_adds(network, shape) == work
    for limit, expected in ((work // 3, True), (work, True), (work + 1, False)):
        monkeypatch.setattr(backend_choice, "LITTLE_WORK", limit)
        assert backend_choice.is_large(network, shape) is expected
    monkeypatch.setattr(backend_choice, "LITTLE_WORK", work // 3)
    monkeypatch.setattr(backend_choice, "multiply_adds", None)  # is not needed where the part is clear
    assert backend_choice.is_large(network, shape)
    monkeypatch.setattr(backend_choice, "LITTLE_WORK", 3 * work)
    assert not backend_choice.is_large(network, shape)


def test_attention_that_is_little_for_a_part_is_counted_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each voxel with each other: a part of 8 x 8 x 8 voxels of 32 x 32 x 32 takes 1/4096 of the multiply-adds."""

    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2)
            return torch.bmm(tokens, torch.bmm(tokens.transpose(1, 2), tokens)).view_as(x)

    work = 2 * (32**3) ** 2
    for limit, expected in ((work, True), (work + 1, False)):
        monkeypatch.setattr(backend_choice, "LITTLE_WORK", limit)
        assert backend_choice.is_large(Attention(), (1, 1, 32, 32, 32)) is expected


def test_what_a_network_adds_to_a_part_does_not_make_it_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of 20 voxels a side is padded to 32: 64 times its work would be 4.1 times that of 80 voxels a side."""

    class Padding(nn.Conv3d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(nn.functional.pad(x, [n for side in x.shape[:1:-1] for n in (0, -side % 16)]))

    network, work = Padding(1, 2, 1), 2 * 80**3
    assert multiply_adds(network, (1, 1, 20, 20, 20)) == 2 * 32**3
    for limit, expected in ((work, True), (1.5 * work, False)):
        monkeypatch.setattr(backend_choice, "LITTLE_WORK", limit)
        assert backend_choice.is_large(network, (1, 1, 80, 80, 80)) is expected


def test_openvino_has_found_numpy_before_threads_use_it() -> None:
    """Else the second run of a model could stop forever: its first tiles are computed in two threads at a time."""
    program = """
import openvino, torch
tensors = []
made = openvino.Tensor
openvino.Tensor = lambda *values: tensors.append(made(*values))
from LightSegLib.inference.backends.openvino_runner import compiled
compiled(torch.nn.Conv3d(1, 2, 1).eval(), (1, 1, 8, 8, 8), "OpenVINO float32", None, "name", 2)
print(len(tensors))
"""
    library = Path(__file__).resolve().parents[3] / "LightSeg"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=library, check=True)
    assert done.stdout.strip() == "1"
