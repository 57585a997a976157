"""nnU-Net v2's two U-Nets, plain and with a residual encoder, for any plans; the 5.6M U-Net of FLARE24 is one.

Sources: F. Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Nature Methods 18 (2021), and "nnU-Net Revisited", MICCAI 2024 (residual encoder).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import ConvStack, ResidualStack, Size, UNetDecoder

UNITS = {"0": "conv", "1": "norm"}  # a unit's parts in `all_modules`


class _Encoder(nn.Module):
    """Features of all stages, finest first."""

    def __init__(self, stages: Sequence[nn.Module], stem: nn.Module | None = None) -> None:
        super().__init__()
        if stem is not None:
            self.stem = stem
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        if hasattr(self, "stem"):
            x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class _UNet(nn.Module):
    encoder: _Encoder
    decoder: UNetDecoder
    deep_supervision = False

    @staticmethod
    def canonical_key(key: str) -> str:
        """The name under which a tensor is kept: checkpoints have the encoder again in the decoder, and the parts
        of each unit again, numbered, in `all_modules`."""
        key = key.removeprefix("decoder.") if key.startswith("decoder.encoder.") else key
        return re.sub(r"\ball_modules\.([01])\.", lambda found: f"{UNITS[found[1]]}.", key)

    def forward(self, volume: Tensor) -> Tensor | list[Tensor]:
        decoded = self.decoder(self.encoder(volume))
        heads = list(zip(self.decoder.seg_layers, decoded, strict=True))[::-1]
        if not self.deep_supervision:
            heads = heads[:1]
        logits = [head(features) for head, features in heads]
        return logits if self.deep_supervision else logits[0]


class PlainConvUNet(_UNet):
    """[B, in_channels, k, j, i] -> logits [B, classes, k, j, i], or both without k.

    features_per_stage, kernel_sizes, strides (of a stage's first convolution), n_conv_per_stage: of the encoder's
    stages, finest first. n_conv_per_stage_decoder: of the decoder's, coarsest first. conv_bias: of all
    convolutions but the heads, which have one. Every side must be a multiple of the product of the strides.

    With `deep_supervision`, `forward` returns the logits of all heads, finest first.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        features_per_stage: Size,
        kernel_sizes: Sequence[Size],
        strides: Sequence[Size],
        n_conv_per_stage: Size,
        n_conv_per_stage_decoder: Size,
        conv_bias: bool = True,
    ) -> None:
        super().__init__()
        inputs = [in_channels, *features_per_stage[:-1]]
        each = zip(n_conv_per_stage, inputs, features_per_stage, kernel_sizes, strides, strict=True)
        # A sequence of one: in the checkpoints a stage may begin with a pooling layer.
        self.encoder = _Encoder([nn.Sequential(ConvStack(*stage, conv_bias)) for stage in each])
        counts = n_conv_per_stage_decoder
        self.decoder = UNetDecoder(classes, features_per_stage, kernel_sizes, strides, counts, conv_bias)


class ResidualEncoderUNet(_UNet):
    """PlainConvUNet with residual blocks, n_blocks_per_stage of them, in the encoder, after one unit as stem."""

    def __init__(
        self,
        in_channels: int,
        classes: int,
        features_per_stage: Size,
        kernel_sizes: Sequence[Size],
        strides: Sequence[Size],
        n_blocks_per_stage: Size,
        n_conv_per_stage_decoder: Size,
        conv_bias: bool = True,
    ) -> None:
        super().__init__()
        width, kernel = features_per_stage[0], kernel_sizes[0]
        stem = ConvStack(1, in_channels, width, kernel, [1] * len(kernel), conv_bias)
        inputs = [width, *features_per_stage[:-1]]
        each = zip(n_blocks_per_stage, inputs, features_per_stage, kernel_sizes, strides, strict=True)
        self.encoder = _Encoder([ResidualStack(*stage, conv_bias) for stage in each], stem)
        counts = n_conv_per_stage_decoder
        self.decoder = UNetDecoder(classes, features_per_stage, kernel_sizes, strides, counts, conv_bias)
