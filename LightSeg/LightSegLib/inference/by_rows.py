"""MeshNet over a whole volume in bounded memory, row by row, without computing anything twice.

Every layer keeps the rows that the next one still needs: twice its dilation and a few. A layer is computed where the
wanted voxels see it and where the image, within what it sees of it, is not the air around; there it has one value,
that of an image of air. The result is that of the whole volume at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..networks.meshnet import MeshNet
from .row_boxes import around, computed, grown

PAIR = 2  # rows that are computed together; oneDNN takes its fast way for more than one
STRIP = 64  # lines j of a piece of work

Source = Callable[[int, int], Tensor]  # rows from, to before -> float32 [rows, j, i]
Decide = Callable[[Tensor, int, int, int], None]  # logits [outputs, j, i] of a row, the row, and where they begin: j, i


@dataclass(frozen=True)
class Computer:
    """What computes. pool: takes pieces of work. dtype: of weights and features. step: rows that are done at a time."""

    pool: Executor
    device: torch.device
    dtype: torch.dtype = torch.float32
    step: int = 4


@dataclass
class Layer:
    """One convolution with its activation. boxes: where it is computed. outside: its value elsewhere, [channels]."""

    weight: Tensor
    bias: Tensor | None
    dilation: int
    boxes: np.ndarray
    outside: Tensor
    kept: Kept | None = None  # what the next layer needs of it
    done: int = field(default=0)


class Kept:
    """The last rows of some features [row, j, i, channels], in one window [j, i] of the volume."""

    def __init__(self, rows: int, window: tuple[int, int, int, int], outside: Tensor, dtype: torch.dtype) -> None:
        j0, j1, i0, i1 = self._window = window
        self._outside = outside.to(dtype)
        self._rows = torch.empty((rows, j1 - j0, i1 - i0, len(outside)), dtype=dtype, device=outside.device)

    @property
    def nbytes(self) -> int:
        """Memory of the rows."""
        return self._rows.nbytes

    def begin(self, row: int) -> None:
        """Let a row have the one value that it has outside of all boxes."""
        self._rows[row % len(self._rows)] = self._outside

    def put(self, row: int, j: int, i: int, values: Tensor) -> None:
        """Values [j, i, channels] of a part of a row that begins at j, i; what lies beyond the window is dropped."""
        j0, j1, i0, i1 = self._window
        first_j, first_i = max(j, j0), max(i, i0)
        last_j, last_i = min(j + values.shape[0], j1), min(i + values.shape[1], i1)
        if first_j < last_j and first_i < last_i:
            part = values[first_j - j : last_j - j, first_i - i : last_i - i]
            self._rows[row % len(self._rows), first_j - j0 : last_j - j0, first_i - i0 : last_i - i0] = part

    def part(self, row: int, j0: int, j1: int, i0: int, i1: int) -> Tensor:
        """Values [j, i, channels] of a part of a row."""
        j, _, i, _ = self._window
        return self._rows[row % len(self._rows), j0 - j : j1 - j, i0 - i : i1 - i]


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
        self._activation = network.activation
        convolutions = [_fused(*pair) for pair in zip(network.convolutions, network.norms, strict=True)]
        dilations = [int(convolution.dilation[0]) for convolution in convolutions]
        outside = torch.full((network.arguments["in_channels"],), air)
        dtype, device = computer.dtype, computer.device
        self._layers = []
        boxes = []
        for number, (convolution, dilation) in enumerate(zip(convolutions, dilations, strict=True)):
            reach = sum(dilations[number + 1 :]), sum(dilations[: number + 1])
            boxes.append(computed(wanted, varied, reach, shape))
            weight, bias = convolution.weight.detach(), convolution.bias
            value = weight.sum((2, 3, 4)) @ outside + (0 if bias is None else bias.detach())
            after: Tensor = self._activation(value)
            layer = Layer(
                weight.to(device, dtype).contiguous(memory_format=torch.channels_last_3d),
                None if bias is None else bias.detach().to(device, dtype),
                dilation,
                boxes[-1],
                after.to(device),
            )
            self._layers.append(layer)
            outside = after
        self._image = self._keep(self._layers[0], torch.full((1,), air, device=device), torch.float32)
        for layer, following in zip(self._layers, self._layers[1:], strict=False):
            layer.kept = self._keep(following, layer.outside, dtype)
        self._read = 0
        self._head = network.classifier.weight.detach()[:, :, 0, 0, 0].T.to(device, dtype).contiguous()
        assert network.classifier.bias is not None
        self._head_bias = network.classifier.bias.detach().to(device)

    @property
    def nbytes(self) -> int:
        """Memory of the rows that are kept."""
        return self._image.nbytes + sum(layer.kept.nbytes for layer in self._layers if layer.kept)

    @torch.inference_mode()
    def run(self, source: Source, decide: Decide, report: Callable[[int], None]) -> None:
        """Compute all wanted logits; `decide` is called in the pool's threads. report: gets the rows that are done."""
        depth, step = self._shape[0], self._computer.step
        for row in range(0, depth, step):
            self._advance(len(self._layers) - 1, min(row + step, depth), source, decide)
            report(min(row + step, depth))

    def _keep(self, layer: Layer, outside: Tensor, dtype: torch.dtype) -> Kept:
        """Room for what a layer needs of the one before."""
        window = around(grown(layer.boxes, layer.dilation, self._shape))
        return Kept(self._computer.step + 2 * layer.dilation + PAIR, window, outside, dtype)

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
                self._image.begin(row)
                self._image.put(row, 0, 0, values.to(self._computer.device)[..., None])
            self._read = until

    def _compute(self, number: int, start: int, stop: int, decide: Decide) -> None:
        layer = self._layers[number]
        if layer.kept is not None:
            for row in range(start, stop):
                layer.kept.begin(row)
        pieces = []
        for first in range(start, stop, PAIR):
            last = min(first + PAIR, stop)
            j0, j1, i0, i1 = around(layer.boxes[first:last])
            for j in range(j0, j1, STRIP):
                box = (j, min(j + STRIP, j1), i0, i1)
                pieces.append(self._computer.pool.submit(self._piece, number, (first, last), box, decide))
        for piece in pieces:
            piece.result()

    @torch.inference_mode()
    def _piece(self, number: int, rows: tuple[int, int], box: tuple[int, int, int, int], decide: Decide) -> None:
        layer, (j0, _, i0, _) = self._layers[number], box
        kept = self._layers[number - 1].kept if number else self._image
        assert kept is not None
        before = gathered(kept, rows, box, layer.dilation, self._shape).to(self._computer.dtype)
        dilation = (1, layer.dilation, layer.dilation)
        features = self._activation(F.conv3d(before, layer.weight, layer.bias, dilation=dilation))
        values = features[:, :, 0].permute(0, 2, 3, 1)  # [rows, j, i, channels]
        if layer.kept is not None:
            for row, part in zip(range(*rows), values, strict=True):
                layer.kept.put(row, j0, i0, part)
            return
        for row, part in zip(range(*rows), values, strict=True):  # beyond its own box it saw what is not known
            first_j, last_j, first_i, last_i = layer.boxes[row].tolist()
            first_j, last_j = max(first_j, j0), min(last_j, box[1])
            if first_j < last_j and first_i < last_i:
                chosen = part[first_j - j0 : last_j - j0, first_i - i0 : last_i - i0]
                logits = (chosen.reshape(-1, chosen.shape[-1]) @ self._head).float().add_(self._head_bias)
                decide(logits.reshape(*chosen.shape[:2], -1).permute(2, 0, 1), row, first_j, first_i)


