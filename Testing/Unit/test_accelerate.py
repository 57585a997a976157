"""The inference form, bfloat16 and OpenVINO: the same labels, checked on a real tile and remembered."""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from LightSegLib.networks import build
from LightSegLib.pipeline import accelerate as module
from LightSegLib.pipeline.accelerate import accelerate, mean_dice
from LightSegLib.pipeline.inference_form import NormInPlace, inference_form
from torch import Tensor, nn

CPU = torch.device("cpu")
UNET = {"in_channels": 2, "classes": 3, "features_per_stage": [4, 6], "n_conv_per_stage_decoder": 1}
PLAIN = UNET | {"kernel_sizes": 3, "strides": [1, 2], "n_conv_per_stage": 2}
FLAT = UNET | {"kernel_sizes": [[3, 3], [3, 3]], "strides": [[1, 1], [2, 2]], "n_conv_per_stage": 2}
RESIDUAL = UNET | {"kernel_sizes": 3, "strides": [1, 2], "n_blocks_per_stage": 2}
NETWORKS = {
    "plain": ("plain_conv_unet", PLAIN, (2, 2, 8, 8, 12)),
    "silu": ("plain_conv_unet", PLAIN | {"activation": "silu"}, (1, 2, 8, 8, 12)),
    "activation first": ("plain_conv_unet", PLAIN | {"nonlin_first": True}, (1, 2, 8, 8, 12)),
    "batch norm": ("plain_conv_unet", PLAIN | {"norm": "batch"}, (2, 2, 8, 8, 12)),
    "two dimensions": ("plain_conv_unet", FLAT, (3, 2, 1, 8, 12)),
    "residual": ("residual_encoder_unet", RESIDUAL, (2, 2, 8, 8, 12)),
    "lightmedseg": ("lightmedseg", {"in_channels": 2, "classes": 3}, (1, 2, 32, 32, 32)),
}


def network(name: str = "plain") -> nn.Module:
    torch.manual_seed(0)
    family, arguments, _ = NETWORKS[name]
    made = build(family, arguments).eval()
    for part in made.modules():  # statistics and weights as training leaves them, not those of a beginning
        if isinstance(part, (nn.BatchNorm3d, nn.InstanceNorm3d, nn.InstanceNorm2d)):
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.uniform_(part.bias, -1, 1)
        if isinstance(part, nn.BatchNorm3d):
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.5, 2)
    return made


def tiles(name: str = "plain") -> Tensor:
    return torch.randn(NETWORKS[name][2], generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder of its own."""
    monkeypatch.setattr(module, "user_folder", lambda: tmp_path / "Nutzer Ö")
    return tmp_path / "Nutzer Ö"


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that computes in bfloat16, and is fast at it: every other tile takes longer."""
    monkeypatch.setattr(module, "native_bfloat16", lambda: True)
    clock = iter([0.0, 10.0, 10.0, 11.0] * 9)
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))


# --- the inference form --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_the_same_and_leaves_the_network_alone(name: str) -> None:
    original, x = network(name), tiles(name)
    kept, state = x.clone(), copy.deepcopy(original.state_dict())
    with torch.inference_mode():
        expected = original(x)
        runner, notices = accelerate([original], CPU, True, lambda: x, None)
        found = runner(x)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    assert (runner.name, notices) == ("float32", [])
    assert torch.equal(x, kept) and all(torch.equal(state[key], value) for key, value in original.state_dict().items())


def test_norms_after_convolutions_work_in_place_and_share_their_weights() -> None:
    original = network()
    form = inference_form(original)
    norms = [part for part in form.modules() if isinstance(part, NormInPlace)]
    assert len(norms) == 5 and not any(isinstance(part, nn.InstanceNorm3d) for part in form.modules())
    assert {p.data_ptr() for p in form.parameters()} <= {p.data_ptr() for p in original.parameters()}


