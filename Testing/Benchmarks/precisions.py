"""One patch of FLARE24's U-Net in every precision that this processor and its libraries have, one thread each.

The precisions take turns, so that what else the computer does meets them all. `ONEDNN_MAX_CPU_ISA` shows less capable
processors.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import Report

PATCH = (96, 128, 128)
ROUNDS = 5
LIMITS = ("", "AVX512_CORE_VNNI", "AVX2")  # of the instructions, "" for none
INT8_FASTER = {"": 3.0, "AVX512_CORE_VNNI": 3.0, "AVX2": 2.0}  # than OpenVINO's float32


def precisions(report: Report) -> None:
    """Print a table for each set of instructions."""
    for limit in LIMITS:
        os.environ["ONEDNN_MAX_CPU_ISA"] = limit or "ALL"
        try:
            found = report.facts("precisions.py")
        finally:
            del os.environ["ONEDNN_MAX_CPU_ISA"]
        print(f"\nFLARE24's U-Net, a patch of {'x'.join(map(str, PATCH))}, one thread; {found['processor']}, {limit}")
        seconds = found["seconds"]
        base = seconds.get("OpenVINO float32", seconds["float32"])
        print("| | Seconds | Beside OpenVINO's float32 |\n|---|---|---|")
        for name, value in seconds.items():
            print(f"| {name} | {value:.2f} | {base / value:.2f} times as fast |", flush=True)
        if int8 := seconds.get("OpenVINO int8"):
            what = f"Int8 over OpenVINO's float32, {limit or 'all instructions'}"
            report.claim(what, base / int8, INT8_FASTER[limit], "", at_least=True)


def main() -> None:
    """Print the median seconds of each precision, as JSON."""
    import torch
    from LightSegLib.inference.backends import backend_choice
    from LightSegLib.inference.backends.accelerate import Model, accelerate
    from LightSegLib.inference.backends.agreement import check_tile
    from LightSegLib.inference.backends.precisions import BACKENDS, OPENVINO8
    from LightSegLib.inference.int8 import quantize
    from models import network_of, write_benchmark_model

    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIGHTSEG_WEIGHTS"] = folder
        network = network_of(write_benchmark_model(Path(folder), "flare-sized"))
        model = Model([network], 1, PATCH, "0" * 64)
        tile, device = check_tile(1, PATCH, signed=True), torch.device("cpu")
        torch.set_num_threads(1)
        runners: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
        for backend in BACKENDS:
            with_openvino = "OpenVINO" in backend
            if backend == "float16" or not backend_choice.can_compute(backend, with_openvino):
                continue
            if backend == OPENVINO8:
                runners[backend] = quantize(model, [tile, tile.flip(2)], 1, lambda: None).runner
            else:
                runners[backend] = accelerate(model, device, backend, PATCH, 1)
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        with torch.inference_mode():
            for _round in range(ROUNDS + 1):
                for name, run in runners.items():
                    began = time.perf_counter()
                    run(tile)
                    seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first loads kernels
    print(json.dumps({"processor": backend_choice.processor(), "seconds": medians}))


if __name__ == "__main__":
    main()
