"""The inference form, bfloat16 and OpenVINO: the same labels, checked on a generated tile and remembered."""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from LightSegLib.core.errors import DeviceError
from LightSegLib.inference.backends import accelerate as module
from LightSegLib.inference.backends import backend_choice
from LightSegLib.inference.backends.accelerate import Model, Runner, accelerate, choose_backend
from LightSegLib.inference.backends.agreement import check_tile, mean_dice
from LightSegLib.inference.threads import pool
from LightSegLib.networks import build
from LightSegLib.networks.cpu.fused_modules import NormInPlace, fuse_modules
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
    """A processor that is fast at bfloat16, and networks large enough for that to matter."""
    monkeypatch.setattr(backend_choice, "native_bfloat16", lambda: True)
    monkeypatch.setattr(backend_choice, "_instructions", lambda: ["AMX"])
    monkeypatch.setattr(backend_choice, "LITTLE_WORK", 0)


def float32(*networks: nn.Module, like: Tensor) -> Runner:
    """In float32, for tiles of the size of `like`."""
    return accelerate(Model(networks, like.shape[1], like.shape[2:], None), CPU, "float32", like.shape[2:], 1)


def of_one(network: nn.Module, identity: str) -> Model:
    return Model([network], 1, (8, 8, 8), identity)


# --- the inference form --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_the_same_and_leaves_the_network_alone(name: str) -> None:
    original, x = network(name), tiles(name)
    kept, state = x.clone(), copy.deepcopy(original.state_dict())
    with torch.inference_mode():
        expected = original(x)
        runner = float32(original, like=x)
        found = runner(x)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    assert runner.backend == "float32"
    assert torch.equal(x, kept) and all(torch.equal(state[key], value) for key, value in original.state_dict().items())


def test_norms_after_convolutions_work_in_place_and_share_their_weights() -> None:
    original = network()
    backend = fuse_modules(original)
    norms = [part for part in backend.modules() if isinstance(part, NormInPlace)]
    assert len(norms) == 5 and not any(isinstance(part, nn.InstanceNorm3d) for part in backend.modules())
    assert {p.data_ptr() for p in backend.parameters()} <= {p.data_ptr() for p in original.parameters()}


def test_a_network_that_was_run_can_still_be_trained() -> None:
    original, x = network(), tiles()
    runner = float32(original, like=x)
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
        torch.testing.assert_close(float32(first, second, like=x)(x), expected, rtol=0, atol=1e-5)


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


def choose(network: nn.Module, identity: str, precision: str = "auto", openvino: bool = False) -> str:
    return choose_backend(of_one(network, identity), CPU, precision, openvino)


def test_bfloat16_is_used_where_it_finds_the_same_labels_and_the_outcome_is_remembered(
    bfloat16: None, folder: Path
) -> None:
    assert choose(Confident(), "a" * 64) == "bfloat16"
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode():
        found = accelerate(of_one(Confident(), "a" * 64), CPU, "bfloat16", (8, 8, 8), 1)(x)
    assert found.dtype == torch.float32 and torch.equal(found.argmax(1)[0], (x[0, 0] > 0).long())
    (record,) = folder.rglob("backend_checks.json")
    assert list(json.loads(record.read_text(encoding="utf-8")).values()) == [True]

    record.write_text(record.read_text(encoding="utf-8").replace("true", "false"), "utf-8")
    assert choose(Confident(), "a" * 64) == "float32"  # it went by the record


def test_bfloat16_is_not_used_where_labels_differ(bfloat16: None) -> None:
    assert choose(Delicate(), "b" * 64) == "float32"


def test_full_precision_is_float32_without_a_check(bfloat16: None, folder: Path) -> None:
    assert choose(Confident(), "c" * 64, precision="float32", openvino=True) == "float32"
    assert not folder.exists()


def test_a_network_in_training_is_computed_in_float32(bfloat16: None, folder: Path) -> None:
    assert choose_backend(Model([Confident()], 1, (8, 8, 8), None), CPU, "auto", False) == "float32"
    assert not folder.exists()


def test_a_failure_of_the_moment_is_not_remembered(
    bfloat16: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(module, "agree", lambda *_: 1 / 0)
        assert choose(Confident(), "d" * 64) == "float32"
    assert choose(Confident(), "d" * 64) == "bfloat16"


def test_what_was_found_of_one_network_is_not_taken_for_another_with_the_same_weights(
    bfloat16: None, folder: Path
) -> None:
    assert choose(Confident(), "9" * 64) == "bfloat16"
    assert choose(Delicate(), "9" * 64) == "float32"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_record_is_replaced(bfloat16: None, folder: Path, content: str) -> None:
    record = folder / "accelerated" / ("e" * 16) / "backend_checks.json"
    record.parent.mkdir(parents=True)
    record.write_text(content, encoding="utf-8")
    assert choose(Confident(), "e" * 64) == "bfloat16"
    assert "true" in record.read_text(encoding="utf-8")


@pytest.mark.parametrize("signed", [True, False])
def test_the_tile_of_the_check_is_the_same_at_every_call_and_looks_like_normalized_voxels(signed: bool) -> None:
    tile = check_tile(2, (16, 20, 24), signed)
    assert torch.equal(tile, check_tile(2, (16, 20, 24), signed)) and tile.shape == (1, 2, 16, 20, 24)
    low, high = (-1.5, 2.5) if signed else (0, 1)
    assert low <= tile.min() < tile.max() <= high
    assert not torch.equal(tile[:, 0], tile[:, 1])


def test_dice_is_the_mean_over_labels_that_either_finds() -> None:
    """A label of a few voxels does not count."""
    sizes = torch.tensor([[200], [100], [99]]), torch.tensor([[100], [100], [0]])
    expected, found = (torch.arange(300) < size for size in sizes)
    assert mean_dice(expected, found) == pytest.approx((2 / 3 + 1) / 2)
    assert mean_dice(torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.bool)) is None


