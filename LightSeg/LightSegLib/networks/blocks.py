"""What nnU-Net's U-Nets are built of, for two and three dimensions.

Names of modules are those in nnU-Net's checkpoints (package dynamic-network-architectures).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..core.i18n import tr as _

SLOPE = 0.01  # of LeakyReLU
CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLS: dict[int, type[nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
NORMS: dict[str, dict[int, type[nn.Module]]] = {
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
}
# In place wherever torch offers it: what the activation overwrites is never needed again, backward included.
ACTIVATIONS: dict[str, Callable[[float], nn.Module]] = {
    "leaky_relu": lambda slope: nn.LeakyReLU(slope, inplace=True),
    "relu": lambda _: nn.ReLU(inplace=True),
    "silu": lambda _: nn.SiLU(inplace=True),
    "gelu": lambda _: nn.GELU(),
}

Size = Sequence[int]  # one entry for each axis, k, j, i


@dataclass(frozen=True)
class Style:
    """Norm, activation and bias that all units of a network share.

    Raises:
        ValueError: for an unknown norm or activation, or if one of the numbers is negative.
    """

    bias: bool = True  # of the convolutions
    norm: str = "instance"  # of NORMS
    norm_eps: float = 1e-5
    activation: str = "leaky_relu"  # of ACTIVATIONS
    negative_slope: float = SLOPE
    nonlin_first: bool = False  # the activation before the norm

    def __post_init__(self) -> None:
        for what, name, known in (("norm", self.norm, NORMS), ("activation", self.activation, ACTIVATIONS)):
            if name not in known:
                raise ValueError(
                    _("the {what} '{name}' is not one of {known}").format(what=what, name=name, known=", ".join(known))
                )
        if min(self.norm_eps, self.negative_slope) < 0:
            raise ValueError(_("norm_eps and negative_slope must not be negative"))

    def make_norm(self, channels: int, axes: int) -> nn.Module:
        """Return a normalization layer for so many channels and spatial axes."""
        return NORMS[self.norm][axes](channels, eps=self.norm_eps, affine=True)

    def make_activation(self) -> nn.Module:
        """Return an activation layer."""
        return ACTIVATIONS[self.activation](self.negative_slope)


def conv_unit(
    in_channels: int, channels: int, kernel: Size, stride: Size, style: Style, activation: bool = True
) -> nn.Sequential:
    """Convolution ("same" padding), norm with affine weights, activation.

    nnU-Net can have a dropout after the convolution: it has no weights and does nothing in inference.
    """
    axes = len(kernel)
    padding = [(length - 1) // 2 for length in kernel]
    convolution = CONVOLUTIONS[axes](
        in_channels, channels, tuple(kernel), tuple(stride), tuple(padding), bias=style.bias
    )
    after = [("norm", style.make_norm(channels, axes))]
    if activation:
        after.insert(0 if style.nonlin_first else 1, ("nonlin", style.make_activation()))
    return nn.Sequential(OrderedDict([("conv", convolution), *after]))


def repeated(
    part: Callable[..., nn.Module],
    count: int,
    in_channels: int,
    channels: int,
    kernel: Size,
    stride: Size,
    style: Style,
) -> nn.Sequential:
    """`count` parts one after the other; the first changes the width and has the stride."""
    if count < 1:
        raise ValueError(_("every stage must have at least one block or convolution"))
    first = part(in_channels, channels, kernel, stride, style)
    ones = [1] * len(kernel)
    return nn.Sequential(first, *(part(channels, channels, kernel, ones, style) for _ in range(count - 1)))


class ConvStack(nn.Module):
    """Convolutional units; arguments of `repeated` but the first.

    [B, C_in, ...] -> [B, C, ...].
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__()
        self.convs = repeated(conv_unit, *arguments)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, ...] -> [B, C_out, ...]."""
        return self.convs(x)


class ResidualBlock(nn.Module):
    """Units and a skip that averages over the stride, the pointwise convolution only where widths differ.

    Two units, or with `bottleneck` three: a pointwise one to that width, one with kernel and stride, a pointwise one.
    He et al., "Bag of tricks for image classification", CVPR 2019, figure 2c (ResNet-D).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Size,
        stride: Size,
        style: Style,
        bottleneck: int | None = None,
    ) -> None:
        super().__init__()
        axes, ones = len(kernel), [1] * len(kernel)
        if bottleneck is None:
            self.conv1 = conv_unit(in_channels, channels, kernel, stride, style)
            self.conv2 = conv_unit(channels, channels, kernel, ones, style, activation=False)
            self.conv3 = nn.Sequential()
        else:
            self.conv1 = conv_unit(in_channels, bottleneck, ones, ones, style)
            self.conv2 = conv_unit(bottleneck, bottleneck, kernel, stride, style)
            self.conv3 = conv_unit(bottleneck, channels, ones, ones, style, activation=False)
        self.nonlin = style.make_activation()
        skip = nn.Sequential()
        if any(step != 1 for step in stride):
            skip.append(POOLS[axes](tuple(stride), tuple(stride)))
        if in_channels != channels:
            skip.append(conv_unit(in_channels, channels, ones, ones, replace(style, bias=False), activation=False))
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, ...] -> [B, C_out, ...]."""
        return self.nonlin(self.conv3(self.conv2(self.conv1(x))) + self.skip(x))


class ResidualStack(nn.Module):
    """Residual blocks; arguments of `repeated` but the first.

    [B, C_in, ...] -> [B, C, ...].
    """

    def __init__(self, *arguments: Any, bottleneck: int | None = None) -> None:
        super().__init__()
        self.blocks = repeated(partial(ResidualBlock, bottleneck=bottleneck), *arguments)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, ...] -> [B, C_out, ...]."""
        return self.blocks(x)


class UNetDecoder(nn.Module):
    """Decoder from the encoder's features to logits: per stage upsampling, skip connection and convolutions.

    Heads exist at every resolution, the coarsest first, since checkpoints have them.
    """

    def __init__(
        self,
        classes: int,
        widths: Size,
        kernels: Sequence[Size],
        strides: Sequence[Size],
        counts: Size,
        style: Style,
    ) -> None:
        super().__init__()
        axes = len(kernels[0])
        self.stages = nn.ModuleList()
        self.transpconvs = nn.ModuleList()
        self.seg_layers = nn.ModuleList()
        for depth, count in zip(range(len(widths) - 1, 0, -1), counts, strict=True):
            below, width, stride = widths[depth], widths[depth - 1], tuple(strides[depth])
            self.transpconvs.append(TRANSPOSED[axes](below, width, stride, stride, bias=style.bias))
            self.stages.append(ConvStack(count, 2 * width, width, kernels[depth - 1], [1] * axes, style))
            self.seg_layers.append(CONVOLUTIONS[axes](width, classes, 1))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Decoded features of all stages, coarsest first, from the encoder's, finest first.

        The list is emptied, so that what is not needed any more makes room.
        """
        decoded = []
        x = features.pop()
        for upsample, stage in zip(self.transpconvs, self.stages, strict=True):
            x = stage(torch.cat((upsample(x), features.pop()), dim=1))
            decoded.append(x)
        return decoded
