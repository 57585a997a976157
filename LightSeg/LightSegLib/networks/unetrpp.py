"""UNETR++: a U-Net of transformer blocks with efficient paired attention, in its four published variants.

Source: A. Shaker et al., "UNETR++: Delving into Efficient and Accurate 3D Medical Image Segmentation", and the
networks that its authors published (github.com/Amshaker/unetr_plus_plus), whose parameter names and quirks are
kept. Where the paper and the checkpoints differ, the checkpoints are followed. Attention dropout, which only
matters in training, is left out.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ModelError
from ..core.i18n import tr as _
from .blocks import SLOPE, Size

WIDTHS = (32, 64, 128, 256)
FINEST_WIDTH = 16
PROJECTED = (64, 64, 64, 32)  # length of the projected token axis in the encoder's stages; in the decoder it is 64
DEPTH = 3  # transformer blocks a stage
HEADS = 4


def _conv(convolution: nn.Module) -> nn.Sequential:
    """Return a convolution under the name `conv`, as the checkpoints have it."""
    return nn.Sequential(OrderedDict(conv=convolution))


class PairedAttention(nn.Module):
    """Efficient paired attention (the paper's EPA), [B, N, C] -> [B, N, C] for exactly N = `tokens`.

    Spatial attention of every token to `projected` mixtures of all tokens, and attention among the channels of a head,
    share queries and keys. projection is where the mixtures come from: "shared" (one linear layer for keys and values),
    "separate" (one each) or "matrix" (one matrix without bias).

    Args:
        output_projection: both results are halved in width and put side by side; without, they are added up.
    """

    def __init__(self, tokens: int, channels: int, projected: int, projection: str, output_projection: bool) -> None:
        super().__init__()
        self.projection = projection
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.temperature2 = nn.Parameter(torch.ones(HEADS, 1, 1))
        if projection == "matrix":
            self.EF = nn.Parameter(torch.randn(tokens, projected) * tokens**-0.5)
        self.qkvv = nn.Linear(channels, 4 * channels, bias=False)
        if projection == "separate":
            self.E = nn.Linear(tokens, projected)
        if projection != "matrix":
            self.F = nn.Linear(tokens, projected)
        self.out_proj = nn.Linear(channels, channels // 2) if output_projection else None
        self.out_proj2 = nn.Linear(channels, channels // 2) if output_projection else None

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        q, k, v_channel, v_spatial = self.qkvv(tokens).chunk(4, dim=-1)  # [B, N, C] each
        # Keys are projected as they are; only those for the attention among channels have unit length.
        k_projected, v_projected = self._project(k, v_spatial)  # [B, P, C] each
        q, k = _heads(F.normalize(q, dim=1)), _heads(F.normalize(k, dim=1))  # unit length along the tokens

        scores = q.transpose(-1, -2) @ k * self.temperature  # [B, heads, C / heads, C / heads]
        by_channel = _heads(v_channel) @ scores.softmax(dim=-1).transpose(-1, -2)
        by_channel = by_channel.transpose(1, 2).flatten(2)

        keys = _heads(k_projected) * self.temperature2  # a factor of the scores, cheaper on the P keys
        spatial = F.scaled_dot_product_attention(q, keys, _heads(v_projected), scale=1.0)  # [B, heads, N, C / heads]
        # The axes are turned to [B, C / heads, heads, N], and that memory is then read as if it were [B, N, C]. It
        # mixes tokens and channels, which is an odd design, but the published weights were trained with it.
        spatial = spatial.permute(0, 3, 1, 2).reshape(tokens.shape)

        if self.out_proj is None or self.out_proj2 is None:
            return by_channel + spatial
        return torch.cat((self.out_proj(spatial), self.out_proj2(by_channel)), dim=-1)

    def _project(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values [B, N, C] as mixtures of all tokens, [B, P, C]."""
        if self.projection == "matrix":
            return self.EF.T @ k, self.EF.T @ v
        for_keys = self.E if self.projection == "separate" else self.F
        return for_keys.weight @ k + for_keys.bias[:, None], self.F.weight @ v + self.F.bias[:, None]


def _heads(x: Tensor) -> Tensor:
    """[B, tokens, C] -> [B, heads, tokens, C / heads], a view."""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class ResidualUnit(nn.Module):
    """Two 3^3 convolutions with a residual connection, pointwise where the widths differ."""

    def __init__(self, in_channels: int, channels: int, norm: type[nn.BatchNorm3d] | type[nn.InstanceNorm3d]) -> None:
        super().__init__()
        self.conv1 = _conv(nn.Conv3d(in_channels, channels, 3, padding=1, bias=False))
        self.conv2 = _conv(nn.Conv3d(channels, channels, 3, padding=1, bias=False))
        self.norm1 = norm(channels)
        self.norm2 = norm(channels)
        widens = in_channels != channels
        self.conv3 = _conv(nn.Conv3d(in_channels, channels, 1, bias=False)) if widens else None
        self.norm3 = norm(channels) if widens else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, k, j, i] -> [B, C_out, k, j, i]."""
        y = F.leaky_relu(self.norm1(self.conv1(x)), SLOPE, inplace=True)
        y = self.norm2(self.conv2(y))
        y += x if self.conv3 is None or self.norm3 is None else self.norm3(self.conv3(x))
        return F.leaky_relu(y, SLOPE, inplace=True)


class TransformerBlock(nn.Module):
    """Paired attention, then `residual_units` residual units: [B, C, k, j, i] -> the same shape."""

    def __init__(
        self,
        tokens: int,
        channels: int,
        projected: int,
        projection: str,
        residual_units: int,
        output_projection: bool,
    ) -> None:
        super().__init__()
        self.gamma = nn.Parameter(1e-6 * torch.ones(channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, channels))
        self.norm = nn.LayerNorm(channels)
        self.epa_block = PairedAttention(tokens, channels, projected, projection, output_projection)
        self.conv51 = ResidualUnit(channels, channels, nn.BatchNorm3d)
        self.conv52 = ResidualUnit(channels, channels, nn.BatchNorm3d) if residual_units == 2 else nn.Identity()
        self.conv8 = nn.Sequential(nn.Dropout3d(0.1), nn.Conv3d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, k, j, i] of the same shape."""
        tokens = x.flatten(2).transpose(1, 2) + self.pos_embed
        tokens = tokens + self.gamma * self.epa_block(self.norm(tokens))
        grid = tokens.transpose(1, 2).reshape(x.shape)
        return grid + self.conv8(self.conv52(self.conv51(grid)))


