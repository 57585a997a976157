"""How a network runs fastest on a device without another result.

On the CPU the candidates are PyTorch in float32, PyTorch in bfloat16 where the processor computes in it, and OpenVINO
where it is installed. Each is tried once on a tile of a real volume beside float32: it must find the same labels, and
the fastest is kept. What was found is remembered in the user's folder under the weights' hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..catalog.store import user_folder
from ..errors import OutputError
from ..files import whole_file
from . import openvino_runner
from .inference_form import inference_form

AGREEMENT = 0.995  # mean Dice of the labels with those of float32
FLOAT32, BFLOAT16, FLOAT16 = "float32", "bfloat16", "float16"
RECORD = "found.json"
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}

Network = Callable[[Tensor], Tensor]


class Runner:
    """Runs tiles [B, C, k, j, i] through the networks of an ensemble: mean logits [B, outputs, k, j, i], float32.

    name: how it computes, for the record. shape: the only one of the tiles that `networks` take, if there is one;
    `otherwise` runs those of other shapes.
    """

    def __init__(
        self,
        name: str,
        networks: Sequence[Network],
        shape: Sequence[int] | None = None,
        otherwise: Callable[[], Runner] | None = None,
    ) -> None:
        self.name = name
        self._networks = networks
        self._shape = None if shape is None else tuple(shape)
        self._otherwise = otherwise
        self._other: Runner | None = None

    def __call__(self, tiles: Tensor) -> Tensor:
        if self._otherwise is not None and tuple(tiles.shape) != self._shape:
            self._other = self._other or self._otherwise()
            return self._other(tiles)
        total = self._networks[0](tiles)
        for network in self._networks[1:]:
            total = total + network(tiles)
        return total / len(self._networks) if len(self._networks) > 1 else total


def accelerate(
    networks: Sequence[nn.Module],
    device: torch.device,
    full_precision: bool,
    example: Callable[[], Tensor],
    identity: str | None,
    openvino: bool = True,
    regions: bool = False,
) -> tuple[Runner, list[str]]:
    """The fastest runner for `device` that finds the labels that float32 finds, and notices for the user.

    example: gives a batch of real tiles [B, C, k, j, i], as large as they will be. identity: SHA-256 of the weights;
    None for a network that is not worth trying things out, since it may soon be another. openvino: use it where it is
    installed. regions: each output is a label of its own.
    """
    if device.type != "cpu":
        return _on_gpu(networks, device, half=device.type == "cuda" and not full_precision), []
    kinds = _candidates(full_precision, openvino) if identity is not None else []
    if not kinds:
        return _torch(networks, FLOAT32), []
    return _Choice(networks, example(), str(identity), regions).fastest(kinds)


def native_bfloat16() -> bool:
    """Whether the processor itself computes in bfloat16; False where torch does not tell."""
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in tests)


def _candidates(full_precision: bool, openvino: bool) -> list[str]:
    precisions = [BFLOAT16] if native_bfloat16() and not full_precision else []
    if not (openvino and openvino_runner.installed()):
        return precisions
    return [*precisions, f"OpenVINO {(precisions or [FLOAT32])[0]}"]


def _on_gpu(networks: Sequence[nn.Module], device: torch.device, half: bool) -> Runner:
    placed = [_channels_last(network.to(device)) for network in networks]

    def run(network: nn.Module) -> Network:
        def logits(tiles: Tensor) -> Tensor:
            with torch.autocast("cuda", torch.float16) if half else contextlib.nullcontext():
                return network(tiles.contiguous(memory_format=torch.channels_last_3d)).float()

        return logits

    return Runner(FLOAT16 if half else FLOAT32, [run(network) for network in placed])


def _channels_last(network: nn.Module) -> nn.Module:
    """The network with its kernels in the order in which convolutions take the channels last."""
    for parameter in network.parameters():
        if parameter.dim() in FORMATS:
            parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.dim()])
    return network


def _torch(networks: Sequence[nn.Module], name: str) -> Runner:
    dtype = torch.bfloat16 if name == BFLOAT16 else torch.float32

    def run(network: nn.Module) -> Network:
        form = _channels_last(inference_form(_channels_last(network), dtype))  # in this order they share their memory
        return lambda tiles: form(tiles.to(dtype).contiguous(memory_format=torch.channels_last_3d)).float()

    return Runner(name, [run(network.to("cpu")) for network in networks])


class _Choice:
    """Tries candidates beside float32 on one batch of tiles, or remembers how that went."""

    def __init__(self, networks: Sequence[nn.Module], tiles: Tensor, identity: str, regions: bool) -> None:
        self._networks = networks
        self._tiles = tiles
        self._regions = regions
        self._folder = user_folder() / "accelerated" / identity[:16]
        facts = (tuple(tiles.shape), torch.__version__, torch.get_num_threads(), openvino_runner.installed())
        processor = (platform.machine(), platform.processor(), torch.backends.cpu.get_cpu_capability())
        self._key = hashlib.sha256(repr((facts, processor)).encode()).hexdigest()[:16]

    def fastest(self, kinds: Sequence[str]) -> tuple[Runner, list[str]]:
        """The runner, and what the user should know."""
        found = self._remembered()
        notices: list[str] = []
        if not set(kinds) <= set(found):
            found, notices, telling = self._try(kinds)
            if telling:
                self._remember(found)
        agreeing = {kind: seconds for kind in (FLOAT32, *kinds) if (seconds := found.get(kind)) is not None}
        best = min(agreeing, key=lambda kind: agreeing[kind])
        try:
            return self._make(best), notices
        except Exception as error:  # a cache that was damaged since, or an OpenVINO that no longer runs
            return self._make(FLOAT32), [*notices, _unusable(best, error)]

    def _make(self, kind: str) -> Runner:
        if kind in (FLOAT32, BFLOAT16):
            return _torch(self._networks, kind)
        shape, hint = tuple(self._tiles.shape), openvino_runner.HINTS[kind]
        compiled = [
            openvino_runner.compiled(network, shape, hint, self._folder, f"{self._key}-{number}")
            for number, network in enumerate(self._networks)
        ]
        return Runner(kind, compiled, shape, lambda: _torch(self._networks, FLOAT32))

    def _try(self, kinds: Sequence[str]) -> tuple[dict[str, float | None], list[str], bool]:
        """Seconds of each kind, None where its labels differ or it fails; notices; whether anything was found."""
        reference, seconds = self._timed(_torch(self._networks, FLOAT32))
        expected = self._labels(reference)
        found: dict[str, float | None] = {FLOAT32: seconds}
        notices = []
        for kind in kinds:
            try:
                logits, seconds = self._timed(self._make(kind))
            except Exception as error:  # whatever a library of somebody else's says
                found[kind] = None
                notices.append(_unusable(kind, error))
                continue
            dice = mean_dice(expected, self._labels(logits))
            agrees = dice >= AGREEMENT if dice is not None else bool(torch.equal(expected, self._labels(logits)))
            found[kind] = seconds if agrees else None
            if not agrees:
                notices.append(
                    f"{kind} finds other labels with this model than float32 (Dice {dice or 0:.3f}), so it is not used."
                )
        return found, notices, bool(expected.any())

    def _timed(self, runner: Runner) -> tuple[Tensor, float]:
        started = time.perf_counter()
        with torch.inference_mode():
            logits = runner(self._tiles)
        return logits, time.perf_counter() - started

    def _labels(self, logits: Tensor) -> Tensor:
        """Masks [labels, ...] of everything but the background."""
        outputs = logits.movedim(1, 0)
        if self._regions:
            return outputs > 0
        return torch.stack([outputs.argmax(0) == label for label in range(1, len(outputs))])

    def _remembered(self) -> dict[str, float | None]:
        found = self._record().get(self._key)
        return found if isinstance(found, dict) else {}

    def _record(self) -> dict[str, Any]:
        """What is known of these weights, by circumstances; nothing where the file is damaged."""
        try:
            known = json.loads((self._folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _remember(self, found: dict[str, float | None]) -> None:
        with contextlib.suppress(OutputError, OSError):  # a folder that may not be written to: it is tried every time
            self._folder.mkdir(parents=True, exist_ok=True)
            with whole_file(self._folder / RECORD) as part:
                part.write_text(json.dumps({**self._record(), self._key: found}, indent=2), encoding="utf-8")


def mean_dice(expected: Tensor, found: Tensor) -> float | None:
    """Mean over the labels of masks [labels, ...] that are in either; None where there are none."""
    expected, found = expected.flatten(1), found.flatten(1)
    sizes = expected.sum(1) + found.sum(1)
    there = sizes > 0
    if not bool(there.any()):
        return None
    return float((2 * (expected & found).sum(1)[there] / sizes[there]).mean())


def _unusable(kind: str, error: Exception) -> str:
    words = str(error).strip().splitlines() or [type(error).__name__]
    return f"{kind} cannot run this model ({words[-1][:200]}), so PyTorch in float32 was used."
