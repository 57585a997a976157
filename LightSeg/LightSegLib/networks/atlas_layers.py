"""Layers of `atlas_unet`: a U-Net at half resolution, and what is quick with the channels last, for batches of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CoarseUNet(nn.Module):
    """U-Net on every second voxel: channels [1, C, k, j, i] and something to add at its first level."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(channels, widths[0], 3, padding=1)
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.encoder = nn.ModuleList(
            nn.Sequential(ConvNormAct(above, below, stride=2), ConvNormAct(below, below)) for above, below in steps
        )
        self.lateral = nn.ModuleList(Pointwise(below, above) for above, below in steps)
        # the first level is the largest: it adds what others join
        self.decoder = nn.ModuleList(
            ConvNormAct(above if number == 0 else 2 * above, above) for number, (above, _) in enumerate(steps)
        )

    def forward(self, x: Tensor, start: Tensor) -> Tensor:
        """Return features [B, C, k, j, i] of the grid's half resolution."""
        x = F.leaky_relu(self.stem(x) + start, 0.01)
        skips = []
        for stage in self.encoder:
            skips.append(x)
            x = stage(x)
        for number in reversed(range(len(skips))):
            x = F.interpolate(self.lateral[number](x), scale_factor=2.0, mode="nearest")
            x = self.decoder[number](x + skips[0] if number == 0 else torch.cat((x, skips[number]), 1))
        return x


class Doubled(torch.autograd.Function):
    """Twice as many voxels along each axis by trilinear interpolation, of [1, C, k, j, i] with the channels last.

    Its gradient is that of F.interpolate, computed as sums over whole slices, which is several times faster on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return [B, C, k, j, i] interpolated to twice the size."""
        return F.interpolate(x, scale_factor=2.0, mode="trilinear")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient of the input, from that of the output."""
        for axis in (2, 3, 4):
            first, second = gradient.unflatten(axis, (-1, 2)).unbind(axis + 1)
            half = 0.75 * (first + second)
            length = half.shape[axis]
            half.narrow(axis, 0, length - 1).add_(first.narrow(axis, 1, length - 1), alpha=0.25)
            half.narrow(axis, 1, length - 1).add_(second.narrow(axis, 0, length - 1), alpha=0.25)
            half.narrow(axis, 0, 1).add_(first.narrow(axis, 0, 1), alpha=0.25)  # beyond the edge is the edge
            half.narrow(axis, length - 1, 1).add_(second.narrow(axis, length - 1, 1), alpha=0.25)
            gradient = half
        return gradient


class Pointwise(nn.Linear):
    """1x1x1 convolution of [B, C, k, j, i]: as a matrix product it keeps the channels last, as convolutions do."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to every voxel: [B, C_in, ...] -> [B, C_out, ...]."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ConvNormAct(nn.Module):
    """3x3x3 convolution, normalization over the volume, leaky ReLU; for a batch of one.

    Batch norm by the batch's own statistics is instance norm there, without its copies of the data.
    """

    def __init__(self, channels: int, out: int, stride: int = 1, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out, 3, stride=stride, padding=1, bias=not norm)
        self.weight = nn.Parameter(torch.ones(out)) if norm else None
        self.bias = nn.Parameter(torch.zeros(out)) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, k, j, i] -> [B, C_out, k', j', i']."""
        x = self.conv(x)
        if self.weight is not None:
            x = F.batch_norm(x, None, None, self.weight, self.bias, training=True)
        return F.leaky_relu(x, 0.01)


class ResidualBlock(nn.Module):
    """Adds to its input what a convolution finds there; nothing before it has been trained."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look = ConvNormAct(channels, channels)
        self.add = Pointwise(channels, channels)
        nn.init.zeros_(self.add.weight)
        nn.init.zeros_(self.add.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus what the layers add to it, same shape."""
        return x + self.add(self.look(x))