def gathered(
    kept: HasRows, rows: tuple[int, int], box: tuple[int, int, int, int], dilation: int, shape: Sequence[int]
) -> Tensor:
    """What a convolution sees of the layer before it, for a box in some rows: [rows, channels, 3, j, i], channels last.

    Zeros lie around the volume.
    """
    j0, j1, i0, i1 = box
    depth, height, width = shape
    size = (rows[1] - rows[0], 3, j1 - j0 + 2 * dilation, i1 - i0 + 2 * dilation)
    first_j, last_j = max(0, j0 - dilation), min(height, j1 + dilation)
    first_i, last_i = max(0, i0 - dilation), min(width, i1 + dilation)
    inside = (
        slice(first_j - j0 + dilation, last_j - j0 + dilation),
        slice(first_i - i0 + dilation, last_i - i0 + dilation),
    )
    example = kept.part(max(rows[0], 0), first_j, last_j, first_i, last_i)
    result = torch.zeros((*size, example.shape[-1]), dtype=example.dtype, device=example.device)
    for number, row in enumerate(range(*rows)):
        for tap in range(3):
            before = row + (tap - 1) * dilation
            if 0 <= before < depth:
                result[number, tap][inside] = kept.part(before, first_j, last_j, first_i, last_i)
    return result.permute(0, 4, 1, 2, 3)


def _fused(convolution: nn.Module, norm: nn.Module) -> nn.Conv3d:
    assert isinstance(convolution, nn.Conv3d)
    if isinstance(norm, nn.BatchNorm3d):
        return fuse_conv_bn_eval(convolution.eval(), norm.eval())
    return convolution
