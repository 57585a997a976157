"""MeshNet over a whole volume in bounded memory, row by row, without computing anything twice but a few lines.

Every layer keeps the rows that the next one still needs: twice its dilation and a few. A layer is computed where the
wanted voxels see it and where the image, within what it sees of it, is not the air around; there it is as in an image
of air. The result is that of the whole volume at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.cpu.winograd import OUTPUTS, Scratch, elu_
from ..networks.meshnet import MeshNet
from .kept_rows import Air, Box, Kept
from .row_layers import PAIR, Layer, is_quick, lines_of_piece, row_layers

Source = Callable[[int, int], Tensor]  # rows from, to before -> float32 [rows, j, i]
Decide = Callable[[Tensor, int, int, int], None]  # logits [outputs, j, i] of a row, the row, and where they begin: j, i
DECIDED = 2  # logits in memory while a label is decided: as they come, and their probabilities


@dataclass(frozen=True)
class Computer:
    """What computes.

    Attributes:
        pool: takes pieces of work.
        device: where they are computed.
        dtype: of weights and features.
        step: rows that are done at a time.
        threads: of the pool, each with a piece of work in memory.
    """

    pool: Executor
    device: torch.device
    dtype: torch.dtype = torch.float32
    step: int = 4
    threads: int = 1


class HasRows(Protocol):
    """Features of which parts of rows can be had."""

    def part(self, row: int, j0: int, j1: int, i0: int, i1: int) -> Tensor:
        """Values [j, i, channels] of a part of a row."""


class ByRows:
    """A MeshNet without a norm over the volume, on a grid `shape` [k, j, i].

    wanted: boxes of the rows in which logits are wanted. varied: boxes outside of which the image has the value `air`
    everywhere.
    """

    def __init__(
        self,
        network: MeshNet,
        wanted: np.ndarray,
        varied: np.ndarray,
        air: float,
        shape: Sequence[int],
        computer: Computer,
    ) -> None:
        self._shape, self._computer = tuple(shape), computer
        dtype, device = computer.dtype, computer.device
        like = torch.empty(0, dtype=dtype, device=device)
        widest: int = max(network.arguments["dilations"])
        channels: int = max(network.arguments["channels"], network.arguments["in_channels"])
        quick = is_quick(like)
        groups = [OUTPUTS * dilation if quick else 1 for dilation in network.arguments["dilations"]]
        lines = max(map(lines_of_piece, groups))
        scratch = Scratch(PAIR, lines, shape[2] + 2 * widest, channels)
        self._layers = row_layers(network, (wanted, varied), air, shape, like, scratch)
        features = PAIR * lines * shape[2] * channels * like.element_size()  # that a piece gives
        logits = DECIDED * 4 * lines * shape[2] * int(network.arguments["classes"])
        before = gathered_bytes(lines, widest, shape, channels * like.element_size())
        own = scratch.nbytes + features if quick else before + 2 * features  # as they are, and activated
        self._thread_bytes = own + logits
        self._activation: Callable[[Tensor], Tensor] = network.activation
        if quick and network.arguments["activation"] == "elu":
            self._activation = partial(elu_, scratch=scratch)
        image = Air(torch.full((1, 1, 1, 1), air, dtype=dtype, device=device), 0, shape)
        self._image = self._keep(self._layers[0], image)
        for layer, following in zip(self._layers, self._layers[1:], strict=False):
            layer.kept = self._keep(following, layer.air)
        self._read = 0
        self._head = network.classifier.weight.detach()[:, :, 0, 0, 0].T.to(device, dtype).contiguous()
        assert network.classifier.bias is not None
        self._head_bias = network.classifier.bias.detach().to(device)

    @property
    def nbytes(self) -> int:
        """Memory of the rows that are kept, and of the piece of work that each thread has."""
        kept = self._image.nbytes + sum(layer.kept.nbytes for layer in self._layers if layer.kept)
        return kept + self._computer.threads * self._thread_bytes

    @torch.inference_mode()
    def run(self, source: Source, decide: Decide, report: Callable[[int], None]) -> None:
        """Compute all wanted logits; `decide` is called in the pool's threads. report: gets the rows that are done."""
        depth, step = self._shape[0], self._computer.step
        for row in range(0, depth, step):
            self._advance(len(self._layers) - 1, min(row + step, depth), source, decide)
            report(min(row + step, depth))

    def _keep(self, layer: Layer, air: Air) -> Kept:
        """Room for what a layer needs of the one before."""
        pairs = layer.dilation % PAIR  # what the layer before computes beyond what is needed
        return Kept(self._computer.step + 2 * layer.dilation + pairs, layer.seen(), air)

    def _advance(self, number: int, until: int, source: Source, decide: Decide) -> None:
        """Compute a layer up to before the row `until`, and what it needs of those before it."""
        layer, depth = self._layers[number], self._shape[0]
        until = min(depth, until + until % PAIR)
        while layer.done < until:
            stop = min(until, layer.done + self._computer.step)
            needed = min(depth, stop + layer.dilation)
            if number:
                self._advance(number - 1, needed, source, decide)
            else:
                self._read_image(needed, source)
            self._compute(number, layer.done, stop, decide)
            layer.done = stop

    def _read_image(self, until: int, source: Source) -> None:
        if self._read < until:
            for row, values in enumerate(source(self._read, until), start=self._read):
                self._image.begin(row, (0, self._shape[1], 0, self._shape[2]))
                self._image.put(row, 0, 0, values[..., None])
            self._read = until

    def _compute(self, number: int, start: int, stop: int, decide: Decide) -> None:
        layer, submit = self._layers[number], self._computer.pool.submit
        waiting: list[Future[None]] = []
        for rows, box in layer.pairs(start, stop):
            if layer.kept is not None:
                waiting += [submit(layer.kept.begin, row, box) for row in rows]
            waiting += [submit(self._piece, number, rows, piece, decide) for piece in layer.pieces(box)]
        for done in waiting:
            done.result()

    @torch.inference_mode()
    def _piece(self, number: int, rows: range, box: Box, decide: Decide) -> None:
        layer, (j0, j1, i0, _) = self._layers[number], box
        kept = self._layers[number - 1].kept if number else self._image
        assert kept is not None
        if layer.quick is not None:
            values = layer.quick(seen(kept, rows, layer.in_groups(box), layer.dilation, self._shape[0]))
        else:
            before = gathered(kept, rows, box, layer.dilation, self._shape)
            dilation = (1, layer.dilation, layer.dilation)
            convolved = F.conv3d(before, layer.weight, layer.bias, dilation=dilation)
            values = convolved[:, :, 0].permute(0, 2, 3, 1)  # [rows, j, i, channels]
        values = self._activation(values[:, j0 - j1 :])
        if layer.kept is not None:
            for row, part in zip(rows, values, strict=True):
                layer.kept.put(row, j0, i0, part)
            return
        for row, part in zip(rows, values, strict=True):  # beyond its own box it saw what is not known
            first_j, last_j, first_i, last_i = layer.boxes[row].tolist()
            first_j, last_j = max(first_j, j0), min(last_j, j1)
            if first_j < last_j and first_i < last_i:
                chosen = part[first_j - j0 : last_j - j0, first_i - i0 : last_i - i0]
                logits = (chosen.reshape(-1, chosen.shape[-1]) @ self._head).float().add_(self._head_bias)
                decide(logits.reshape(*chosen.shape[:2], -1).permute(2, 0, 1), row, first_j, first_i)


