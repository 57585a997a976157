"""Memory of a run, estimated beforehand: against sums by hand and against what the process really takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from LightSegLib.catalog.card import Normalization, Preprocessing
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core import system
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.memory import _most_held, activation_memory, available_memory
from LightSegLib.inference.plan import ExecutionPlan, Workload, bytes_needed
from LightSegLib.inference.processing.preprocess import prepare
from LightSegLib.inference.sliding_window import TileSampler
from LightSegLib.inference.threads import one_thread_each
from LightSegLib.networks import build
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"
LINUX = "only Linux tells the memory of a process and of a container"


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
    assert activation_memory(Fork(), (batch, 1, 16, 16, 32)) == batch * 16 * 16 * 32 * 4 * (1 + 6 + 3)


def test_a_small_patch_is_measured_as_it_is() -> None:
    """The bundled model's: a smaller one would be padded to it, and the padding counted many times."""
    network = build("lightmedseg", {"in_channels": 1, "classes": 3})
    tile, four = (activation_memory(network, (1, 1, *sides)) for sides in ((32, 48, 32), (64, 96, 32)))
    assert tile < 20e6
    assert 3 * tile < four < 5 * tile


@pytest.mark.parametrize(
    ("halves", "arguments"),
    [
        (2, {"pairs": [(1, 2)], "fine_channels": 16, "residual_blocks": 1}),
        (1, {"widths": (8, 12, 16)}),
    ],
)
def test_a_network_for_aligned_images_knows_what_its_layers_hold(halves: int, arguments: dict[str, Any]) -> None:
    """As counted in a pass of a half, which for the brain takes longer than all else that is prepared."""
    fixed = {"size": (32, 48, 64), "overlap": 16, "classes": 4, "tissues": (0, 1, 1, 2)}
    network = build("atlas_unet", fixed | arguments)
    network.forward = network._half
    known, counted = activation_memory(network, (1, 1, 32, 48, 64)), _most_held(network, torch.zeros(32, 48, 64))
    assert known == pytest.approx(halves * counted, rel=0.1)


def test_a_network_with_many_classes_for_aligned_images_knows_what_its_logits_take() -> None:
    """As torch's allocator counts it: most are not of its layers."""
    card = find_card("brain-mr-atlas-unet")
    network = build(card.network, card.network_arguments)
    half = torch.rand(network.size)
    network.atlas  # noqa: B018  made once
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        network._half(half)
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    assert activation_memory(network, (1, 1, *network.size)) == pytest.approx(2 * held.max(), rel=0.15)


def test_a_network_for_one_size_alone_is_measured_by_shapes() -> None:
    class Fixed(Fork):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[2:] != (16, 16, 16):
                raise ValueError("This network takes 16 x 16 x 16 voxels.")
            return super().forward(x)

    assert activation_memory(Fixed(), (1, 1, 16, 16, 16)) == 16**3 * 4 * 10


def test_a_size_that_the_network_refuses_is_reported() -> None:
    unet = {"features_per_stage": [2, 2], "kernel_sizes": 3, "strides": [1, 4], "n_conv_per_stage": 1}
    network = build("plain_conv_unet", unet | {"n_conv_per_stage_decoder": 1, "in_channels": 1, "classes": 2})
    with pytest.raises(ValueError, match="multiples of 4"):
        activation_memory(network, (1, 1, 8, 8, 10))


@pytest.mark.skipif(sys.platform != "linux", reason=LINUX)
def test_the_estimate_is_near_what_a_process_takes() -> None:
    """A U-Net on one patch, in a process of its own: neither half of it nor twice as much."""
    program = """
import re, torch
from pathlib import Path
from LightSegLib.networks import build
from LightSegLib.inference.memory import activation_memory
unet = {"in_channels": 1, "classes": 2, "features_per_stage": [16, 32], "kernel_sizes": 1, "strides": [1, 2],
        "n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
network = build("plain_conv_unet", unet).eval()
shape = (1, 1, 96, 128, 128)
estimate = activation_memory(network, shape)
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
with torch.inference_mode():
    network(torch.zeros(shape).contiguous(memory_format=torch.channels_last_3d))
print(estimate, peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True, cwd=LIBRARY)
    estimate, taken = map(int, done.stdout.split())
    assert taken / 2 < estimate < taken * 2


def test_what_a_run_holds_besides_the_network_is_summed_up() -> None:
    """A volume of 50 x 60 voxels in 40 slices, tiles 16 slices deep, three outputs; by hand, all but the slabs in
    float32, for which the plan counts three times 64 MB.

    Rows on the CPU: two channels of these tiles' and of the next ones' slices, the tiles' weights, and three slabs of
    eight slices of outputs. Tiles that wait: of each thread and one more, channels and outputs. Sums: of every output
    and of the weights, as deep as a tile and the slabs that wait.
    """
    voxels = np.random.default_rng(0).normal(size=(40, 60, 50)).astype(np.float32)
    volume = Volume(voxels, Geometry(voxels.shape))
    prepared = prepare([volume, volume], Preprocessing("RAS", normalization=(Normalization("none"),) * 2))
    sampler = TileSampler(prepared.shape, (16, 16, 16), 0.5)

    def needed(sums: str, one_pass: int = 0, tiles: int = 1, confidence: bool = False) -> int:
        plan = ExecutionPlan(torch.device("cpu"), tiles, sums)
        return bytes_needed(plan, Workload(3, confidence, one_pass), prepared, sampler)

    slices = 60 * 50 * 4
    rows, slabs = (2 * 2 * 16 + 16 + 3 * 3 * 8) * slices, 3 * 64 * 2**20
    tile = (2 + 3) * 16**3 * 4
    assert needed("disk") == 2 * tile + rows + slabs + voxels.size, "a byte for each label"
    assert needed("disk", confidence=True) - needed("disk") == voxels.size
    assert needed("device") - needed("disk") == (3 + 1) * (16 + 4 * 8) * slices
    passes = needed("disk", 1_000_000, tiles=2) - needed("disk") - tile
    assert passes == 2_600_000, "kernels take a third more than tensors"
    plan, work = ExecutionPlan(torch.device("cpu"), 2, "disk"), Workload(3, calibration=1_000_000)
    calibration = bytes_needed(plan, work, prepared, sampler) - needed("disk", tiles=2)
    assert calibration == 1_000_000 + 2 * 3 * 16**3 * 4, "and the outputs of two tiles"


def test_the_computer_shows_what_is_left() -> None:
    """As psutil sees it, a program of its own; a container may allow less than the computer has."""
    left = available_memory(torch.device("cpu"))
    if sys.platform == "darwin":
        assert left is None, "macOS does not tell"
    else:
        assert left is not None and 0 < left < 1.5 * psutil.virtual_memory().available


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the files in which a container on Linux (cgroup version 2) finds its limit."""
    monkeypatch.setattr(system, "CGROUP", tmp_path)

    def limit(most: str, used: int, inactive_file: int) -> None:
        (tmp_path / "memory.max").write_text(f"{most}\n", encoding="ascii")
        (tmp_path / "memory.current").write_text(f"{used}\n", encoding="ascii")
        text = f"anon 5\nactive_file 7\ninactive_file {inactive_file}\n"
        (tmp_path / "memory.stat").write_text(text, encoding="ascii")

    return limit


