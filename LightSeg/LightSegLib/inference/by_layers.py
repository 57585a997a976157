"""MeshNet with a norm over the whole volume, layer by layer, in the memory of one layer.

A layer needs mean and variance of all its voxels before the next one can begin, so each is computed for the whole
volume: first the convolution with its statistics, then norm and activation in place. A row of the result takes the
place of a row that no later one needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks.meshnet import MeshNet
from .by_rows import DECIDED, Computer, Decide, Source, gathered, gathered_bytes
from .row_boxes import around
from .row_layers import PAIR

STRIP = 64  # lines j of a piece of work: more than where rows are summed first, since lines around it are gathered, too


class Rows:
    """Features [row, j, i, channels] of a whole volume, with room for a shift of the rows by `spare` either way."""

    def __init__(self, shape: Sequence[int], channels: int, spare: int, computer: Computer) -> None:
        depth, height, width = shape
        size = (depth + 2 * spare, height, width, channels)
        self._rows = torch.empty(size, dtype=computer.dtype, device=computer.device)
        self.first = spare  # place of row 0

    def put(self, row: int, j: int, shift: int, values: Tensor) -> None:
        """A part of a row of the next layer, which lies `shift` places from where this layer's row is."""
        self._rows[self.first + shift + row, j : j + values.shape[0]] = values

    def part(self, row: int, j0: int, j1: int, i0: int, i1: int) -> Tensor:
        """Values [j, i, channels] of a part of a row."""
        return self._rows[self.first + row, j0:j1, i0:i1]


class Image:
    """The network's input as such rows, read where it is needed."""

    def __init__(self, source: Source, computer: Computer) -> None:
        self._source, self._computer = source, computer

    def part(self, row: int, j0: int, j1: int, i0: int, i1: int) -> Tensor:
        """Values [j, i, 1] of a part of a row."""
        values = self._source(row, row + 1)[0, j0:j1, i0:i1, None]
        return values.to(self._computer.device, self._computer.dtype)


