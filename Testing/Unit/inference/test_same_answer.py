"""The same volume, model and settings give the same voxels: in any number of threads, busy or idle, first or later."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from LightSegLib.catalog.card import Inference, Weights
from LightSegLib.catalog.card_file import write_card
from LightSegLib.catalog.lookup import CARD_NAME, find_card
from LightSegLib.core.errors import DeviceError
from LightSegLib.core.file_hash import sha256
from LightSegLib.core.paths import resources_folder
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.backends import accelerate, agreement, backend_choice
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.networks import build
from LightSegLib.weights.files import save_weights
from run_options import with_confidence
from torch import nn

DEFAULT = "hippocampus-mr-lightmedseg"
UNET = {"in_channels": 1, "classes": 3, "features_per_stage": [8, 12], "n_conv_per_stage_decoder": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "lightmedseg": {"in_channels": 1, "classes": 3},
    "plain_conv_unet": UNET | {"kernel_sizes": 3, "strides": [1, 2], "n_conv_per_stage": 2},
    "residual_encoder_unet": UNET | {"kernel_sizes": 3, "strides": [1, 2], "n_blocks_per_stage": 2},
    "slim_unetrv2": {"in_channels": 1, "classes": 3, "first_kernel": 2, "slices": [4, 4, 2, 1]},
}


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads torch has, and puts them back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder of its own."""
    monkeypatch.setattr(accelerate, "user_folder", lambda: tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def threshold(tiny_model: Path) -> Callable[[], Segmenter]:
    """Makes a segmenter whose network is nearly nothing."""
    network = nn.Conv3d(1, 3, 1)
    return lambda: segmenter(tiny_model, network)


def head(shape: tuple[int, int, int] = (33, 47, 41)) -> Volume:
    """Noise with structure, of odd sides: where threads share rows, their ends fall anywhere."""
    random = np.random.default_rng(4)
    return Volume((np.cumsum(random.normal(size=shape), axis=1) * 50).astype(np.float32), Geometry(shape))


def write_model(folder: Path, arguments: dict[str, Any], patch: int = 16) -> Path:
    """A model folder with a U-Net of random weights."""
    folder.mkdir()
    weights = folder / "weights.pt"
    torch.manual_seed(3)
    save_weights(build("plain_conv_unet", arguments).state_dict(), weights)
    card = replace(
        find_card(DEFAULT),
        id="unet",
        network="plain_conv_unet",
        network_arguments=arguments,
        inference=Inference((patch,) * 3),
        weights=Weights(weights.name, weights.stat().st_size, sha256(weights)),
    )
    write_card(card, folder / CARD_NAME)
    return folder


def segmenter(tiny_model: Path, network: nn.Module | None = None, **options: Any) -> Segmenter:
    made = Segmenter(find_card(tiny_model), InferenceOptions(device="cpu", **options))
    if network is not None:
        made.use_network(network.eval())
    return made


@pytest.mark.parametrize(
    "family",
    ["lightmedseg", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES if name != "lightmedseg")],
)
def test_threads_and_free_memory_change_no_voxel_and_no_probability(
    tiny_model: Path, family: str, threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    network = build(family, FAMILIES[family])
    volume, results, ways = head(), [], []
    monkeypatch.setattr("LightSegLib.inference.threads.cores", lambda: 3)
    for count in (3, 2, 1, 1):
        threads(count)
        free = 10**12 if len(ways) < 3 else 1_000_000 * (ways[-1] - 1)  # at last, less than it took
        monkeypatch.setattr("LightSegLib.inference.memory.available_memory", lambda device, free=free: free)
        results.append(with_confidence(segmenter(tiny_model, network)).segment([volume]))
        ways.append(results[-1].provenance["memory_estimate_mb"])
    assert len(set(ways)) == 4, "four ways to run, the last with sums on disk"
    for result in results[1:]:
        assert result.voxels.tobytes() == results[0].voxels.tobytes()
        assert result.confidence.tobytes() == results[0].confidence.tobytes()
    assert len(np.unique(results[0].voxels)) > 1


@pytest.mark.slow
def test_logits_are_equal_to_the_last_bit(threads: Callable[[int], None], tiny_model: Path) -> None:
    """Labels could hide a difference; the numbers behind them cannot. The same network, called as it is, differs."""
    seen: dict[int, list[bytes]] = {1: [], 3: []}

    class Recording(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.network = build("slim_unetrv2", FAMILIES["slim_unetrv2"]).eval()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = self.network(x)
            seen[count].append(logits.numpy().tobytes())
            return logits

    for count in seen:
        threads(count)
        segmenter(tiny_model, Recording()).segment([head()])
        assert torch.get_num_threads() == count, "torch has its threads again"
    assert sorted(seen[1]) == sorted(seen[3]) and len(seen[1]) > 8
    tile, direct = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0)), set()
    for count in (1, 2, 3, 4):
        threads(count)
        with torch.inference_mode():
            direct.add(Recording().eval().network(tile).numpy().tobytes())
    assert len(direct) > 1, "else this test would prove nothing"