def test_a_network_that_was_run_can_still_be_trained() -> None:
    original, x = network(), tiles()
    runner, _ = accelerate([original], CPU, True, lambda: x, None)
    with torch.inference_mode():
        runner(x)
    original(x).sum().backward()
    assert all(parameter.grad is not None for parameter in original.parameters())


def test_a_large_mean_costs_no_digits() -> None:
    """Intensities around 1000 with a deviation of 1, against float64."""
    norm = nn.InstanceNorm3d(3, affine=True)
    x = torch.randn(1, 3, 30, 40, 50, generator=torch.Generator().manual_seed(2)) + 1000
    expected = nn.functional.instance_norm(x.double()).float()
    with torch.inference_mode():
        torch.testing.assert_close(NormInPlace(norm)(x.clone()), expected, rtol=0, atol=2e-4)


def test_an_ensemble_gives_the_mean_of_its_networks() -> None:
    first, x = network(), tiles()
    second = copy.deepcopy(first)
    with torch.inference_mode():
        for parameter in second.parameters():
            parameter.mul_(1.1)
        expected = (first(x) + second(x)) / 2
        runner, _ = accelerate([first, second], CPU, True, lambda: x, None)
        torch.testing.assert_close(runner(x), expected, rtol=0, atol=1e-5)


# --- bfloat16 ------------------------------------------------------------------------------------


class Confident(nn.Module):
    """Label 1 where the input is positive, by a wide margin."""

    def __init__(self, margin: float = 50.0) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([-margin, margin]).view(2, 1, 1, 1, 1))
            self.layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Delicate(Confident):
    """Label 1 where the input is above 1.5, added to 256, where bfloat16 has even numbers only."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + 256) - self.layer(torch.full_like(x, 257.5))


def test_bfloat16_is_used_where_it_finds_the_same_labels_and_the_outcome_is_remembered(
    bfloat16: None, folder: Path
) -> None:
    x = torch.randn(1, 1, 8, 8, 8)
    runner, notices = accelerate([Confident()], CPU, False, lambda: x, "a" * 64, openvino=False)
    assert (runner.name, notices) == ("bfloat16", [])
    with torch.inference_mode():
        assert runner(x).dtype == torch.float32
    (record,) = folder.rglob("found.json")
    (found,) = json.loads(record.read_text(encoding="utf-8")).values()
    assert found == {"float32": 10.0, "bfloat16": 1.0}

    record.write_text(record.read_text(encoding="utf-8").replace("1.0", "null").replace("10.0", "9.0"), "utf-8")
    again, _ = accelerate([Confident()], CPU, False, lambda: x, "a" * 64, openvino=False)
    assert again.name == "float32"  # it went by the record


def test_bfloat16_is_not_used_where_labels_differ(bfloat16: None) -> None:
    x = torch.randn(1, 1, 8, 8, 8)
    runner, notices = accelerate([Delicate()], CPU, False, lambda: x, "b" * 64, openvino=False)
    assert runner.name == "float32"
    assert "bfloat16 finds other labels with this model than float32 (Dice 0." in notices[0]


def test_full_precision_is_float32_without_a_trial(bfloat16: None) -> None:
    def example() -> Tensor:
        raise AssertionError("nothing needs to be tried")

    assert accelerate([Confident()], CPU, True, example, "c" * 64, openvino=False)[0].name == "float32"


def test_a_tile_without_any_label_tells_nothing_for_other_volumes(bfloat16: None, folder: Path) -> None:
    x = torch.full((1, 1, 8, 8, 8), -3.0)
    accelerate([Confident()], CPU, False, lambda: x, "d" * 64, openvino=False)
    assert not list(folder.rglob("found.json"))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_record_is_replaced(bfloat16: None, folder: Path, content: str) -> None:
    record = folder / "accelerated" / ("e" * 16) / "found.json"
    record.parent.mkdir(parents=True)
    record.write_text(content, encoding="utf-8")
    x = torch.randn(1, 1, 8, 8, 8)
    runner, _ = accelerate([Confident()], CPU, False, lambda: x, "e" * 64, openvino=False)
    assert runner.name == "bfloat16" and "bfloat16" in record.read_text(encoding="utf-8")


def test_dice_is_the_mean_over_labels_that_either_finds() -> None:
    expected = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    found = torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert mean_dice(expected, found) == pytest.approx((2 / 3 + 1) / 2)
    assert mean_dice(torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.bool)) is None


# --- OpenVINO ------------------------------------------------------------------------------------

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")


@pytest.fixture
def with_openvino(without_openvino: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for a user who has it."""
    monkeypatch.setattr("LightSegLib.pipeline.openvino_runner.installed", lambda: "of any version")