def seen(kept: Kept, rows: range, box: Box, reach: int, depth: int) -> list[list[Tensor | None]]:
    """The three rows that a convolution sees for each of some rows, with a border; None beyond the volume."""
    j0, j1, i0, i1 = box
    return [
        [
            kept.part(before, j0 - reach, j1 + reach, i0 - reach, i1 + reach) if 0 <= before < depth else None
            for before in (row - reach, row, row + reach)
        ]
        for row in rows
    ]


def gathered_bytes(lines: int, dilation: int, shape: Sequence[int], voxel: int) -> int:
    """Return the memory of what is gathered for a piece of some lines j of all i; voxel: bytes of its features."""
    return PAIR * 3 * (lines + 2 * dilation) * (shape[2] + 2 * dilation) * voxel


def gathered(kept: HasRows, rows: range, box: Box, dilation: int, shape: Sequence[int]) -> Tensor:
    """What a convolution sees of the layer before it, for a box in some rows: [rows, channels, 3, j, i], channels last.

    The volume is surrounded by zeros.
    """
    j0, j1, i0, i1 = box
    depth, height, width = shape
    size = (len(rows), 3, j1 - j0 + 2 * dilation, i1 - i0 + 2 * dilation)
    first_j, last_j = max(0, j0 - dilation), min(height, j1 + dilation)
    first_i, last_i = max(0, i0 - dilation), min(width, i1 + dilation)
    inside = (
        slice(first_j - j0 + dilation, last_j - j0 + dilation),
        slice(first_i - i0 + dilation, last_i - i0 + dilation),
    )
    example = kept.part(rows[0], first_j, last_j, first_i, last_i)
    result = torch.zeros((*size, example.shape[-1]), dtype=example.dtype, device=example.device)
    for number, row in enumerate(rows):
        for tap in range(3):
            before = row + (tap - 1) * dilation
            if 0 <= before < depth:
                result[number, tap][inside] = kept.part(before, first_j, last_j, first_i, last_i)
    return result.permute(0, 4, 1, 2, 3)
