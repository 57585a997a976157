"""Which backend of a network computes: a rule from facts about the model and the processor, never a stop-watch.

A backend is a precision and the program that computes in it. On the CPU float32 in PyTorch is the backend that always
works and that others are measured against. Another one is chosen only where it is known to win clearly on this kind of
processor (`GAINS`), and where the network is large enough for that to matter; `accelerate` then checks that it finds
the same labels. So the same model on the same machine is always computed with the same backend.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import nn

from ...core.errors import DeviceError
from ...core.i18n import tr as _
from ...core.system import processor_name
from . import openvino_runner
from .multiply_adds import counted, multiply_adds
from .precisions import BFLOAT16, FLOAT16, FLOAT32, OPENVINO8, OPENVINO16, OPENVINO32

LEAST_GAIN = 1.3  # times as fast as float32 must a backend be
CLEARLY = 2  # times as much as is enough; a part of a tile is no more exact
BY_OPENVINO = (OPENVINO32, OPENVINO16, OPENVINO8)
PADDED = 16  # voxels, to multiples of which some networks pad
LITTLE_WORK = 10_000_000_000  # multiply-adds of a tile; less takes a fraction of a second with any backend

# Time of PyTorch's float32 over that of the backend, one patch of FLARE24's U-Net: by two threads of a Xeon (AMX,
# AVX-512; by one thread 6.5, 2.7 and 1.4, the same order), on one core of a Xeon with bfloat16 but without AMX
# (processor time, the least of three, beside others: provisional, one busy machine), and on one core of an EPYC (AVX2,
# Zen 3).
GAINS = {
    "AMX": {OPENVINO16: 3.9, BFLOAT16: 2.0, OPENVINO32: 1.85},
    "bfloat16": {OPENVINO32: 1.33, OPENVINO16: 0.78, BFLOAT16: 0.71},
    "AVX-512": {OPENVINO32: 1.85},
    "AVX2": {OPENVINO32: 1.37},
}
# The values of ONEDNN_MAX_CPU_ISA with which the processor's bfloat16 is not used.
WITHOUT_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
WITHOUT_BFLOAT16 = (*WITHOUT_AVX512, "AVX512_CORE", "AVX512_CORE_VNNI")


def processor(device: torch.device | None = None) -> str:
    """Return the processor as far as it decides the digits: "x86_64 AVX-512 AMX, Intel(R) Xeon(R) ...", or a GPU."""
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    kind = " ".join(word for word in (platform.machine(), *_instructions()) if word)
    return ", ".join(word for word in (kind, processor_name()) if word)


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that compute."""
    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    found = {"torch": torch.__version__, "openvino": openvino_runner.installed(), "cudnn": cudnn and str(cudnn)}
    for name in ("numpy", "scipy", "SimpleITK"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # Slicer brings some without their metadata
            found[name] = str(getattr(__import__(name), "__version__", "unknown"))
    return {name: number for name, number in found.items() if number}


def fast_backends(openvino: bool) -> list[str]:
    """Return the backends that are known to be clearly faster than float32 on this processor, the fastest first.

    Args:
        openvino: whether it may be used, where it is installed.
    """
    known = next((gains for word, gains in GAINS.items() if word in _instructions()), {})
    clear = [backend for backend, gain in known.items() if gain >= LEAST_GAIN and can_compute(backend, openvino)]
    return sorted(clear, key=lambda backend: -known[backend])


def is_large(network: nn.Module, shape: Sequence[int]) -> bool:
    """Return whether an input [1, C, k, j, i] takes at least LITTLE_WORK, mostly without the count of all of it.

    The network may pad a small input, which then counts with its padded size.
    """
    small = [*shape[:2], *(max(1, side // 4) for side in shape[2:])]
    padded = [PADDED * math.ceil(side / PADDED) if side > 1 else 1 for side in small[2:]]
    with contextlib.suppress(RuntimeError, ValueError):  # too small for its strides, or not the size it was made for
        work = counted(network, torch.zeros(small))
        if work.all * math.prod(shape[2:]) / math.prod(padded) >= CLEARLY * LITTLE_WORK:
            return True
        larger = math.prod(shape[2:]) / math.prod(small[2:])
        # convolutions grow with the voxels, attention with their square at most
        if CLEARLY * (work.convolutions * larger + work.products * larger**2) < LITTLE_WORK:
            return False
    return multiply_adds(network, shape) >= LITTLE_WORK


def check_possible(backend: str, device: torch.device, openvino: bool) -> None:
    """Check that this computer can compute with a backend.

    Args:
        openvino: whether it may be used.

    Raises:
        DeviceError: if this computer does not compute with a backend that is asked for.
    """
    own = {"cpu": (BFLOAT16, OPENVINO32, OPENVINO16, OPENVINO8), "cuda": (FLOAT16,)}.get(device.type, ())
    if backend == FLOAT32 or (backend in own and can_compute(backend, openvino)):
        return
    without = "" if openvino or backend not in BY_OPENVINO else " without OpenVINO"
    raise DeviceError(
        _(
            "This computer ({processor}, on {device}) cannot compute in {backend}{without}. "
            "Choose the precision float32, which every computer supports, "
            "or use a computer with the same processor and OpenVINO."
        ).format(processor=processor(), device=device, backend=backend, without=without)
    )


def native_bfloat16() -> bool:
    """Return whether the processor computes in bfloat16 and oneDNN may use that; False if torch does not know."""
    limit = _isa_limit()
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return limit not in WITHOUT_BFLOAT16 and any(getattr(torch.cpu, name, lambda: False)() for name in tests)


def can_run_openvino() -> bool:
    """Return False if oneDNN is limited below AVX-512: OpenVINO obeys that in part, and ends the process."""
    return _isa_limit() not in WITHOUT_AVX512


def can_compute(backend: str, openvino: bool) -> bool:
    """Return whether this CPU, with its libraries, can compute with a backend."""
    if backend in BY_OPENVINO and not (openvino and openvino_runner.installed() and can_run_openvino()):
        return False
    return backend not in (BFLOAT16, OPENVINO16) or native_bfloat16()


def _isa_limit() -> str:
    """Return the instruction set that oneDNN is limited to."""
    return (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL").upper()


def _instructions() -> list[str]:
    """Return the vector and matrix instructions that PyTorch may use, such as ["AVX-512", "AMX"]."""
    capability = {"AVX2": "AVX2", "AVX512": "AVX-512"}.get(torch.backends.cpu.get_cpu_capability(), "")
    allowed = _isa_limit() == "ALL" or "AMX" in _isa_limit()
    has_amx = allowed and getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    if not native_bfloat16():
        return [capability] if capability else []
    return [word for word in (capability, "AMX" if has_amx else "bfloat16") if word]
