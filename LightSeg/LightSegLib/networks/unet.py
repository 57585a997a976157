"""nnU-Net v2's two U-Nets, plain and with a residual encoder, for any plans; the 5.6M U-Net of FLARE24 is one.

Sources: F. Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Nature Methods 18 (2021), and "nnU-Net Revisited", MICCAI 2024 (residual encoder).
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..core.i18n import tr as _
from .blocks import SLOPE, ConvStack, ResidualStack, Size, Style, UNetDecoder


class _Encoder(nn.Module):
    """Features of all stages, finest first."""

    def __init__(self, stages: Sequence[nn.Module], stem: nn.Module | None = None) -> None:
        super().__init__()
        if stem is not None:
            self.stem = stem
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of all stages, finest first."""
        if hasattr(self, "stem"):
            x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class _UNet(nn.Module):
    """What nnU-Net's two families of U-Nets have in common."""

    encoder: _Encoder
    decoder: UNetDecoder
    deep_supervision = False
    steps: list[int]  # product of the strides, for each axis

    @staticmethod
    def canonical_key(key: str) -> str:
        """Return the name under which a tensor is kept.

        Checkpoints have the encoder again in the decoder, and the parts of each unit again, numbered, in
        `all_modules`.

        There the convolution is first; the norm is the only other part with tensors, at 1, or later after a dropout or
        an activation.
        """
        key = key.removeprefix("decoder.") if key.startswith("decoder.encoder.") else key
        return re.sub(r"\ball_modules\.(\d+)\.", lambda found: "conv." if found[1] == "0" else "norm.", key)

    def forward(self, volume: Tensor) -> Tensor | list[Tensor]:
        """Return the logits [B, classes, ...] of volumes [B, C, ...]; in training, those of all resolutions."""
        if volume.dim() == 5 and len(self.steps) == 2 and volume.shape[2] == 1:
            logits = self(volume.squeeze(2))
            return [each.unsqueeze(2) for each in logits] if self.deep_supervision else logits.unsqueeze(2)
        if any(side % step for side, step in zip(volume.shape[2:], self.steps, strict=True)):
            raise ValueError(
                _(
                    "This U-Net needs patches whose sides are multiples of {steps} voxels, not {shape}. "
                    "Correct patch_size in the model card."
                ).format(steps=" x ".join(map(str, self.steps)), shape=" x ".join(map(str, volume.shape[2:])))
            )
        decoded = self.decoder(self.encoder(volume))
        heads = list(zip(self.decoder.seg_layers, decoded, strict=True))[::-1]
        if not self.deep_supervision:
            heads = heads[:1]
        logits = [head(features) for head, features in heads]
        return logits if self.deep_supervision else logits[0]

    def split(self) -> tuple[nn.Module, Any]:
        """Return a twin that gives what the last layer takes, and that layer, a pointwise convolution.

        They share the parameters of this network.
        """
        twin = copy.deepcopy(self, {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())})
        head, twin.decoder.seg_layers[-1] = twin.decoder.seg_layers[-1], nn.Identity()
        return twin, head


