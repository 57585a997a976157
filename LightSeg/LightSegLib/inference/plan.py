"""Ways to run a network over a volume, and the memory that each takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..catalog.card import Inference
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..networks.linear_head import Head
from .processing.preprocess import NetworkInput
from .sliding_window import SLAB_ROWS, TileSampler

BATCH_VOXELS = 320_000  # of small tiles that are one batch on a GPU
MARGIN = 1.3  # of a pass's memory over its tensors: what kernels take for themselves
WAITING_SLABS = 2  # finished rows that may wait to become labels


@dataclass(frozen=True)
class ExecutionPlan:
    """A way to run a network over a volume.

    Attributes:
        tiles: how many at a time, in threads on the CPU, in a batch on a GPU.
        sums: where logits are added up: on the device, in memory, on disk.
    """

    device: torch.device
    tiles: int
    sums: str = "device"

    @property
    def batch(self) -> int:
        """Tiles that pass through the network together."""
        return 1 if self.device.type == "cpu" else self.tiles

    @property
    def description(self) -> Message:
        """The plan as text for the user."""
        tiles = _("one tile at a time")
        if self.tiles > 1:
            tiles = _("{count} tiles at a time").format(count=self.tiles)
        if self.sums == "device":
            return _("on {device}, {tiles}").format(device=self.device, tiles=tiles)
        return _("on {device}, {tiles}, with intermediate results {place}").format(
            device=self.device, tiles=tiles, place=SUMS[self.sums]
        )


SUMS = {"memory": _("in the main memory"), "disk": _("on disk")}


def execution_plans(
    device: torch.device, sampler: TileSampler, threads: int, batches: bool = True
) -> list[ExecutionPlan]:
    """Return plans with the same result, fastest first, each needing less of the device's memory.

    Args:
        threads: for tiles side by side on the CPU.
        batches: let small tiles run together on a GPU, which rounds otherwise.
    """
    if device.type == "cpu":
        most = min(threads, len(sampler))
        counts = [most // divisor for divisor in (1, 2, 4, 8, 16, 32, 64) if most // divisor > 1]
        return [
            *(ExecutionPlan(device, count) for count in counts),
            ExecutionPlan(device, 1),
            ExecutionPlan(device, 1, "disk"),
        ]
    batch = max(1, BATCH_VOXELS // math.prod(sampler.patch)) if batches else 1
    ways = [ExecutionPlan(device, size) for size in dict.fromkeys((batch, 1))]
    return [*ways, ExecutionPlan(device, 1, "memory"), *execution_plans(torch.device("cpu"), sampler, threads)]


@dataclass(frozen=True)
class Workload:
    """The memory that a run needs, apart from its plan.

    Attributes:
        outputs: of the network.
        confidence: whether probabilities are wanted, too.
        one_pass: bytes that the network holds for one tile (see `memory.activation_memory`).
        sums: of a tile's logits, over mirror images and over the networks of an ensemble.
        unnamed: outputs without a label (see `Decision`).
        head: that makes the outputs of what is added up (see `linear_head`).
        calibration: bytes that int8 takes on the CPU (see `int8.calibration_memory`), 0 where it is not wanted.
    """

    outputs: int
    confidence: bool = False
    one_pass: int = 0
    sums: int = 0
    unnamed: tuple[int, ...] = ()
    head: Head | None = None
    calibration: int = 0

    @property
    def summed(self) -> int:
        """Return the channels that are added up."""
        return self.outputs if self.head is None else self.head.channels


def bytes_needed(plan: ExecutionPlan, work: Workload, prepared: NetworkInput, sampler: TileSampler) -> int:
    """Return the memory of the plan's device that a run takes, beyond the input and the weights."""
    _, height, width = prepared.shape
    depth, outputs = sampler.tile_size[0], work.summed
    needed = plan.tiles * (int(MARGIN * work.one_pass) + 2 * 4 * work.sums * outputs * math.prod(sampler.patch))
    if plan.sums == "device":
        needed += 4 * (outputs + 1) * (depth + (WAITING_SLABS + 2) * SLAB_ROWS) * height * width
    if plan.device.type == "cpu":  # tiles that wait for their turn, the rows of these and of the next, the labels
        needed += 4 * (plan.tiles + 1) * (len(prepared.channels) + outputs) * math.prod(sampler.patch)
        rows = 4 * (2 * len(prepared.channels) * depth + depth + 3 * outputs * SLAB_ROWS) * height * width
        needed += rows + (2 if work.confidence else 1) * math.prod(prepared.full_shape)
        needed += prepared.bytes_to_restore(work.outputs)
        if work.calibration:  # and what is compared of the tiles that are computed at a time
            needed += work.calibration + 4 * plan.tiles * outputs * math.prod(sampler.patch)
    return needed


def make_sampler(prepared: NetworkInput, rules: Inference) -> TileSampler:
    """Return the tiles of a model on a prepared volume."""
    return TileSampler(prepared.shape, rules.patch_size, rules.overlap, rules.pad_to_patch)