@needs_openvino
@pytest.mark.parametrize("name", NETWORKS)
def test_openvino_computes_the_same_and_converts_once(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from LightSegLib.pipeline import openvino_runner

    original, x = network(name), tiles(name)
    with torch.inference_mode():
        expected = original(x)
    for _ in range(2):
        run = openvino_runner.compiled(original, tuple(x.shape), "f32", folder, "name")
        torch.testing.assert_close(run(x), expected, rtol=0, atol=1e-3 * float(expected.abs().max()))
        monkeypatch.setattr(openvino_runner, "_converted", None)  # a second conversion would fail


@needs_openvino
def test_openvino_is_chosen_where_it_is_faster_and_other_shapes_run_with_torch(
    folder: Path, with_openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 10.0, 11.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    original, x = Confident(), torch.randn(1, 1, 8, 8, 8)
    runner, notices = accelerate([original], CPU, True, lambda: x, "f" * 64)
    assert (runner.name, notices) == ("OpenVINO float32", [])
    for size in ((1, 1, 8, 8, 8), (2, 1, 4, 4, 4)):
        other = torch.randn(size)
        with torch.inference_mode():
            torch.testing.assert_close(runner(other), original(other), rtol=1e-4, atol=1e-4)
    assert list(folder.rglob("*.xml"))


@needs_openvino
def test_a_damaged_cache_is_made_again(folder: Path) -> None:
    from LightSegLib.pipeline import openvino_runner

    original, x = Confident(), torch.randn(1, 1, 8, 8, 8)
    openvino_runner.compiled(original, tuple(x.shape), "f32", folder, "name")
    for file in folder.rglob("*.*"):
        file.chmod(0o600)
        file.write_bytes(b"not a model")
    run = openvino_runner.compiled(original, tuple(x.shape), "f32", folder, "name")
    with torch.inference_mode():
        torch.testing.assert_close(run(x), original(x), rtol=1e-4, atol=1e-4)


@needs_openvino
def test_a_network_that_openvino_cannot_convert_runs_with_torch(with_openvino: None) -> None:
    class Unusual(Confident):
        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.special.bessel_j0(x)) * 1.0

    x = torch.randn(1, 1, 8, 8, 8)
    runner, notices = accelerate([Unusual()], CPU, True, lambda: x, "0" * 64)
    assert runner.name == "float32"
    assert "OpenVINO float32 cannot run this model" in notices[0]


@needs_openvino
def test_nothing_is_sent_anywhere(tmp_path: Path) -> None:
    """In a process of its own in which any connection, and OpenVINO's telemetry, would raise."""
    program = """
import socket, sys
class Refused(socket.socket):
    def connect(self, *_): raise AssertionError("a connection")
    connect_ex = connect
socket.socket = Refused
def refused(*_, **__): raise AssertionError("a name was looked up")
socket.getaddrinfo = socket.create_connection = refused
from pathlib import Path
import torch
from LightSegLib.pipeline.openvino_runner import compiled
run = compiled(torch.nn.Conv3d(1, 2, 3).eval(), (1, 1, 8, 8, 8), "f32", Path(sys.argv[1]), "name")
run(torch.zeros(1, 1, 8, 8, 8))
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
"""
    library = Path(__file__).resolve().parents[2] / "LightSeg"
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=library).stdout.strip() == "[]"
