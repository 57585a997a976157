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
LIMITS = ("", "AVX512_CORE_VNNI")  # of the instructions; "" for no limit
INT8_FASTER = {"AVX-512": 3.0, "AVX2": 2.0}  # than OpenVINO's float32; of AVX-512 with VNNI


def precisions(report: Report) -> None:
    """Print a table for all instructions that there are, and one for no more than VNNI."""
    from LightSegLib.inference.backends.precisions import OPENVINO8, OPENVINO32

    for limit in LIMITS:
        found = report.facts("precisions.py", instructions=limit)
        seconds, instructions = found["seconds"], limit or "all instructions"
        patch = "x".join(map(str, PATCH))
        print(f"\nFLARE24's U-Net, a patch of {patch}, one thread; {found['processor']}, {instructions}")
        what = f"Int8 over OpenVINO's float32, {instructions}"
        if OPENVINO32 not in seconds:
            report.skip(what, "OpenVINO does not run here")
            continue
        print("| | Seconds | Beside OpenVINO's float32 |\n|---|---|---|")
        for name, value in seconds.items():
            print(f"| {name} | {value:.2f} | {seconds[OPENVINO32] / value:.2f} times as fast |", flush=True)
        goal = next(goal for word, goal in INT8_FASTER.items() if word in found["processor"])
        report.claim(what, seconds[OPENVINO32] / seconds[OPENVINO8], goal, "", at_least=True)
        if "AVX-512" not in found["processor"]:  # there is nothing to leave out
            return


def main() -> None:
    """Print the median seconds of each precision, as JSON."""
    import torch
    from LightSegLib.inference.backends import backend_choice
    from LightSegLib.inference.backends.accelerate import Model, accelerate
    from LightSegLib.inference.backends.agreement import check_tile
    from LightSegLib.inference.backends.precisions import BACKENDS, FLOAT16, OPENVINO8
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
            if backend == FLOAT16 or not backend_choice.can_compute(backend, openvino=True):
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
