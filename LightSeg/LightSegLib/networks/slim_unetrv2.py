"""Slim UNETRV2: a 23.6M-parameter U-Net whose skips pass through Mamba and attention blocks.

Source: "Slim UNETRV2: 3D Image Segmentation for Resource-Limited Medical Portable Devices" and the network that
its authors published (github.com/deepang-ai/Slim-UNETRV2), whose parameter names and quirks are kept: a block's
result is the skip only and does not feed the next stage, attention has no 1/sqrt(d) scale, and the decoder has
no activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.i18n import tr as _
from .mamba import Mamba

WIDTHS = (48, 96, 192, 384)
BOTTLENECK = 768
HEADS = (1, 2, 4, 4)
ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (F.gelu, F.gelu, F.silu, F.silu)
# A side of 16 first kernels is the smallest that every halving and compression divides; a cube of that side has
# so many tokens in the blocks of the four stages.
CUBE = 16
TOKENS_PER_CUBE = (64, 8, 8, 8)


class SFM(nn.Module):
    """The authors' SFM, before each block: x + r of [B, C, k, j, i].

    r merges a path of two 3^3 convolutions with a pointwise one.
    """

    def __init__(self, channels: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.proj = nn.Conv3d(channels, channels, 3, padding=1)
        self.proj2 = nn.Conv3d(channels, channels, 3, padding=1)
        self.proj3 = nn.Conv3d(channels, channels, 1)
        self.proj4 = nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, k, j, i] of the same shape."""
        local = self._unit(self.proj2, self._unit(self.proj, x))
        return x + self._unit(self.proj4, local + self._unit(self.proj3, x))

    def _unit(self, convolution: nn.Module, x: Tensor) -> Tensor:
        """Return the convolution of `x`, normalized and activated."""
        return self.activation(F.instance_norm(convolution(x)))


class MLP(nn.Module):
    """Two pointwise convolutions through twice the channels, [B, C, k, j, i] -> the same shape."""

    def __init__(self, channels: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.fc1 = nn.Conv3d(channels, 2 * channels, 1)
        self.fc2 = nn.Conv3d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, k, j, i] of the same shape."""
        return self.fc2(self.activation(self.fc1(x)))


class Block(nn.Module):
    """Mamba and self-attention on a coarser grid, added to the input: [B, C, k, j, i] -> the same shape.

    Args:
        compression: what leads to the coarser grid and back.
        upsample: what leads to the coarser grid and back.
    """

    def __init__(self, compression: nn.Module, upsample: nn.Module, channels: int, heads: int, slices: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.compression = compression
        self.upsample = upsample
        self.mamba = Mamba(channels, slices)
        self.qkv = nn.Conv3d(channels, 3 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, k, j, i] of the same shape."""
        compressed = self.compression(x)
        grid = compressed.shape[2:]
        tokens = self.mamba(self.norm(compressed.flatten(2).transpose(1, 2)))
        attended = self._attention(tokens.transpose(1, 2).unflatten(2, grid))
        return self.upsample(attended) + x

    def _attention(self, x: Tensor) -> Tensor:
        """Attention of every voxel to all others.

        The channels of `qkv` are split by head first: each head owns its q, its k and its v in a row.
        """
        q, k, v = self.qkv(x).flatten(2).unflatten(1, (self.heads, 3, -1)).transpose(-1, -2).unbind(2)
        attended = F.scaled_dot_product_attention(q, k, v, scale=1.0)  # [B, heads, N, C / heads]
        return attended.transpose(-1, -2).reshape(x.shape)


