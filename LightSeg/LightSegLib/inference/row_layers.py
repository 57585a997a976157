"""The convolutions of a MeshNet as they are computed row by row: where each is, and what it is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..networks.cpu.winograd import Scratch, WinogradConvolution
from ..networks.meshnet import MeshNet
from .kept_rows import Air, Box, Kept
from .row_boxes import around, computed

PAIR = 2  # rows that are computed together; oneDNN takes its fast way for more than one
STRIP = 32  # lines j of a piece of work, or a few more
BORDER = 16  # a layer that sees no more than this part of the volume is known near the border, too, of air alone


@dataclass
class Layer:
    """One convolution with its activation.

    boxes: where it is computed, row by row; elsewhere it is not needed, or as `air`. quick: it in another form.
    """

    weight: Tensor
    bias: Tensor | None
    dilation: int
    boxes: np.ndarray
    air: Air
    quick: WinogradConvolution | None
    kept: Kept | None = None  # what the next layer needs of it
    done: int = field(default=0)

    def pairs(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[range, Box]]:
        """Rows that are computed together, with the box around theirs."""
        stop = len(self.boxes) if stop is None else stop
        for first in range(start, stop, PAIR):
            rows = range(first, min(first + PAIR, stop))
            yield rows, around(self.boxes[rows.start : rows.stop])

    def pieces(self, box: Box) -> Iterator[Box]:
        """A box in parts of a few lines."""
        j0, j1, i0, i1 = box
        strip = lines_of_piece(self._group)
        for j in range(j0, j1, strip):
            yield j, min(j + strip, j1), i0, i1

    def in_groups(self, piece: Box) -> Box:
        """A piece with the lines before it that are computed with its first."""
        j0, j1, i0, i1 = piece
        return j1 - -(-(j1 - j0) // self._group) * self._group, j1, i0, i1

    def seen(self) -> Box:
        """What is read of each row of the layer before; it may reach beyond the volume."""
        pieces = [self.in_groups(piece) for _, box in self.pairs() for piece in self.pieces(box)]
        j0, j1, i0, i1 = around(np.array(pieces, np.int32).reshape(-1, 4))
        return j0 - self.dilation, j1 + self.dilation, i0 - self.dilation, i1 + self.dilation

    @property
    def _group(self) -> int:
        return self.quick.group if self.quick else 1


def lines_of_piece(group: int) -> int:
    """Return how many lines j a piece of work has, where these are computed in groups."""
    return -(-STRIP // group) * group


def is_quick(like: Tensor) -> bool:
    """Whether there are quick forms for features such as these: on CPU, with the digits that these forms need."""
    return like.device.type == "cpu" and like.dtype == torch.float32


def row_layers(
    network: MeshNet,
    boxes: tuple[np.ndarray, np.ndarray],
    air: float,
    shape: Sequence[int],
    like: Tensor,
    scratch: Scratch,
) -> list[Layer]:
    """Return the convolutions of a network without a norm over the volume, on a grid `shape` [k, j, i].

    boxes: those in which logits are wanted, and those outside of which the image has the value `air` everywhere.
    like: a tensor of the dtype and on the device of the features. scratch: for quick forms.
    """
    wanted, varied = boxes
    dilations: list[int] = network.arguments["dilations"]
    reaches = np.cumsum(dilations)  # what each sees of the image
    known = int(max((reach for reach in reaches if reach * BORDER <= min(shape)), default=0))
    features = torch.full((1, network.arguments["in_channels"], *(2 * known + 1,) * 3), air)
    features = features.to(network.classifier.weight.dtype)
    layers = []
    for number, (dilation, reach) in enumerate(zip(dilations, reaches.tolist(), strict=True)):
        convolution = _fused(network.convolutions[number], network.norms[number])
        weight, bias = convolution.weight.detach(), convolution.bias
        bias = None if bias is None else bias.detach()
        near_border = reach <= known
        if near_border:
            features = network.activation(F.conv3d(features, weight, bias, padding=dilation, dilation=dilation))
        else:
            middle = features.shape[2] // 2
            after = features[:, :, middle, middle, middle] @ weight.sum((2, 3, 4)).T + (0 if bias is None else bias)
            features = network.activation(after)[:, :, None, None, None]
        seen = sum(dilations[number + 1 :]), reach
        layers.append(
            Layer(
                weight.to(like).contiguous(memory_format=torch.channels_last_3d),
                None if bias is None else bias.to(like),
                dilation,
                computed(wanted, varied, seen, shape, border=not near_border),
                Air(features[0].permute(1, 2, 3, 0).to(like), known if near_border else 0, shape),
                WinogradConvolution(weight, bias, dilation, scratch) if is_quick(like) else None,
            )
        )
    return layers


def _fused(convolution: nn.Module, norm: nn.Module) -> nn.Conv3d:
    assert isinstance(convolution, nn.Conv3d)
    if isinstance(norm, nn.BatchNorm3d):
        return fuse_conv_bn_eval(convolution.eval(), norm.eval())
    return convolution
