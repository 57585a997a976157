"""`make benchmark`: every network and the bundled model on this machine, beside published figures and our targets.

Each measurement runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "LightSeg"
SAMPLE = LIBRARY / "Resources" / "SampleData"
sys.path.insert(0, str(LIBRARY))

MODEL = "hippocampus-mr-lightmedseg"
RUNS = 5
BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Published:
    """What the authors (or, for LightMedSeg and UNETR++ on BraTS, the LightMedSeg paper, table 3) state."""

    parameters: str = "-"
    multiply_adds: str = "-"
    seconds: str = "-"
    memory: str = "-"


# Networks that no model of the catalogue has with this input: family, arguments, patch [C, k, j, i].
OTHERS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "lightmedseg": ("lightmedseg", {"in_channels": 4, "classes": 4}, (4, 128, 128, 128)),
    "slim-unetrv2, 96": (
        "slim_unetrv2",
        {"in_channels": 4, "classes": 3, "first_kernel": 2, "slices": [16, 8, 4, 2]},
        (4, 96, 96, 96),
    ),
}
# One model of every network that differs in cost, and what is published about it.
NETWORKS = {
    "lightmedseg": Published("0.48M", "14.64G", "0.505 (16 cores)", "1174"),
    "wholebody-tumor-ct-flare24": Published("5.6M"),
    "brain-tumor-mr-slim-unetrv2": Published(),
    "slim-unetrv2, 96": Published(),
    "abdomen-ct-unetrpp": Published("42.96M"),
    "heart-mr-unetrpp": Published(),
    "brain-tumor-mr-unetrpp": Published("42.96M", "70.1G", "-", "2458"),
    "lung-tumor-ct-unetrpp": Published(),
}


def network(name: str) -> dict[str, float]:
    """One patch through the untrained network of a model: parameters, multiply-adds and median seconds."""
    import torch
    from LightSegLib.benchmark import multiply_adds
    from LightSegLib.catalog.store import find_card
    from LightSegLib.networks import build

    if name in OTHERS:
        family, arguments, size = OTHERS[name]
    else:
        card = find_card(name)
        family, arguments = card.network, card.network_arguments
        size = (len(card.channels), *card.inference.patch_size)
    shape = (1, *size)
    module = build(family, arguments).eval().to(memory_format=torch.channels_last_3d)
    patch = torch.randn(shape).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        seconds = median_seconds(lambda: module(patch))
    peak = own_peak()  # before the counter below adds its own
    return {
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "multiply_adds": multiply_adds(module, shape),
        "seconds": seconds,
        "peak_bytes": peak,
        "patch": "x".join(map(str, size)),
    }


def loaded_model() -> dict[str, float]:
    """The bundled model on 64x80x64 voxels around the right hippocampus of the sample, once loaded."""
    from LightSegLib.catalog.store import find_card
    from LightSegLib.pipeline.region import Region
    from LightSegLib.segmenter import Segmenter
    from LightSegLib.volume import read_volume

    volume = read_volume(SAMPLE / "icbm152_t1_1mm.nii.gz")
    segmenter = Segmenter(find_card(MODEL), device="cpu")
    region = Region.from_ras(-6.4, -64.4, -43.4, 57.4, 15.4, 20.4)
    return {"seconds": median_seconds(lambda: segmenter.segment([volume], roi=region))}


def cold_command() -> dict[str, float]:
    """The whole command `lightseg segment` on the sample, from the start of Python to the written file."""
    corners = json.loads((SAMPLE / "icbm152_rois.json").read_text(encoding="utf-8"))["rois"][0]["corners"]
    roi = ",".join(str(number) for corner in corners for number in corner)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "LightSegLib.cli", "segment", str(SAMPLE / "icbm152_t1_1mm.nii.gz")]
        command += ["--model", MODEL, f"--roi={roi}", "--device", "cpu", "--out", str(Path(folder) / "result.seg.nrrd")]
        started = time.perf_counter()
        subprocess.run(command, check=True, cwd=LIBRARY, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * BYTES_PER_MAXRSS
    return {"seconds": seconds, "peak_bytes": peak}


def median_seconds(work: Callable[[], object]) -> float:
    """Median wall-clock seconds of RUNS calls after one to warm up."""
    work()
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def own_peak() -> int:
    """Most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_MAXRSS


def measured(*words: str) -> dict[str, Any]:
    """Run one measurement in a fresh process."""
    result = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def report() -> None:
    import torch

    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32\n")
    print("One patch; in brackets what is published. Memory with PyTorch (published: the network alone).")
    line = "{:<30} {:<16} {:<18} {:<18} {:<24} {}"
    print(line.format("network of", "patch", "parameters", "multiply-adds", "median seconds", "peak memory, MB"))
    for name, known in NETWORKS.items():
        here = measured("network", name)
        print(
            line.format(
                name,
                here["patch"],
                f"{here['parameters'] / 1e6:.3f}M ({known.parameters})",
                f"{here['multiply_adds'] / 1e9:.2f}G ({known.multiply_adds})",
                f"{here['seconds']:.2f} ({known.seconds})",
                f"{here['peak_bytes'] / 1e6:.0f} ({known.memory})",
            ),
            flush=True,
        )
    loaded = measured("loaded_model")
    print("\nBundled model                                here      target")
    print(f"  64 x 80 x 64 region, loaded, seconds       {loaded['seconds']:.2f}      below 1")
    cold = measured("cold_command")
    print(f"  `lightseg segment`, cold, seconds          {cold['seconds']:.2f}      below 6")
    print(f"  `lightseg segment`, peak memory, MB        {cold['peak_bytes'] / 1e6:.0f}       below 1200")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work = {"network": network, "loaded_model": loaded_model, "cold_command": cold_command}[sys.argv[1]]
        facts = work(*sys.argv[2:])
        print(json.dumps({"peak_bytes": own_peak(), **facts}))
    else:
        report()
