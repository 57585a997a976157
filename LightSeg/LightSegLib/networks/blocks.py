"""What nnU-Net's U-Nets are built of, for two and three dimensions.

Names of modules are those in nnU-Net's checkpoints (package dynamic-network-architectures).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

SLOPE = 0.01  # of LeakyReLU
CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORMS: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
POOLS: dict[int, type[nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}

Size = Sequence[int]  # one entry for each axis, k, j, i


def conv_unit(
    in_channels: int, channels: int, kernel: Size, stride: Size, bias: bool = True, activation: bool = True
) -> nn.Sequential:
    """Convolution ("same" padding), instance norm with affine weights, LeakyReLU."""
    axes = len(kernel)
    padding = [(length - 1) // 2 for length in kernel]
    convolution = CONVOLUTIONS[axes](in_channels, channels, tuple(kernel), tuple(stride), tuple(padding), bias=bias)
    parts = OrderedDict(conv=convolution, norm=NORMS[axes](channels, affine=True))
    if activation:
        parts["nonlin"] = nn.LeakyReLU(SLOPE, inplace=True)
    return nn.Sequential(parts)


def repeated(
    part: Callable[..., nn.Module], count: int, in_channels: int, channels: int, kernel: Size, stride: Size, bias: bool
) -> nn.Sequential:
    """`count` parts one after the other; the first changes the width and has the stride."""
    first = part(in_channels, channels, kernel, stride, bias)
    ones = [1] * len(kernel)
    return nn.Sequential(first, *(part(channels, channels, kernel, ones, bias) for _ in range(count - 1)))


class ConvStack(nn.Module):
    """Convolutional units; arguments of `repeated` but the first. [B, C_in, ...] -> [B, C, ...]."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__()
        self.convs = repeated(conv_unit, *arguments)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class ResidualBlock(nn.Module):
    """Two units and a skip that averages over the stride, the pointwise convolution only where widths differ.

    He et al., "Bag of tricks for image classification", CVPR 2019, figure 2c (ResNet-D).
    """

    def __init__(self, in_channels: int, channels: int, kernel: Size, stride: Size, bias: bool) -> None:
        super().__init__()
        axes, ones = len(kernel), [1] * len(kernel)
        self.conv1 = conv_unit(in_channels, channels, kernel, stride, bias)
        self.conv2 = conv_unit(channels, channels, kernel, ones, bias, activation=False)
        self.nonlin2 = nn.LeakyReLU(SLOPE, inplace=True)
        skip = nn.Sequential()
        if any(step != 1 for step in stride):
            skip.append(POOLS[axes](tuple(stride), tuple(stride)))
        if in_channels != channels:
            skip.append(conv_unit(in_channels, channels, ones, ones, bias=False, activation=False))
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))


class ResidualStack(nn.Module):
    """Residual blocks; arguments of `repeated` but the first. [B, C_in, ...] -> [B, C, ...]."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__()
        self.blocks = repeated(ResidualBlock, *arguments)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class UNetDecoder(nn.Module):
    """From the encoder's features to logits: upsampling, concatenation with the skip, convolutions, per stage.

    Heads exist at every resolution, the coarsest first, since checkpoints have them.
    """

    def __init__(
        self,
        classes: int,
        widths: Size,
        kernels: Sequence[Size],
        strides: Sequence[Size],
        counts: Size,
        bias: bool,
    ) -> None:
        super().__init__()
        axes = len(kernels[0])
        self.stages = nn.ModuleList()
        self.transpconvs = nn.ModuleList()
        self.seg_layers = nn.ModuleList()
        for depth, count in zip(range(len(widths) - 1, 0, -1), counts, strict=True):
            below, width, stride = widths[depth], widths[depth - 1], tuple(strides[depth])
            self.transpconvs.append(TRANSPOSED[axes](below, width, stride, stride, bias=bias))
            self.stages.append(ConvStack(count, 2 * width, width, kernels[depth - 1], [1] * axes, bias))
            self.seg_layers.append(CONVOLUTIONS[axes](width, classes, 1))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Decoded features of all stages, coarsest first, from the encoder's, finest first."""
        *skips, x = features
        decoded = []
        for upsample, stage in zip(self.transpconvs, self.stages, strict=True):
            x = stage(torch.cat((upsample(x), skips.pop()), dim=1))
            decoded.append(x)
        return decoded