class ByLayers:
    """A MeshNet with instance norm, on a grid `shape` [k, j, i]. wanted: boxes of rows in which logits are wanted."""

    def __init__(self, network: MeshNet, wanted: np.ndarray, shape: Sequence[int], computer: Computer) -> None:
        self._network, self._wanted, self._computer = network, wanted, computer
        self._shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        self._spare = 2 * max(network.arguments["dilations"])

    @property
    def nbytes(self) -> int:
        """Memory of the features, of the piece of work that each thread has, of a step's results and a row's logits."""
        depth, height, width = self._shape
        computer, channels = self._computer, int(self._network.arguments["channels"])
        voxel = channels * torch.empty(0, dtype=computer.dtype).element_size()
        features = (depth + 2 * self._spare) * height * width * voxel
        piece = gathered_bytes(STRIP, self._spare // 2, self._shape, voxel)
        results = computer.step * height * width * voxel
        logits = DECIDED * 4 * height * width * int(self._network.arguments["classes"])
        return features + computer.threads * piece + results + logits

    @torch.inference_mode()
    def run(self, source: Source, decide: Decide, report: Callable[[int], None]) -> None:
        """Compute all wanted logits; `decide` is called in this thread. report: gets the rows done, of `shape`."""
        network, computer = self._network, self._computer
        rows = Rows(self._shape, network.arguments["channels"], self._spare, computer)
        before: Rows | Image = Image(source, computer)
        count = len(network.convolutions)
        for number, convolution in enumerate(network.convolutions):
            assert isinstance(convolution, nn.Conv3d)
            weight = convolution.weight.detach().to(computer.device, computer.dtype)
            weight = weight.contiguous(memory_format=torch.channels_last_3d)
            bias = None if convolution.bias is None else convolution.bias.detach().to(computer.device, computer.dtype)
            dilation = int(convolution.dilation[0])
            # Rows are shifted towards the side on which there is room, and those computed first that make it.
            forward = rows.first >= self._spare
            shift = 0 if number == 0 else -dilation if forward else dilation
            statistics = self._convolve(before, rows, (weight, bias, dilation), shift)
            rows.first += shift
            before = rows
            self._normalize(rows, *statistics)
            report(self._shape[0] * (number + 1) // (count + 1))
        self._classify(rows, decide)
        report(self._shape[0])

    def _convolve(
        self, before: Rows | Image, rows: Rows, layer: tuple[Tensor, Tensor | None, int], shift: int
    ) -> tuple[Tensor, Tensor]:
        """Put a convolution of all rows in the place of what it is of; its mean and 1 / deviation, [channels]."""
        depth, height, _ = self._shape
        starts = list(range(0, depth, self._computer.step))
        found: dict[tuple[int, int], tuple[int, Tensor, Tensor]] = {}
        for start in starts if shift <= 0 else reversed(starts):
            pieces = [
                (first, j, self._computer.pool.submit(self._piece, before, (first, j), layer))
                for first in range(start, min(start + self._computer.step, depth), PAIR)
                for j in range(0, height, STRIP)
            ]
            # What no later row needs is overwritten when all that are computed together have been.
            results = [(first, j, piece.result()) for first, j, piece in pieces]
            for first, j, (values, count, mean, squares) in results:
                for row, part in enumerate(values, start=first):
                    rows.put(row, j, shift, part)
                found[first, j] = count, mean, squares
        return _combined([found[place] for place in sorted(found)])

    @torch.inference_mode()
    def _piece(
        self, before: Rows | Image, place: tuple[int, int], layer: tuple[Tensor, Tensor | None, int]
    ) -> tuple[Tensor, int, Tensor, Tensor]:
        """Values [rows, j, i, channels], their number, mean and sum of squared deviations for each channel."""
        (first, j), (weight, bias, dilation) = place, layer
        depth, height, width = self._shape
        rows, box = range(first, min(first + PAIR, depth)), (j, min(j + STRIP, height), 0, width)
        x = gathered(before, rows, box, dilation, self._shape)
        features = F.conv3d(x, weight, bias, dilation=(1, dilation, dilation))
        values = features[:, :, 0].permute(0, 2, 3, 1)
        flat = values.reshape(-1, values.shape[-1]).float()
        variance, mean = torch.var_mean(flat, dim=0, correction=0)
        return values, len(flat), mean, variance * len(flat)

    def _normalize(self, rows: Rows, mean: Tensor, scale: Tensor) -> None:
        waiting: list[Future[None]] = [
            self._computer.pool.submit(self._normalize_row, rows, row, mean, scale) for row in range(self._shape[0])
        ]
        for one in waiting:
            one.result()

    @torch.inference_mode()
    def _normalize_row(self, rows: Rows, row: int, mean: Tensor, scale: Tensor) -> None:
        values = rows.part(row, 0, self._shape[1], 0, self._shape[2])
        values.copy_(self._network.activation(values.float().sub_(mean).mul_(scale)))

    def _classify(self, rows: Rows, decide: Decide) -> None:
        head = self._network.classifier
        weight, bias = head.weight.detach()[:, :, 0, 0, 0].T.float().contiguous(), head.bias
        assert bias is not None
        weight, bias = weight.to(self._computer.device), bias.detach().to(self._computer.device)
        for row in range(self._shape[0]):
            j0, j1, i0, i1 = around(self._wanted[row : row + 1])
            if j0 < j1:
                values = rows.part(row, j0, j1, i0, i1).float()
                logits = values.reshape(-1, values.shape[-1]) @ weight + bias
                decide(logits.reshape(j1 - j0, i1 - i0, -1).permute(2, 0, 1), row, j0, i0)


def _combined(parts: Sequence[tuple[int, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean and 1 / deviation of all voxels, from those of pieces, which come in the same order in every run.

    Source: T. F. Chan et al., "Updating formulae and a pairwise algorithm for computing sample variances" (1982).
    """
    total, mean = 0, torch.zeros_like(parts[0][1], dtype=torch.float64)
    squares = torch.zeros_like(mean)
    for count, part_mean, part_squares in parts:
        difference = part_mean.double() - mean
        squares += part_squares.double() + difference.square() * (total * count / (total + count))
        total += count
        mean += difference * (count / total)
    return mean.float(), (squares / total + 1e-5).rsqrt().float()
