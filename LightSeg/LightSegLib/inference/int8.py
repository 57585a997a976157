"""A model in int8, calibrated on tiles of one volume and compared with float32 on them.

Nothing of it is kept: so what is found of a volume never depends on which other volume came first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .backends import openvino_runner
from .backends.accelerate import Model, Runner, kept_as
from .backends.agreement import dice_of_sizes
from .backends.precisions import OPENVINO8, OPENVINO32
from .backends.quantization import Range, observing, quantized
from .sliding_window import SLAB_ROWS
from .threads import pool

COMPARED = 4  # tiles of a volume, in float32 and in int8
CALIBRATING, HELD_OUT = slice(0, None, 2), slice(1, None, 2)  # of these, each from two heights
MODELS = 5  # times the weights: to convert them, as OpenVINO reads them, as float32 and as int8 compute them
MOST_LABELS = 1 << 15


@dataclass(frozen=True)
class Quantized:
    """A model in int8.

    Attributes:
        runner: of its tiles.
        dice: mean over the labels of at least 100 voxels, beside OpenVINO's float32: in all compared tiles together, or
            in the held-out ones alone where that is lower; None where either have none of these.
    """

    runner: Runner
    dice: float | None


def calibration_memory(model: Model, patch: Sequence[int], outputs: int) -> int:
    """Return the bytes that int8 takes beside the passes of tiles: its models, and the compared tiles with labels.

    Args:
        patch: voxels [k, j, i] of the tiles.
        outputs: of the model.
    """
    weights = sum(value.nbytes for network in model.networks for value in network.parameters())
    labels = 2 * (outputs if model.regions else 1)
    return MODELS * weights + COMPARED * (4 * model.channels + labels) * math.prod(patch)


@torch.inference_mode()
def quantize(model: Model, tiles: Sequence[Tensor], threads: int, check_canceled: Callable[[], None]) -> Quantized:
    """Return a model in int8.

    Args:
        tiles: [1, C, k, j, i], all of one size, of the volume that it is for; those HELD_OUT are only compared.
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
    expected, ranges = _observed(model, opened, tiles, threads, check_canceled)
    rounded = [quantized(network, own) for network, own in zip(opened, ranges, strict=True)]
    runner = Runner(OPENVINO8, [_first_output(network, threads) for network in rounded])
    sizes: list[Tensor] = []
    with pool(threads) as together:
        compute = torch.inference_mode()(lambda tile: _labels(model, runner(tile)))
        for labels, found in zip(expected, together.map(compute, tiles), strict=True):
            check_canceled()
            sizes.append(_sizes(labels, found))
    everywhere, held_out = (dice_of_sizes(*torch.stack(some).sum(0)) for some in (sizes, sizes[HELD_OUT]))
    return Quantized(runner, None if everywhere is None or held_out is None else min(everywhere, held_out))


def _observed(
    model: Model,
    opened: Sequence[Any],
    tiles: Sequence[Tensor],
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
        extremes: list[np.ndarray] = []

        def logits(observer: Callable[[Tensor], list[np.ndarray]], tiles: Tensor) -> Tensor:
            first, *others = observer(tiles)
            extremes.append(np.reshape(others, (-1, 2)))
            return torch.from_numpy(first)

        runner = Runner(OPENVINO32, [partial(logits, observer) for observer in observers])
        return _labels(model, runner(tile)), extremes

    expected: list[Tensor] = []
    seen: list[list[np.ndarray]] = []
    with pool(threads) as together:
        for labels, extremes in together.map(torch.inference_mode()(observe), tiles):
            check_canceled()
            expected.append(labels)
            seen.append(extremes)
    return expected, [_joined(extremes) for extremes in zip(*seen[CALIBRATING], strict=True)]


def _labels(model: Model, result: Tensor) -> Tensor:
    """Return the labels of what the networks give for a tile, a few rows at a time: outputs may be many."""
    return torch.cat([_decided(model.outputs(rows), model.regions) for rows in result.split(SLAB_ROWS, dim=2)])


def _decided(logits: Tensor, regions: bool) -> Tensor:
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
