"""A model in int8, calibrated on tiles of one volume and compared with float32 on them.

Nothing of it is kept: so what is found of a volume never depends on which other volume came first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .backends import openvino_runner
from .backends.accelerate import Model, Runner, kept_as
from .backends.agreement import dice_of_sizes
from .backends.precisions import OPENVINO8, OPENVINO32
from .backends.quantization import Range, observing, quantized
from .threads import pool

MOST_LABELS = 1 << 15


@dataclass(frozen=True)
class Quantized:
    """A model in int8.

    Attributes:
        runner: of its tiles.
        dice: mean over the labels of at least 100 voxels in all compared tiles together, beside OpenVINO's float32;
            None where there are none.
    """

    runner: Runner
    dice: float | None


@torch.inference_mode()
def quantize(
    model: Model, tiles: Sequence[Tensor], calibrating: int, threads: int, check_canceled: Callable[[], None]
) -> Quantized:
    """Return a model in int8.

    Args:
        tiles: [1, C, k, j, i], all of one size, of the volume that it is for.
        calibrating: so many of them, from the first; the others are only compared.
        threads: that may call the runner at a time.
        check_canceled: raises if the user has canceled; called between tiles.

    Raises:
        Exception: whatever OpenVINO raises for a network that it cannot convert.
    """
    patch = tuple(tiles[0].shape[2:])
    folder, name = kept_as(model, OPENVINO32, patch)
    opened = [
        openvino_runner.opened(network, tuple(tiles[0].shape), folder, f"{name}-{number}")
        for number, network in enumerate(model.networks)
    ]
    expected, ranges = _observed(model, opened, tiles, calibrating, threads, check_canceled)
    rounded = [quantized(network, own) for network, own in zip(opened, ranges, strict=True)]
    runner = Runner(OPENVINO8, [_first_output(network, threads) for network in rounded])
    sizes = torch.zeros((3, MOST_LABELS - 1), dtype=torch.long)
    with pool(threads) as together:
        compute = torch.inference_mode()(lambda tile: _labels(model.outputs(runner(tile)), model.regions))
        for labels, found in zip(expected, together.map(compute, tiles), strict=True):
            check_canceled()
            sizes = sizes + _sizes(labels, found)
    return Quantized(runner, dice_of_sizes(*sizes))


def _observed(
    model: Model,
    opened: Sequence[Any],
    tiles: Sequence[Tensor],
    calibrating: int,
    threads: int,
    check_canceled: Callable[[], None],
) -> tuple[list[Tensor], list[list[Range]]]:
    """Return the labels that float32 finds in each tile, and the ranges of each network's convolutions.

    Args:
        model: that was opened.
        opened: OpenVINO's models of the networks.
        tiles: see `quantize`, as the others.
    """
    observers = [openvino_runner.with_outputs(observing(network), threads) for network in opened]

    def observe(tile: Tensor) -> tuple[Tensor, list[np.ndarray]]:
        found = [observer(tile) for observer in observers]
        logits = torch.from_numpy(np.mean([outputs[0] for outputs in found], axis=0))
        return _labels(model.outputs(logits), model.regions), [np.reshape(outputs[1:], (-1, 2)) for outputs in found]

    expected: list[Tensor] = []
    seen: list[list[np.ndarray]] = []
    with pool(threads) as together:
        for labels, extremes in together.map(torch.inference_mode()(observe), tiles):
            check_canceled()
            expected.append(labels)
            seen.append(extremes)
    return expected, [_joined(extremes) for extremes in zip(*seen[:calibrating], strict=True)]


def _labels(logits: Tensor, regions: bool) -> Tensor:
    """Return the label of each voxel, 0 for none, of logits [1, outputs, k, j, i]; of regions, one after the other."""
    if not regions:
        return logits.argmax(1).flatten().short()
    values = torch.arange(1, logits.shape[1] + 1, dtype=torch.short).view(1, -1, 1, 1, 1)
    return ((logits > 0) * values).flatten()


def _sizes(expected: Tensor, found: Tensor) -> Tensor:
    """Return the voxels of each label, [3, MOST_LABELS]: in what is expected, in what was found, and in both."""
    both = expected[expected == found]
    return torch.stack([labels.int().bincount(minlength=MOST_LABELS)[1:] for labels in (expected, found, both)])


def _joined(extremes: Sequence[np.ndarray]) -> list[Range]:
    """Return the ranges of what tiles have shown, each [convolutions, 2]: least and greatest input."""
    lowest, highest = np.min(extremes, axis=0)[:, 0], np.max(extremes, axis=0)[:, 1]
    return [(float(low), float(high)) for low, high in zip(lowest, highest, strict=True)]


def _first_output(model: Any, threads: int) -> Callable[[Tensor], Tensor]:
    """Return what computes the logits of OpenVINO's model of a network."""
    outputs = openvino_runner.with_outputs(model, threads)
    return lambda tiles: torch.from_numpy(outputs(tiles)[0])
