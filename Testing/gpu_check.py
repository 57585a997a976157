"""Whether LightSeg computes on a graphics card what it computes on the processor, how fast, and in how much memory.

    make gpu-check        or        python Testing/gpu_check.py [--device cuda:N]

The second needs torch, numpy, scipy and SimpleITK alone. First the networks of `Data/reference`, each with the answer
of its authors' code, in float32, float16 and bfloat16; then the bundled models on the sample, beside the processor's
labels. `--device cpu` tries the check itself, with the small networks: the processor only imitates float16, in minutes.

The exit status is 0 if everything agrees, 1 if something does not, and 3 where there is no such card, so that nothing
was checked.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "LightSeg"))

import numpy as np
import torch
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.paths import resources_folder
from LightSegLib.evaluation.metrics import dice
from LightSegLib.imaging.readers import read_volume
from LightSegLib.inference.backends.agreement import AGREEMENT, CLOSENESS, FEWEST_VOXELS
from LightSegLib.inference.backends.backend_choice import libraries, processor
from LightSegLib.inference.memory import activation_memory
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.models.matching import load_state
from LightSegLib.networks import build
from reference_networks import MOST_ROUNDING, Reference, network_names
from torch import Tensor, nn

NOTHING_CHECKED = 3
RUNS = 3
SMALL = 10_000  # voxels of a network's input
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# The root mean square distance of logits, as a share of their spread: what the program demands of a faster form, which
# on a GPU is float16; bfloat16 has three bits less.
MOST_SHARE = {"float16": CLOSENESS, "bfloat16": 8 * CLOSENESS}
MODELS = ("hippocampus-mr-lightmedseg", "hippocampus-mr-unet", "brain-mr-atlas-unet")
SAMPLE = "icbm152_t1_1mm.nii.gz"
LINE = "{:<33} {:<13} {:>18} {:>9} {:>9} {:>9}  {}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        apart: how far the answer is from the expected one, in words.
        peak: most bytes on the card, without the weights for a network; None on the processor.
        foreseen: bytes that the program expects.
    """

    name: str
    precision: str
    apart: str
    agrees: bool
    seconds: float
    peak: int | None = None
    foreseen: int | None = None

    def __str__(self) -> str:
        sizes = (f"{size / 1e6:.0f} MB" if size else "" for size in (self.peak, self.foreseen))
        verdict = "agrees" if self.agrees else "DIFFERS"
        return LINE.format(self.name, self.precision, self.apart, f"{self.seconds:.3f} s", *sizes, verdict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check and return the exit status."""
    parser = argparse.ArgumentParser(description="Compare what a GPU computes with what the CPU computes.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the check itself")
    parser.add_argument("--models", nargs="*", default=MODELS, help="bundled models; default: all")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(f"Nothing was checked: torch {torch.__version__} finds no NVIDIA GPU on this machine.")
        return NOTHING_CHECKED
    print(f"{processor(device)}; {', '.join(f'{name} {number}' for name, number in libraries().items())}")
    print(LINE.format("", "", "apart", "time", "peak", "foreseen", ""))
    started, differ = time.perf_counter(), 0
    for row in itertools.chain(network_rows(device), model_rows(options.models, device)):
        print(row, flush=True)
        differ += not row.agrees
    print(f"{differ or 'None'} of them differ from what was expected, found in {time.perf_counter() - started:.0f} s.")
    return 1 if differ else 0


def network_rows(device: torch.device) -> Iterator[Row]:
    """Compare networks with the answers of their authors' code."""
    for name in network_names():
        reference = Reference(name)
        if device.type == "cpu" and math.prod(reference.facts["input_shape"]) > SMALL:
            continue
        network = build(reference.facts["network"], reference.facts["arguments"]).eval()
        load_state(network, reference.state(), "the reference")
        foreseen = activation_memory(network, reference.facts["input_shape"])
        network.deep_supervision = len(reference.facts["heads"]) > 1  # type: ignore[assignment]
        network.to(device)
        volume = reference.input().to(device)
        for precision in PRECISIONS:
            outputs, seconds, peak = measured(lambda: computed(network, volume, precision), device)  # noqa: B023
            yield Row(name, precision, *judged(reference, outputs, precision), seconds, peak, foreseen)


def judged(reference: Reference, outputs: list[Tensor], precision: str) -> tuple[str, bool]:
    """Return how far outputs are from the stored ones, and whether that is near enough for a precision."""
    if precision == "float32":
        found = reference.rounding(outputs)
        return f"{found:.2f} x rounding", found <= MOST_ROUNDING
    found = reference.share(outputs)
    return f"{100 * found:.2f} % of spread", found <= MOST_SHARE[precision]


@torch.inference_mode()
def computed(network: nn.Module, volume: Tensor, precision: str) -> list[Tensor]:
    """Return the outputs of a network, as `inference.backends.accelerate` runs it on a GPU."""
    dtype = PRECISIONS[precision]
    with (
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(volume.device.type, dtype),
    ):
        outputs = network(volume)
    return outputs if isinstance(outputs, list) else [outputs]


def measured(work: Callable[[], list[Tensor]], device: torch.device) -> tuple[list[Tensor], float, int | None]:
    """Return the outputs on the CPU, the median seconds of some runs, and the most bytes that one took on the card."""
    on_card = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if on_card else 0
    outputs, seconds = [output.float().cpu() for output in work()], []
    for _ in range(RUNS if on_card else 1):
        if on_card:
            torch.cuda.reset_peak_memory_stats(device)
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        work()
        if on_card:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated(device) - before if on_card else None
    return outputs, statistics.median(seconds), peak


def model_rows(names: Sequence[str], device: torch.device) -> Iterator[Row]:
    """Compare the labels of bundled models with those of the processor in float32."""
    volume = read_volume(resources_folder() / "SampleData" / SAMPLE)
    for name in names:
        card = find_card(name)
        expected = Segmenter(card, InferenceOptions(device="cpu", precision="float32")).segment([volume])
        for precision in ("float32", "auto"):
            segmenter = Segmenter(card, InferenceOptions(device=str(device), precision=precision))
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            started = time.perf_counter()
            result = segmenter.segment([volume])
            seconds = time.perf_counter() - started
            peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
            facts = result.provenance
            least, mean = agreement(expected.voxels, result.voxels)
            there = facts["device"].startswith(device.type)  # else the card was not up to it
            apart = f"Dice {mean:.4f} ({least:.4f})" if there else f"ran on {facts['device']}"
            form = precision if facts["computed_in"] == precision else f"{precision}: {facts['computed_in']}"
            foreseen = 1_000_000 * int(facts["memory_estimate_mb"])
            yield Row(name, form, apart, there and mean >= AGREEMENT, seconds, peak, foreseen)


def agreement(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Return the lowest and the mean Dice of the labels with at least FEWEST_VOXELS voxels; 0 where there are none."""
    values, counts = np.unique(expected, return_counts=True)
    scores = [dice(expected == value, found == value) for value in values[(values > 0) & (counts >= FEWEST_VOXELS)]]
    return (min(scores), statistics.mean(scores)) if scores else (0.0, 0.0)


if __name__ == "__main__":
    sys.exit(main())
