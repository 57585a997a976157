"""How fast a model is on this machine, and how much memory it takes."""

from __future__ import annotations

import statistics
import time

import numpy as np

from ..catalog.card import Card
from ..core.system import peak_memory
from ..imaging.geometry import Geometry
from ..imaging.volume import Volume
from ..inference.options import InferenceOptions
from ..inference.segmenter import Segmenter

SHAPE = (64, 80, 64)
RUNS = 5


def benchmark_model(card: Card, device: str = "auto") -> dict[str, str]:
    """Times `card` on a generated region of 64 x 80 x 64 voxels at 1 mm; the facts by name, ready to print."""
    random = np.random.default_rng(0)
    geometry = Geometry(SHAPE)
    volumes = [Volume(random.normal(size=SHAPE).astype(np.float32), geometry, name) for name in card.channels]
    segmenter = Segmenter(card, InferenceOptions(device))
    seconds = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        used_device = segmenter.segment(volumes).provenance["device"]
        seconds.append(time.perf_counter() - started)
    first, *others = seconds
    peak = peak_memory()
    return {
        "Model": card.id,
        "Device": used_device,
        "Region": " x ".join(map(str, SHAPE)) + " voxels",
        "First run, model loaded": f"{first:.2f} s",
        f"Median of {RUNS} runs": f"{statistics.median(others):.3f} s",
        "Peak memory": "unknown" if peak is None else f"{peak / (1 << 20):.0f} MiB",
    }
