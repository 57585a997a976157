"""A network in the backend that computes it, with the check that an accelerated one finds the labels of float32.

`backend_choice` lists the candidates. The check runs once, on a generated tile of the size that
the model was made for, and its outcome is kept in the user's folder; where nothing can be kept it is made again with
the same outcome.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ... import __version__
from ...core.atomic_io import atomic_write
from ...core.errors import DeviceError, LightSegError, OutputError
from ...core.i18n import tr as _
from ...core.json_file import read_json
from ...core.paths import user_folder
from ...networks.cpu.fused_modules import fuse_modules
from ...networks.linear_head import Head
from . import backend_choice, openvino_runner
from .agreement import agree, check_tile
from .devices import is_out_of_memory
from .precisions import AUTO, BFLOAT16, FLOAT16, FLOAT32, INT8, OPENVINO8, OPENVINO32

LEAST_CHECKED = 1 << 16  # voxels of the tile
RECORD = "backend_checks.json"
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}

Network = Callable[[Tensor], Tensor]


class Runner:
    """Runs tiles [B, C, k, j, i] through the networks of an ensemble: mean logits [B, outputs, k, j, i], float32.

    Args:
        backend: how it computes. On the CPU it may be called in several threads, with one tile each.
    """

    def __init__(self, backend: str, networks: Sequence[Network]) -> None:
        self.backend = backend
        self._networks = networks

    def __call__(self, tiles: Tensor) -> Tensor:
        """Return the mean logits of tiles."""
        total = self._networks[0](tiles)
        for network in self._networks[1:]:
            total = total + network(tiles)
        return total / len(self._networks) if len(self._networks) > 1 else total


@dataclass(frozen=True)
class Model:
    """The networks [C, k, j, i] -> [outputs, k, j, i] of one model, and the tile for which it was made.

    Attributes:
        patch: its voxels [k, j, i].
        identity: SHA-256 of the weights; None for a network whose backend is float32, as in training.
        signed: whether its input has values around 0, not from 0 to 1.
        regions: each output is its own label.
        head: that makes the outputs of what the networks give (see `linear_head`).
    """

    networks: Sequence[nn.Module]
    channels: int
    patch: tuple[int, int, int]
    identity: str | None
    signed: bool = True
    regions: bool = False
    head: Head | None = None

    def outputs(self, result: Tensor) -> Tensor:
        """Return the outputs [n, outputs, ...] of what the networks give."""
        return result if self.head is None else self.head(result)


def accelerate(model: Model, device: torch.device, backend: str, patch: Sequence[int], threads: int) -> Runner:
    """Return a runner of the model's tiles on `device` with a backend of `choose_backend`.

    Args:
        patch: voxels [k, j, i] of the tiles.
        threads: that may call the runner at a time.

    Raises:
        DeviceError: if OpenVINO cannot run the model after all.
    """
    if device.type != "cpu":
        return _on_gpu(model.networks, device, backend)
    _bring_back(model)
    if backend in (FLOAT32, BFLOAT16):
        return _made(model, backend, patch, threads)
    with openvino_errors():
        return _made(model, backend, patch, threads)


@contextlib.contextmanager
def openvino_errors() -> Iterator[None]:
    """State in a sentence what OpenVINO cannot do.

    Raises:
        DeviceError: for whatever OpenVINO raises.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, LightSegError) or is_out_of_memory(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise DeviceError(
            _(
                "OpenVINO cannot run this model ({reason}). Choose the precision float32, or switch OpenVINO off."
            ).format(reason=reason[:200])
        ) from error


def choose_backend(model: Model, device: torch.device, precision: str, openvino: bool) -> str:
    """Return the backend to use: the one asked for, or the fastest that suits the device and agrees.

    Args:
        precision: of `precisions.PRECISIONS`, or the backend of earlier work, of `precisions.BACKENDS`.
        openvino: whether it may be used.

    Raises:
        DeviceError: if this computer does not compute with the backend that is asked for.
    """
    if precision == INT8:
        fits = device.type == "cpu" and backend_choice.can_compute(OPENVINO8, openvino) and is_large(model)
        if fits and _Check(model, OPENVINO32).agrees():
            return OPENVINO8
        precision = AUTO
    if precision != AUTO:
        backend_choice.check_possible(precision, device, openvino)
        return precision
    if device.type != "cpu":
        return FLOAT16 if device.type == "cuda" else FLOAT32
    fast = backend_choice.fast_backends(openvino)
    if not fast or not is_large(model):
        return FLOAT32
    return next((backend for backend in fast if _Check(model, backend).agrees()), FLOAT32)


def is_large(model: Model) -> bool:
    """Return whether another backend than float32 is worth a thought on the CPU."""
    if model.identity is None:
        return False
    _bring_back(model)
    return backend_choice.is_large(model.networks[0], (1, model.channels, *model.patch))


def _bring_back(model: Model) -> None:
    """Move the networks to the CPU from a GPU whose memory did not suffice."""
    for network in model.networks:
        network.to("cpu")


def _made(model: Model, backend: str, patch: Sequence[int], threads: int, kept: bool = True) -> Runner:
    """Return the runner of a model for a backend on the CPU; kept: on the disk, for the next time."""
    if backend in (FLOAT32, BFLOAT16):
        return _torch(model.networks, backend, threads)
    folder, name = kept_as(model, backend, patch)
    place = folder if kept else None
    compiled = [
        openvino_runner.compiled(network, (1, model.channels, *patch), backend, place, f"{name}-{number}", threads)
        for number, network in enumerate(model.networks)
    ]
    return Runner(backend, compiled)


def kept_as(model: Model, backend: str, patch: Sequence[int]) -> tuple[Path, str]:
    """Return the folder with OpenVINO's models of these weights, and the name of that for tiles of a size."""
    return _folder(model), f"{_key(model, backend)}-{'x'.join(map(str, patch))}"


def _torch(networks: Sequence[nn.Module], backend: str, threads: int) -> Runner:
    """Return a runner that computes in PyTorch on the CPU."""
    dtype = torch.bfloat16 if backend == BFLOAT16 else torch.float32

    def run(network: nn.Module) -> Network:
        # in this order they share their memory
        faster: Any = _channels_last(fuse_modules(_channels_last(network), dtype))
        if hasattr(faster, "threads"):  # of a network that divides a tile among them
            faster.threads = threads
        return lambda tiles: faster(tiles.to(dtype).contiguous(memory_format=torch.channels_last_3d)).float()

    return Runner(backend, [run(network) for network in networks])


def _on_gpu(networks: Sequence[nn.Module], device: torch.device, backend: str) -> Runner:
    """Return a runner that computes on a GPU."""
    placed = [_channels_last(network.to(device)) for network in networks]

    def run(network: nn.Module) -> Network:
        def logits(tiles: Tensor) -> Tensor:
            with (
                # TF32, cuDNN's default, keeps ten bits of float32's 23.
                torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
                torch.autocast("cuda", torch.float16) if backend == FLOAT16 else contextlib.nullcontext(),
            ):
                return network(tiles.contiguous(memory_format=torch.channels_last_3d)).float()

        return logits

    return Runner(backend, [run(network) for network in placed])


def _channels_last(network: nn.Module) -> nn.Module:
    """Return the network with its kernels in the order in which convolutions take the channels last."""
    for parameter in network.parameters():
        if parameter.dim() in FORMATS:
            parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.dim()])
    return network