# --- OpenVINO ------------------------------------------------------------------------------------

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None or not backend_choice.can_run_openvino(),
    reason="OpenVINO is not installed, or ends the process under this limit of oneDNN",
)


@pytest.fixture
def with_openvino(without_openvino: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for a user who has it."""
    monkeypatch.setattr("LightSegLib.inference.backends.openvino_runner.installed", lambda: "of any version")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


@needs_openvino
@pytest.mark.parametrize("name", NETWORKS)
def test_openvino_computes_the_same_and_converts_once(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from LightSegLib.inference.backends import openvino_runner

    original, x = network(name), tiles(name)
    with torch.inference_mode():
        expected = original(x)
    for _ in range(2):
        run = openvino_runner.compiled(original, tuple(x.shape), "OpenVINO float32", folder, "name", 1)
        torch.testing.assert_close(run(x), expected, rtol=0, atol=1e-3 * float(expected.abs().max()))
        monkeypatch.setattr(openvino_runner, "_converted", None)  # a second conversion would fail


def test_openvino_is_left_alone_where_onednn_is_held_below_avx512(
    with_openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_choice, "_instructions", lambda: ["AVX2"])
    assert backend_choice.fast_backends(openvino=True) == ["OpenVINO float32"]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert backend_choice.fast_backends(openvino=True) == []
    with pytest.raises(DeviceError, match="Choose the precision float32"):
        backend_choice.check_possible("OpenVINO float32", CPU, openvino=True)


@needs_openvino
def test_openvino_gives_the_same_bits_in_any_number_of_threads(folder: Path) -> None:
    from LightSegLib.inference.backends import openvino_runner

    original, x = network(), torch.randn(4, 2, 16, 24, 20)
    results = []
    for threads in (1, 2, 3):
        run = openvino_runner.compiled(original, (1, *x.shape[1:]), "OpenVINO float32", None, "name", threads)
        with pool(threads) as together:
            results.append(torch.cat(list(together.map(run, x.split(1)))))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@needs_openvino
def test_openvino_is_chosen_where_it_is_known_to_be_faster_also_for_tiles_of_another_size(
    folder: Path, with_openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_choice, "_instructions", lambda: ["AVX2"])
    monkeypatch.setattr(backend_choice, "LITTLE_WORK", 0)
    model = of_one(Confident(), "f" * 64)
    assert choose(Confident(), "f" * 64, openvino=True) == "OpenVINO float32"
    for patch in ((8, 8, 8), (4, 4, 4)):
        other = torch.randn(1, 1, *patch)
        runner = accelerate(model, CPU, "OpenVINO float32", patch, 1)
        with torch.inference_mode():
            torch.testing.assert_close(runner(other), model.networks[0](other), rtol=1e-4, atol=1e-4)
    assert list(folder.rglob("*.xml"))


@needs_openvino
def test_a_damaged_cache_is_made_again(folder: Path) -> None:
    from LightSegLib.inference.backends import openvino_runner

    original, x = Confident(), torch.randn(1, 1, 8, 8, 8)
    openvino_runner.compiled(original, tuple(x.shape), "OpenVINO float32", folder, "name", 1)
    for file in folder.rglob("*.*"):
        file.chmod(0o600)
        file.write_bytes(b"not a model")
    run = openvino_runner.compiled(original, tuple(x.shape), "OpenVINO float32", folder, "name", 1)
    with torch.inference_mode():
        torch.testing.assert_close(run(x), original(x), rtol=1e-4, atol=1e-4)


@needs_openvino
def test_a_network_that_openvino_cannot_convert_runs_with_torch(
    with_openvino: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unusual(Confident):
        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.special.bessel_j0(x)) * 1.0

    monkeypatch.setattr(backend_choice, "_instructions", lambda: ["AVX2"])
    monkeypatch.setattr(backend_choice, "LITTLE_WORK", 0)
    assert choose(Unusual(), "0" * 64, openvino=True) == "float32"
    with pytest.raises(DeviceError, match=r"OpenVINO cannot run this model .*Choose the precision float32"):
        accelerate(of_one(Unusual(), "0" * 64), CPU, "OpenVINO float32", (8, 8, 8), 1)


@needs_openvino
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_signal_does_not_end_the_process_when_a_model_is_gone() -> None:
    """As when the user presses Ctrl-C after another thread has dropped a model for the next one."""
    program = """
import signal, threading
import torch
from LightSegLib.inference.backends.openvino_runner import compiled
models = [compiled(torch.nn.Conv3d(1, 2, 3).eval(), (1, 1, 8, 8, 8), "OpenVINO float32", None, "name", 1)]
models[0](torch.zeros(1, 1, 8, 8, 8))
dropping = threading.Thread(target=models.clear)
dropping.start()
dropping.join()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""
    library = Path(__file__).resolve().parents[3] / "LightSeg"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=library)
    assert (done.returncode, done.stdout.strip()) == (0, "handled")


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
from LightSegLib.inference.backends.openvino_runner import compiled
run = compiled(torch.nn.Conv3d(1, 2, 3).eval(), (1, 1, 8, 8, 8), "OpenVINO float32", Path(sys.argv[1]), "name", 1)
run(torch.zeros(1, 1, 8, 8, 8))
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
"""
    library = Path(__file__).resolve().parents[3] / "LightSeg"
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=library).stdout.strip() == "[]"
