"""Networks compiled by OpenVINO, where that is installed; what was converted once is kept on disk.

OpenVINO's package for telemetry is kept from being loaded, so nothing is sent.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.leftovers import temporary_folder
from ...core.packages import installed_version

TELEMETRY = "openvino_telemetry"
# In the text of torch's traces: "Float(1, 32, 48, strides=[...], device=cpu)", and numbers that tell classes apart.
SIZES_AND_NAMES = re.compile(r"\b(Float|Double|Long|Int|Bool)\([^)]*\)|___torch_mangle_\d+\.")
HINTS = {"OpenVINO float32": "f32", "OpenVINO bfloat16": "bf16"}


def installed() -> str | None:
    """OpenVINO's version; None where it is not installed."""
    return installed_version("openvino")


def compiled(
    network: nn.Module, shape: Sequence[int], backend: str, folder: Path | None, name: str, threads: int
) -> Callable[[Tensor], Tensor]:
    """Return the network for inputs [B, C, k, j, i] of exactly this shape on the CPU; float32 in and out.

    Args:
        backend: one of HINTS.
        folder: where the converted network `name` and OpenVINO's own cache are kept; None for nowhere.
        threads: in which it may be called at a time; each call is computed in one thread, so that rounding does not
            depend on their number. Raises whatever OpenVINO raises for a network that it cannot convert.
    """
    core, settings = _core(), _settings(backend, threads)
    if folder is None:
        model = core.compile_model(_converted(network, shape), "CPU", settings)
    else:
        model = _from_folder(core, network, shape, folder, name, settings)
    outputs = _requests(model)
    return lambda tiles: torch.from_numpy(outputs(tiles)[0])


def opened(network: nn.Module, shape: Sequence[int], folder: Path, name: str) -> Any:
    """Return OpenVINO's model of the network, to be changed and given to `with_outputs`; kept as by `compiled`."""
    file = folder / f"{name}.xml"
    if not file.is_file():
        converted = _converted(network, shape)
        try:
            _save(converted, file)
        except (OSError, RuntimeError):
            return converted
    try:
        return _core().read_model(str(file))
    except RuntimeError:  # damaged
        return _converted(network, shape)


def with_outputs(model: Any, threads: int) -> Callable[[Tensor], list[np.ndarray]]:
    """Return what computes all outputs of OpenVINO's model of a network, in float32 but for what it says itself."""
    return _requests(_core().compile_model(model, "CPU", _settings("OpenVINO float32", threads)))


def _settings(backend: str, threads: int) -> dict[str, Any]:
    """Return how OpenVINO shall compute: each call in one thread."""
    return {
        "INFERENCE_PRECISION_HINT": HINTS[backend],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,
    }


def _requests(model: Any) -> Callable[[Tensor], list[np.ndarray]]:
    """Return what computes the outputs of a compiled model, in as many threads at a time as it was compiled for."""
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()  # requests, each with memory of its own

    def run(tiles: Tensor) -> list[np.ndarray]:
        try:
            request = free.get_nowait()
        except queue.Empty:
            request = model.create_infer_request()
        try:
            found = request.infer({0: tiles.contiguous().numpy()}, share_inputs=True)
            return [np.array(found[output]) for output in model.outputs]
        finally:
            free.put(request)

    return run


def _from_folder(
    core: Any, network: nn.Module, shape: Sequence[int], folder: Path, name: str, settings: dict[str, Any]
) -> Any:
    """Compiled from the files of an earlier time, or from new ones; a damaged file is replaced."""
    cached = {**settings, "CACHE_DIR": str(folder)}
    file = folder / f"{name}.xml"
    if file.is_file():
        with contextlib.suppress(RuntimeError):
            return core.compile_model(str(file), "CPU", cached)
        with contextlib.suppress(OSError):  # of a folder that may not be written to
            file.unlink()
    converted = _converted(network, shape)
    try:
        _save(converted, file)
        return core.compile_model(str(file), "CPU", cached)
    except (OSError, RuntimeError):  # a full disk or a folder that may not be written to
        return core.compile_model(converted, "CPU", settings)


def _save(converted: Any, file: Path) -> None:
    """Write OpenVINO's model of a network, whole or not at all.

    Raises:
        OSError: for a full disk or a folder that may not be written to.
        RuntimeError: for the same, as OpenVINO reports it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(parent=file.parent) as part:
        _openvino().save_model(converted, str(part / file.name), compress_to_fp16=False)
        (part / file.with_suffix(".bin").name).replace(file.with_suffix(".bin"))
        (part / file.name).replace(file)


def _converted(network: nn.Module, shape: Sequence[int]) -> Any:
    """OpenVINO's model of the network, for inputs of this shape.

    Tracing computes the network once. Where the traces of two small inputs show that the size of the input decides
    nothing but sizes, one of them is taken; else one of the whole input.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns that checks of sizes become constants
        traced = _small_trace(network, shape)
        if traced is None:
            return _from_trace(_traced(network, shape), None)
        model = _from_trace(traced, [*shape[:2], *[-1 for _ in shape[2:]]])
        model.reshape(list(shape))
        return model


def _traced(network: nn.Module, shape: Sequence[int]) -> Any:
    """Return torch's trace of the network."""
    with torch.inference_mode(False), torch.no_grad():
        return torch.jit.trace(network, torch.zeros(tuple(shape)), check_trace=False)


def _small_trace(network: nn.Module, shape: Sequence[int]) -> Any:
    """Return a trace that holds for inputs of any size; None where the network looks at the size, or none is small."""
    *first, last = shape[2:]
    if any(side % 4 and side > 1 for side in shape[2:]):
        return None
    sizes = [  # every side that is not 1 differs
        [*shape[:2], *[max(1, side // one) for side in first], max(1, last // other)] for one, other in ((4, 2), (2, 4))
    ]
    try:
        traces = [_traced(network, size) for size in sizes]
    except (RuntimeError, ValueError):  # too small for its strides, or not of the size that it was made for
        return None
    texts = [SIZES_AND_NAMES.sub("", str(trace.inlined_graph)) for trace in traces]
    # The numbers of a tensor that is part of a graph are not in its text.
    return traces[0] if texts[0] == texts[1] and "<Tensor>" not in texts[0] else None


def _from_trace(traced: Any, shape: Sequence[int] | None) -> Any:
    """Return OpenVINO's model of torch's trace, for inputs of a shape, -1 for any length, or None of its own."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    decoder = TorchScriptPythonDecoder(traced)  # which must outlive what is loaded from it
    frontend = FrontEndManager().load_by_framework("pytorch")
    loaded = frontend.load(decoder)
    if shape is not None:
        loaded.set_partial_shape(loaded.get_inputs()[0], _openvino().PartialShape(list(shape)))
    return frontend.convert(loaded)


@functools.cache
def _core() -> Any:
    """Return OpenVINO's core, one for the life of the process.

    With the last core OpenVINO's CPU plugin would be unloaded. If that happened in another thread, the stack on which
    it lets this one handle signals would be gone, and the next signal that Python handles would end the process.
    """
    openvino = _openvino()
    # The first tensor of an array makes OpenVINO look for numpy. Two threads that do so at a time wait for each other
    # forever, one for Python's lock and one for OpenVINO's.
    openvino.Tensor(np.zeros(1, np.float32))
    return openvino.Core()


def _openvino() -> Any:
    """Return the package, loaded without its telemetry."""
    if "openvino" in sys.modules or TELEMETRY in sys.modules:
        import openvino

        return openvino
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino

        return openvino
    finally:
        del sys.modules[TELEMETRY]