# --- the check ---------------------------------------------------------------------------------


class _Check:
    """Whether a backend finds the labels of float32 in a generated tile; what was found is remembered."""

    def __init__(self, model: Model, backend: str) -> None:
        self._model, self._backend = model, backend
        self._record = _folder(model) / RECORD
        self._key = _key(model, backend)

    def agrees(self) -> bool:
        """Return whether the backend finds the labels of float32, from the record if it has the answer."""
        known = self._known().get(self._key)
        if isinstance(known, bool):
            return known
        try:
            found = self._try()
        except Exception as error:  # of OpenVINO, for now or for good: nothing is known of the labels
            if is_out_of_memory(error):
                raise
            return False
        with contextlib.suppress(OutputError, OSError):  # a folder that may not be written to: it is tried every time
            self._record.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._record) as part:
                part.write_text(json.dumps({**self._known(), self._key: found}, indent=2), encoding="utf-8")
        return found

    def _known(self) -> dict[str, Any]:
        """Outcomes for these weights; none where the file is damaged."""
        try:
            known = read_json(self._record)
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _try(self) -> bool:
        """Compute a generated tile with both backends and compare the labels."""
        model = self._model
        k, j, i = (side // 2 if side % 2 == 0 else side for side in model.patch)
        half = (k, j, i)
        if math.prod(half) >= LEAST_CHECKED:
            with contextlib.suppress(RuntimeError, ValueError):  # a network that takes only the size it was made for
                return self._agrees_on(half)
        return self._agrees_on(model.patch)

    @torch.inference_mode()
    def _agrees_on(self, patch: tuple[int, int, int]) -> bool:
        """Return whether both backends find the same labels in a generated tile of a size."""
        model = self._model
        tile = check_tile(model.channels, patch, model.signed)
        expected = _made(model, FLOAT32, patch, 1)(tile)
        found = _made(model, self._backend, patch, 1, kept=False)(tile)
        return agree(model.outputs(expected), model.outputs(found), model.regions)


def _folder(model: Model) -> Path:
    """Return the folder with what is known about these weights."""
    return user_folder() / "accelerated" / str(model.identity)[:16]


def _key(model: Model, backend: str) -> str:
    """Return the hash of everything, apart from the weights, that the outcome of the check depends on."""
    network = (repr(model.networks[0]), model.channels, model.patch, model.signed, model.regions)
    facts = (__version__, backend_choice.libraries(), backend_choice.processor(), network, backend)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
