"""`make benchmark`: LightMedSeg and the bundled model on this machine, beside the paper's figures and our targets.

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
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "LightSeg"
SAMPLE = LIBRARY / "Resources" / "SampleData"
sys.path.insert(0, str(LIBRARY))

MODEL = "hippocampus-mr-lightmedseg"
RUNS = 5
BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024


def paper_input() -> dict[str, float]:
    """LightMedSeg at 4x128x128x128, untrained: parameters, multiply-adds and median seconds."""
    import torch
    from LightSegLib.benchmark import multiply_adds
    from LightSegLib.networks.lightmedseg import LightMedSeg

    shape = (1, 4, 128, 128, 128)
    network = LightMedSeg(4, 4).eval().to(memory_format=torch.channels_last_3d)
    volume = torch.randn(shape).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        seconds = median_seconds(lambda: network(volume))
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds": multiply_adds(LightMedSeg(4, 4), shape),
        "seconds": seconds,
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


def measured(name: str) -> dict[str, float]:
    """Run one measurement in a fresh process."""
    result = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True)
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def report() -> None:
    import torch

    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    paper = measured("paper_input")
    print("LightMedSeg, 4 x 128 x 128 x 128, float32    here      paper (16-core CPU)")
    print(f"  parameters                                 {paper['parameters'] / 1e6:.3f}M    0.48M")
    print(f"  multiply-adds                              {paper['multiply_adds'] / 1e9:.2f}G    14.64G")
    print(f"  median seconds                             {paper['seconds']:.2f}      0.505")
    print(f"  peak memory, MB, torch included            {paper['peak_bytes'] / 1e6:.0f}      1174 (network)")
    loaded = measured("loaded_model")
    print("\nBundled model                                here      target")
    print(f"  64 x 80 x 64 region, loaded, seconds       {loaded['seconds']:.2f}      below 1")
    cold = measured("cold_command")
    print(f"  `lightseg segment`, cold, seconds          {cold['seconds']:.2f}      below 6")
    print(f"  `lightseg segment`, peak memory, MB        {cold['peak_bytes'] / 1e6:.0f}       below 1200")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        facts = {"paper_input": paper_input, "loaded_model": loaded_model, "cold_command": cold_command}[sys.argv[1]]()
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_MAXRSS
        print(json.dumps({"peak_bytes": own, **facts}))
    else:
        report()
