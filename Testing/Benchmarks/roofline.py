"""Where a patch of LightMedSeg spends its time on the CPU, beside what the processor and its memory can do.

Operations are counted while the network runs: products of convolutions and matrices, the bytes of tensors that go in
and come out, and processor seconds of the one thread that computes them, which other programs change little.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from in_process import OTHERS
from report import Report

KINDS = {
    "reductions": ("sum", "linalg_vecdot", "vecdot", "mean"),
    "copies": ("cat", "clone", "contiguous", "copy_", "index_select", "repeat", "stack", "constant_pad_nd", "pad"),
    "matrix products": ("mm", "addmm_", "linear", "matmul", "bmm"),
}
STREAM, CACHED = 100_000_000, 50_000  # numbers of an array, in the main memory and in a core's own cache
SIDE, MATRIX = 64, 2048


def roofline(report: Report) -> None:
    """Print both tables."""
    found = report.facts("roofline.py")
    print("LightMedSeg, one patch of 4x128x128x128, float32, one thread, processor seconds")
    print("| Operations | Calls | Seconds | GFLOP | GB | GFLOP/s | GB/s |\n|---|---|---|---|---|---|---|")
    for kind, (calls, seconds, flop, moved) in found["operations"].items():
        rates = f"{flop / seconds / 1e9:.0f} | {moved / seconds / 1e9:.1f}"
        print(f"| {kind} | {calls} | {seconds:.3f} | {flop / 1e9:.1f} | {moved / 1e9:.2f} | {rates} |")
    print("\n| What this computer can do | |\n|---|---|")
    for what, value in found["peaks"].items():
        print(f"| {what} | {value:.0f} |")


def operations() -> dict[str, tuple[int, float, float, float]]:
    """Calls, seconds, floating-point operations and bytes of every kind, most seconds first."""
    import torch
    from LightSegLib.networks import build
    from LightSegLib.networks.cpu.lightmedseg import LightMedSegOnCpu
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    totals: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0.0])

    def tensors(value: Any) -> Iterator[Any]:
        return (leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
            started = time.thread_time()
            result = function(*given, **(named or {}))
            seconds = time.thread_time() - started
            name = function.overloadpacket.__name__
            inputs, outputs = list(tensors(given)), list(tensors(result))
            kind, flop = "voxel by voxel", 0.0
            if "convolution" in name:
                weight = inputs[1]
                kind = "depthwise convolutions" if weight.shape[1] == 1 < weight.shape[0] else "dense convolutions"
                flop = 2.0 * outputs[0].numel() * weight[0].numel()
            else:
                kind = next((k for k, names in KINDS.items() if name in names), kind)
                if kind == "matrix products":
                    flop = 2.0 * outputs[0].numel() * given[1 if name == "addmm_" else 0].shape[-1]
            own = {tensor.untyped_storage().data_ptr() for tensor in inputs}
            made = [tensor for tensor in outputs if tensor.untyped_storage().data_ptr() not in own]
            if not made and not name.endswith("_") and "out" not in (named or {}):
                return result  # a view
            entry = totals[kind]
            for number, more in enumerate((1, seconds, flop, sum(map(_bytes, inputs + outputs)))):
                entry[number] += more
            return result

    family, arguments, size = OTHERS["lightmedseg"]
    torch.manual_seed(0)
    network, patch = LightMedSegOnCpu(build(family, arguments).eval()), torch.randn((1, *size))  # type: ignore[arg-type]
    network(patch)
    with Counting():
        network(patch)
    return dict(sorted(totals.items(), key=lambda item: -item[1][1]))  # type: ignore[arg-type]


def peaks() -> dict[str, float]:
    """What one thread reaches, and two where it is the memory that they share."""
    import torch

    found = {}
    for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        matrix = torch.randn(MATRIX, MATRIX, dtype=dtype)
        found[f"matrix product, {name}, GFLOP/s"] = 2 * MATRIX**3 / _least(lambda m=matrix: m @ m) / 1e9
        for channels in (8, 16, 32):
            last = torch.channels_last_3d
            maps = torch.randn(1, channels, SIDE, SIDE, SIDE, dtype=dtype).contiguous(memory_format=last)
            weight = torch.randn(channels, channels, 3, 3, 3, dtype=dtype).contiguous(memory_format=last)
            given = (maps, weight, None, (1, 1, 1), (1, 1, 1), (1, 1, 1), 1)
            seconds = _least(lambda given=given: torch.mkldnn_convolution(*given))
            what = f"3x3x3 convolution of {channels} channels, {name}, GFLOP/s"
            found[what] = 54 * channels**2 * SIDE**3 / seconds / 1e9
    for place, numbers, repeated in (("the main memory", STREAM, 1), ("a core's cache", CACHED, STREAM // CACHED)):
        for threads in (1, 2):
            found[f"a = b + 3 c in {place}, threads: {threads}, GB/s"] = _triad(numbers, repeated, threads)
    return found


def _triad(numbers: int, repeated: int, threads: int) -> float:
    """Gigabytes a second of all threads together; each array is counted once."""
    import torch

    arrays = [[torch.ones(numbers // threads) for _ in range(3)] for _ in range(threads)]

    def work(own: list[Any]) -> None:
        a, b, c = own
        with torch.inference_mode():
            for _ in range(repeated):
                torch.add(b, c, alpha=3.0, out=a)

    with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as together:
        seconds = _least(lambda: list(together.map(work, arrays)), time.perf_counter)
    return 12 * (numbers // threads) * threads * repeated / seconds / 1e9


def _least(work: Callable[[], object], clock: Callable[[], float] = time.thread_time) -> float:
    """Fewest seconds of five runs after one to warm up."""
    work()
    seconds = []
    for _ in range(5):
        started = clock()
        work()
        seconds.append(clock() - started)
    return min(seconds)


def _bytes(tensor: Any) -> int:
    return int(min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()))


if __name__ == "__main__":
    import json

    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        print(json.dumps({"operations": operations(), "peaks": peaks()}))