def test_two_runs_at_a_time_leave_torch_its_threads(
    threads: Callable[[int], None], threshold: Callable[[], Segmenter]
) -> None:
    """In two threads of one program, as a server might."""
    threads(3)
    with ThreadPoolExecutor(2) as together:
        results = list(together.map(lambda _: threshold().segment([head()]).voxels.tobytes(), range(4)))
    assert len(set(results)) == 1
    assert torch.get_num_threads() == 3


@pytest.mark.slow
def test_a_clock_that_is_wrong_and_a_home_that_keeps_nothing_change_nothing(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]
) -> None:
    """Eight runs on a processor with bfloat16, emulated where it is not: busy or idle, the home full, new or lost."""
    made = write_model(tmp_path / "model", FAMILIES["plain_conv_unet"])
    random = np.random.default_rng(0)
    ticking = itertools.accumulate(random.exponential(5, 10**6))
    for clock in ("perf_counter", "monotonic"):
        monkeypatch.setattr(f"time.{clock}", lambda: next(ticking))
    monkeypatch.setattr(backend_choice, "native_bfloat16", lambda: True)
    monkeypatch.setattr(backend_choice, "_instructions", lambda: ["AMX"])
    monkeypatch.setattr(backend_choice, "LITTLE_WORK", 0)
    monkeypatch.setattr(agreement, "CLOSENESS", 1.0)  # random weights agree by chance: only the order counts here
    monkeypatch.setattr(agreement, "AGREEMENT", 0.0)
    volume, results = head((16, 23, 19)), []
    for run in range(8):
        threads(1 + run % 3)
        if run == 4:
            for file in home.rglob("*.json"):
                file.unlink()
        if run == 6:  # a file is in the way: nothing can be kept
            monkeypatch.setattr(accelerate, "user_folder", lambda: made / "weights.pt")
        results.append(segmenter(made).segment([volume]))
    assert {result.provenance["computed_in"] for result in results} == {"bfloat16"}
    assert len({result.voxels.tobytes() for result in results}) == 1


def test_a_small_model_is_computed_in_float32_whatever_the_processor_has(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(backend_choice, "native_bfloat16", lambda: True)
    monkeypatch.setattr(backend_choice, "_instructions", lambda: ["AMX"])
    assert segmenter(tiny_model).backend() == "float32"
    assert not home.exists(), "nothing had to be tried"


def test_the_provenance_names_what_computed(tiny_model: Path) -> None:
    provenance = segmenter(tiny_model, precision="float32").segment([head((32, 32, 32))]).provenance
    assert provenance["computed_in"] == "float32"
    assert provenance["processor"] == backend_choice.processor(torch.device("cpu")) and provenance["processor"]
    assert provenance["libraries"]["torch"] == torch.__version__ and "SimpleITK" in provenance["libraries"]
    assert provenance["settings"]["precision"] == "float32"


def test_a_form_that_this_computer_lacks_is_refused_by_name(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_choice, "native_bfloat16", lambda: False)
    with pytest.raises(DeviceError, match=r"cannot compute in bfloat16\..*float32"):
        segmenter(tiny_model, precision="bfloat16").segment([head((32, 32, 32))])


# --- the rule ---


@pytest.mark.parametrize(
    ("instructions", "bfloat16", "openvino", "expected"),
    [
        (["AVX-512", "AMX"], True, True, ["OpenVINO bfloat16", "bfloat16", "OpenVINO float32"]),
        (["AVX-512", "AMX"], True, False, ["bfloat16"]),
        (["AVX-512", "bfloat16"], True, True, ["OpenVINO float32"]),  # slower in bfloat16
        (["AVX2"], False, True, ["OpenVINO float32"]),
        (["AVX2"], False, False, []),
        ([], False, True, []),  # another kind of processor
    ],
)
def test_forms_come_into_question_where_they_are_known_to_win(
    monkeypatch: pytest.MonkeyPatch, instructions: list[str], bfloat16: bool, openvino: bool, expected: list[str]
) -> None:
    monkeypatch.setattr(backend_choice, "_instructions", lambda: instructions)
    monkeypatch.setattr(backend_choice, "native_bfloat16", lambda: bfloat16)
    monkeypatch.setattr("LightSegLib.inference.backends.openvino_runner.installed", lambda: "2026.4")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert backend_choice.fast_backends(openvino) == expected


@pytest.mark.parametrize("limit", ["AVX2", "avx512_core", "AVX512_CORE_VNNI"])
def test_what_hides_bfloat16_from_onednn_hides_it_here(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for test in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, test, lambda: True, raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert backend_choice.native_bfloat16() and "AMX" in backend_choice.processor()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert not backend_choice.native_bfloat16() and "AMX" not in backend_choice.processor()


def test_the_bundled_model_gives_the_same_on_the_sample_in_one_thread_and_in_two(
    threads: Callable[[int], None],
) -> None:
    sample = resources_folder() / "SampleData" / "icbm152_t1_1mm.nii.gz"
    region = RegionOfInterest.from_ras(6.4, -49, -32, 43, 0, 9)
    volume, found = read_volume(sample), []
    for count in (1, 2):
        threads(count)
        found.append(
            Segmenter(find_card(DEFAULT), InferenceOptions(device="cpu")).segment([volume], region).voxels.tobytes()
        )
    assert found[0] == found[1]