class PlainConvUNet(_UNet):
    """[B, in_channels, k, j, i] -> logits [B, classes, k, j, i], or both without k.

    A network of two dimensions also takes single slices of a volume, and returns such: k is 1 then.

    With `deep_supervision`, `forward` returns the logits of all heads, finest first. Every side must be a multiple of
    the product of the strides, else it raises ValueError, as the constructor does for arguments that make no network.

    Args:
        features_per_stage: widths of the encoder's stages, finest first. kernel_sizes, strides (of a stage's first
            convolution), n_conv_per_stage: one entry for each of these stages, or an integer for all. An integer
            instead of a kernel or stride [k, j, i] or [j, i] holds for all its axes, which are three where no list
            is given.
        n_conv_per_stage_decoder: for the decoder's stages, coarsest first, or an integer for all.
        conv_bias: of all convolutions but the heads, which have one.
        norm: "instance" or "batch", with affine weights and `norm_eps`.
        activation: "leaky_relu" with `negative_slope`, "relu", "silu" or "gelu" (exact, by erf); `nonlin_first`
            puts it before the norm.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        features_per_stage: Size,
        kernel_sizes: int | Sequence[int | Size],
        strides: int | Sequence[int | Size],
        n_conv_per_stage: int | Size,
        n_conv_per_stage_decoder: int | Size,
        conv_bias: bool = True,
        norm: str = "instance",
        norm_eps: float = 1e-5,
        activation: str = "leaky_relu",
        negative_slope: float = SLOPE,
        nonlin_first: bool = False,
    ) -> None:
        super().__init__()
        style = Style(conv_bias, norm, norm_eps, activation, negative_slope, nonlin_first)
        stages = len(features_per_stage)
        kernels, strides = _sizes(kernel_sizes, strides, stages)
        self.steps = [math.prod(along) for along in zip(*strides, strict=True)]
        counts = _per_stage("n_conv_per_stage", n_conv_per_stage, stages)
        inputs = [in_channels, *features_per_stage[:-1]]
        each = zip(counts, inputs, features_per_stage, kernels, strides, strict=True)
        # A sequence of one: in the checkpoints a stage may begin with a pooling layer.
        self.encoder = _Encoder([nn.Sequential(ConvStack(*stage, style)) for stage in each])
        counts = _per_stage("n_conv_per_stage_decoder", n_conv_per_stage_decoder, stages - 1)
        self.decoder = UNetDecoder(classes, features_per_stage, kernels, strides, counts, style)


class ResidualEncoderUNet(_UNet):
    """PlainConvUNet with residual blocks, n_blocks_per_stage of them, in the encoder, after one unit as stem.

    Args:
        stem_channels: width of the stem; the first stage's where None.
        bottleneck_channels: inner widths of blocks of three units, one for each stage or an integer for all; None
            for blocks of two units, which have none.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        features_per_stage: Size,
        kernel_sizes: int | Sequence[int | Size],
        strides: int | Sequence[int | Size],
        n_blocks_per_stage: int | Size,
        n_conv_per_stage_decoder: int | Size,
        conv_bias: bool = True,
        norm: str = "instance",
        norm_eps: float = 1e-5,
        activation: str = "leaky_relu",
        negative_slope: float = SLOPE,
        stem_channels: int | None = None,
        bottleneck_channels: int | Size | None = None,
    ) -> None:
        super().__init__()
        style = Style(conv_bias, norm, norm_eps, activation, negative_slope)
        stages = len(features_per_stage)
        kernels, strides = _sizes(kernel_sizes, strides, stages)
        self.steps = [math.prod(along) for along in zip(*strides, strict=True)]
        counts = _per_stage("n_blocks_per_stage", n_blocks_per_stage, stages)
        inner: Sequence[int | None] = [None] * stages
        if bottleneck_channels is not None:
            inner = _per_stage("bottleneck_channels", bottleneck_channels, stages)
        width = features_per_stage[0] if stem_channels is None else stem_channels
        stem = ConvStack(1, in_channels, width, kernels[0], [1] * len(kernels[0]), style)
        inputs = [width, *features_per_stage[:-1]]
        each = zip(counts, inputs, features_per_stage, kernels, strides, strict=True)
        blocks = [ResidualStack(*stage, style, bottleneck=of) for stage, of in zip(each, inner, strict=True)]
        self.encoder = _Encoder(blocks, stem)
        counts = _per_stage("n_conv_per_stage_decoder", n_conv_per_stage_decoder, stages - 1)
        self.decoder = UNetDecoder(classes, features_per_stage, kernels, strides, counts, style)


def _per_stage(name: str, values: int | Sequence[Any], stages: int) -> list[Any]:
    """Return one value for each stage; an integer counts for all."""
    if isinstance(values, int):
        return [values] * stages
    if len(values) != stages:
        raise ValueError(_("{name} must be an integer or a list of {stages} integers").format(name=name, stages=stages))
    return list(values)


def _sizes(
    kernels: int | Sequence[int | Size], strides: int | Sequence[int | Size], stages: int
) -> tuple[list[Size], list[Size]]:
    """Return the kernel and stride of each stage, with one entry for each axis."""
    if stages < 2:
        raise ValueError(_("features_per_stage must be a list of at least 2 numbers"))
    each = _per_stage("kernel_sizes", kernels, stages), _per_stage("strides", strides, stages)
    axes = {len(size) for sizes in each for size in sizes if not isinstance(size, int)} or {3}
    if axes not in ({2}, {3}):
        raise ValueError(_("kernel_sizes and strides must all have two axes or all have three axes"))
    whole = [[[size] * max(axes) if isinstance(size, int) else size for size in sizes] for sizes in each]
    if min(length for sizes in whole for size in sizes for length in size) < 1:
        raise ValueError(_("kernel_sizes and strides must be at least 1"))
    return whole[0], whole[1]