@pytest.mark.skipif(sys.platform != "linux", reason=LINUX)
def test_in_a_container_its_limit_counts(container: Callable[..., None]) -> None:
    """Of what is in use, files that were read may be dropped again; a limit above the computer's memory is none."""
    container("90000000", 50_000_000, 20_000_000)
    assert system.free_memory() == 60_000_000
    for limit in ("max", str(10**18)):
        container(limit, 50_000_000, 20_000_000)
        assert system.free_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.5)


@pytest.mark.skipif(sys.platform != "linux", reason=LINUX)
@pytest.mark.parametrize("group", ["/docker/abc", "/out of reach"])
def test_limits_of_version_1_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    """In a container the system calls a group by its name outside, and it is at the top."""
    monkeypatch.setattr(system, "CGROUP", tmp_path)
    monkeypatch.setattr(system, "PROCESS", tmp_path)
    (tmp_path / "cgroup").write_text(f"9:name=systemd:/\n4:memory:{group}\n3:cpu,cpuacct:{group}\n", encoding="ascii")
    limits = {
        "memory/memory.limit_in_bytes": "200000000",
        "memory/memory.usage_in_bytes": "150000000",
        "memory/memory.stat": "cache 1\ntotal_inactive_file 30000000",
        "cpu/cpu.cfs_quota_us": "50000",
        "cpu/cpu.cfs_period_us": "100000",
    }
    if group == "/docker/abc":
        limits = {
            **limits,
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "memory/docker/abc/memory.limit_in_bytes": "200000000",
            "memory/docker/abc/memory.usage_in_bytes": "150000000",
            "memory/docker/abc/memory.stat": "total_inactive_file 30000000",
        }
    for name, value in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n", encoding="ascii")
    assert system.free_memory() == 80_000_000
    assert system.cores() == 1


@pytest.mark.skipif(sys.platform != "linux", reason=LINUX)
@pytest.mark.parametrize(("quota", "most"), [("50000 100000", 1), ("150000 100000", 2), ("max 100000", 10**6)])
def test_a_containers_share_of_the_processor_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, most: int
) -> None:
    """Of the group itself, or of one above it."""
    monkeypatch.setattr(system, "CGROUP", tmp_path)
    monkeypatch.setattr(system, "PROCESS", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cgroup").write_text("0::/batch.slice/job\n", encoding="ascii")
    (tmp_path / "batch.slice" / "job").mkdir(parents=True)
    (tmp_path / "batch.slice" / "job" / "cpu.max").write_text("max 100000\n", encoding="ascii")
    (tmp_path / "batch.slice" / "cpu.max").write_text(f"{quota}\n", encoding="ascii")
    assert system.cores() == min(8, most)
    torch.set_num_threads(threads := 6)
    with one_thread_each() as allowed:
        assert allowed == min(threads, most)
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(sys.platform != "linux", reason=LINUX)
def test_the_peak_of_a_process_begins_anew() -> None:
    """200 MB are taken, given back and forgotten; then 100 MB."""
    program = """
import numpy as np
from LightSegLib.core import system
def peak_of(megabytes):
    system.reset_peak_memory()
    np.ones(megabytes * 10**6, np.uint8)
    return system.peak_memory()
system.reset_peak_memory()
least = system.peak_memory()
print(*(round((peak_of(size) - least) / 1e6) for size in (200, 100)))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=LIBRARY)
    assert [int(word) for word in done.stdout.split()] == pytest.approx([200, 100], abs=10)