class Encoder(nn.Module):
    """[B, in_channels, k, j, i] -> the last stage's features and the four skips, finest first."""

    def __init__(self, in_channels: int, first_kernel: int, slices: Sequence[int]) -> None:
        super().__init__()
        stem = nn.Conv3d(in_channels, WIDTHS[0], first_kernel, stride=first_kernel)
        self.downsample_layers = nn.ModuleList([stem])
        for width, wider in zip(WIDTHS[:-1], WIDTHS[1:], strict=True):
            self.downsample_layers.append(nn.Sequential(nn.InstanceNorm3d(width), nn.Conv3d(width, wider, 2, stride=2)))
        self.stages = nn.ModuleList(
            nn.ModuleList([Block(*_resampling(stage, width), width, HEADS[stage], slices[stage])])
            for stage, width in enumerate(WIDTHS)
        )
        self.sfms = nn.ModuleList(SFM(*stage) for stage in zip(WIDTHS, ACTIVATIONS, strict=True))
        self.mlps = nn.ModuleList(MLP(*stage) for stage in zip(WIDTHS, ACTIVATIONS, strict=True))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the deepest features and the skip connections, finest first."""
        skips = []
        for downsample, sfm, blocks, mlp in zip(self.downsample_layers, self.sfms, self.stages, self.mlps, strict=True):
            x = sfm(downsample(x))
            skips.append(blocks[0](x))  # type: ignore[index]
            x = mlp(F.instance_norm(x))
        return x, skips


def _resampling(stage: int, width: int) -> tuple[nn.Module, nn.Module]:
    """Return the compression of a stage's block and the upsampling that undoes it."""
    if stage < 2:
        return nn.Conv3d(width, width, 3, stride=4), nn.ConvTranspose3d(width, width, 3, stride=4, output_padding=1)
    if stage == 2:
        return nn.Conv3d(width, width, 1, stride=2), nn.ConvTranspose3d(width, width, 4, stride=2, padding=1)
    return nn.Identity(), nn.Identity()


class DecoderStage(nn.Module):
    """Upsampling by two and fusion with a skip of `channels` channels."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.transposed1 = nn.ConvTranspose3d(in_channels, channels, 2, stride=2)
        self.norm = nn.GroupNorm(1, channels)
        self.transposed2 = nn.ConvTranspose3d(2 * channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return [B, C, 2k, 2j, 2i], with the skip connection."""
        return self.norm(self.transposed2(torch.cat((self.transposed1(x), skip), dim=1)))


class SlimUNETRV2(nn.Module):
    """Slim UNETRV2, [B, in_channels, k, j, i] -> logits [B, classes, k, j, i].

    Every side must be a multiple of 16 first kernels, and the slices must divide the tokens of their stages: sides of
    64a, 64b, 64c with a b c a multiple of 4 in the first variant, of any multiples of 32 in the second. `forward`
    raises ValueError for other sizes.

    Args:
        first_kernel: kernel and stride of the first and the last layer.
        slices: slices of the scan across slices, for each stage. The published variants are 4 and [64, 32, 16, 8]
            for patches of 128^3, 2 and [16, 8, 4, 2] for 96^3.
    """

    def __init__(self, in_channels: int, classes: int, first_kernel: int, slices: Sequence[int]) -> None:
        super().__init__()
        self.cube = CUBE * first_kernel
        self.cubes = math.lcm(
            *(count // math.gcd(count, tokens) for count, tokens in zip(slices, TOKENS_PER_CUBE, strict=True))
        )
        self.encoder = Encoder(in_channels, first_kernel, slices)
        self.hidden_downsample = nn.Conv3d(WIDTHS[3], BOTTLENECK, 2, stride=2)
        self.tsconv1 = DecoderStage(BOTTLENECK, WIDTHS[3])
        self.tsconv2 = DecoderStage(WIDTHS[3], WIDTHS[2])
        self.tsconv3 = DecoderStage(WIDTHS[2], WIDTHS[1])
        self.tsconv4 = DecoderStage(WIDTHS[1], WIDTHS[0])
        self.seghead = nn.ConvTranspose3d(WIDTHS[0], classes, first_kernel, stride=first_kernel)

    def forward(self, volume: Tensor) -> Tensor:
        """Return the logits [B, classes, k, j, i] of volumes [B, C, k, j, i]."""
        self._check_size(volume.shape[2:])
        x, skips = self.encoder(volume)
        x = self.hidden_downsample(x)
        for stage in (self.tsconv1, self.tsconv2, self.tsconv3, self.tsconv4):
            x = stage(x, skips.pop())
        return self.seghead(x)

    def _check_size(self, size: Sequence[int]) -> None:
        """Check the sides of a volume in voxels.

        Raises:
            ValueError: if the network cannot take them.
        """
        if any(side % self.cube or not side for side in size) or math.prod(size) // self.cube**3 % self.cubes:
            number = f" and which hold a multiple of {self.cubes} cubes of that side" if self.cubes > 1 else ""
            raise ValueError(
                _(
                    "Slim UNETRV2 takes patches whose sides are multiples of {cube} voxels{number}, not {size}. "
                    "Set the patch size accordingly, for example to the model card's."
                ).format(cube=self.cube, number=number, size=" x ".join(map(str, size)))
            )