class Encoder(nn.Module):
    """[B, in_channels, k, j, i] -> the features of the four stages, finest first."""

    def __init__(self, in_channels: int, stem_stride: Size, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.downsample_layers = nn.ModuleList()
        stride, channels = tuple(stem_stride), in_channels
        for width in WIDTHS:
            convolution = nn.Conv3d(channels, width, stride, stride=stride, bias=False)  # type: ignore[arg-type]
            # as many groups as there were channels before
            self.downsample_layers.append(nn.Sequential(_conv(convolution), nn.GroupNorm(channels, width)))
            stride, channels = (2, 2, 2), width
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of all stages, finest first."""
        features = []
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
            features.append(x)
        return features


class DecoderStage(nn.Module):
    """Upsampling by `stride`, to which a skip of `channels` channels is added before the blocks."""

    def __init__(self, in_channels: int, channels: int, stride: Size, blocks: nn.Module) -> None:
        super().__init__()
        kernel = tuple(stride)
        self.transp_conv = _conv(
            nn.ConvTranspose3d(in_channels, channels, kernel, stride=kernel, bias=False)  # type: ignore[arg-type]
        )
        self.decoder_block = nn.ModuleList([blocks])

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return the features at the skip connection's resolution, [B, C, k, j, i]."""
        x = self.transp_conv(x)
        x += skip
        return self.decoder_block[0](x)


class UNETRPP(nn.Module):
    """UNETR++, [B, in_channels, k, j, i] -> logits [B, classes, k, j, i].

    The published variants:  patch_size       stem_stride  projection  residual_units  output_projection
        Synapse              64, 128, 128     2, 4, 4      shared      1               yes
        ACDC                 16, 160, 160     1, 4, 4      separate    2               yes
        lung                 32, 192, 192     1, 4, 4      separate    2               yes
        tumor (BraTS)       128, 128, 128    4, 4, 4      matrix      1               no

    With `deep_supervision`, `forward` returns the logits at full resolution and those of the next two decoder stages.
    It raises ValueError for another patch size, the constructor ModelError for an unknown projection.

    Args:
        patch_size: the one size that is accepted, since attention has a weight for every voxel of the coarser
            grids.
        stem_stride: kernel and stride of the first convolution and the last upsampling.
        projection: see PairedAttention.
        output_projection: see PairedAttention.
        residual_units: 1 or 2 in each transformer block.
    """

    deep_supervision = False

    def __init__(
        self,
        in_channels: int,
        classes: int,
        patch_size: Size,
        stem_stride: Size,
        projection: str,
        residual_units: int,
        output_projection: bool,
    ) -> None:
        super().__init__()
        if projection not in ("shared", "separate", "matrix"):
            raise ModelError(
                _(
                    "UNETR++ has no projection '{projection}'. Choose shared, separate or matrix in the model card."
                ).format(projection=projection)
            )
        self.patch_size = tuple(patch_size)
        self.projection = projection

        def blocks(stage: int, projected: int) -> nn.Sequential:
            tokens = 1
            for length, stride in zip(patch_size, stem_stride, strict=True):
                tokens *= length // stride // 2**stage
            arguments = (tokens, WIDTHS[stage], projected, projection, residual_units, output_projection)
            return nn.Sequential(*(TransformerBlock(*arguments) for _ in range(DEPTH)))

        stages = [blocks(stage, projected) for stage, projected in enumerate(PROJECTED)]
        self.unetr_pp_encoder = Encoder(in_channels, stem_stride, stages)
        self.encoder1 = ResidualUnit(in_channels, FINEST_WIDTH, nn.InstanceNorm3d)
        self.decoder5 = DecoderStage(WIDTHS[3], WIDTHS[2], (2, 2, 2), blocks(2, 64))
        self.decoder4 = DecoderStage(WIDTHS[2], WIDTHS[1], (2, 2, 2), blocks(1, 64))
        self.decoder3 = DecoderStage(WIDTHS[1], WIDTHS[0], (2, 2, 2), blocks(0, 64))
        unit = ResidualUnit(FINEST_WIDTH, FINEST_WIDTH, nn.InstanceNorm3d)
        self.decoder2 = DecoderStage(WIDTHS[0], FINEST_WIDTH, stem_stride, unit)
        self.out1 = _conv(_conv(nn.Conv3d(FINEST_WIDTH, classes, 1)))
        self.out2 = _conv(_conv(nn.Conv3d(WIDTHS[0], classes, 1)))
        self.out3 = _conv(_conv(nn.Conv3d(WIDTHS[1], classes, 1)))

    def canonical_key(self, key: str) -> str:
        """Return the name under which a tensor of a checkpoint is kept: E and F are one layer where it is shared."""
        return shared_key(key) if self.projection == "shared" else key

    def forward(self, volume: Tensor) -> Tensor | list[Tensor]:
        """Return the logits [B, classes, k, j, i] of patches; in training, those of all resolutions."""
        if tuple(volume.shape[2:]) != self.patch_size:
            raise ValueError(
                _(
                    "This UNETR++ needs patches of exactly {patch_size} voxels, not {shape}. "
                    "Correct patch_size in the model card."
                ).format(patch_size=" x ".join(map(str, self.patch_size)), shape=" x ".join(map(str, volume.shape[2:])))
            )
        *skips, x = self.unetr_pp_encoder(volume)
        x = self.decoder5(x, skips.pop())
        coarser = self.decoder4(x, skips.pop())
        coarse = self.decoder3(coarser, skips.pop())
        logits = self.out1(self.decoder2(coarse, self.encoder1(volume)))
        return [logits, self.out2(coarse), self.out3(coarser)] if self.deep_supervision else logits


def shared_key(key: str) -> str:
    """E.weight and E.bias, with or without a prefix, as F.weight and F.bias; any other key as it is."""
    return re.sub(r"(^|\.)E\.(weight|bias)$", r"\1F.\2", key)
