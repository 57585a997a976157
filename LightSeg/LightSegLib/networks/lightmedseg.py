"""LightMedSeg: a 0.48M-parameter 3D U-Net with learned spatial anchors.

Source: "LightMedSeg: Lightweight 3D Medical Image Segmentation with Learned Spatial Anchors",
section 3. The authors released neither code nor weights, so the text is the only source. Where it
was silent or at odds with itself, the paper's own numbers decided. Chosen, with the place concerned:

3.1   Both halves of a ghost convolution have a bias, as every layer has but those named in 3.2 and 3.3.
3.2   The detector's convolutions have no bias: with hidden width 128 it then has exactly 8,616
      parameters for four input channels and K=8 ("8.6K").
3.3   Eq. 2-3: smoothing kernel 3 (branch 1 then costs 0.2K), a pointwise convolution and a sigmoid
      make the routing map T one channel. Eq. 4: the head expands 8 to 48 channels (two 3^3 kernels:
      the stated receptive field of 5 voxels) without bias, with GN(4) and, on the single channel, GN(1);
      the module then has 12.3K parameters (paper 11.7K). A SiLU before the sigmoid, as the text has it,
      keeps the complexity above 0.43, so that "near 0" is not reached; eq. 5 only needs its order.
      Eq. 5: both experts map 8 to 16 channels.
3.4   Widths 16/32/64/128 at 1/2, 1/4, 1/8 and 1/16 of the input. Eq. 6: FiLM follows the group-normed
      ghost convolution; its scale is predicted as 1 + gamma, so that it starts near the identity.
      Eq. 7-8: each path is convolution, GN(4), SiLU, as in the detector and the LSPM; the depthwise
      kernel is 3. Eq. 10: squeeze-and-excitation reduces by 4, never below 4 channels, with a SiLU between.
3.5   Eq. 11: "all four encoder stages" and "24K parameters" exclude each other at widths 16 to 128.
      24K is what the four maps with a skip of their own need: stem (8), stages 1, 2 and 3 (16, 32, 64);
      stage 4 seeds the decoder. That also agrees with the stem being the skip of decoder stage 4.
      One controller serves both coarse levels (24.6K with the projections).
3.6   Widths 64/32/16/8 at 1/8, 1/4, 1/2 and the full resolution: section 3.1 has the stem's stride
      "fully recovered by the four transposed convolution stages", eq. 14's skips only fit these sizes,
      and so the head's further stride-2 transposed convolution, a fifth doubling of four halvings,
      cannot exist; the head is its pointwise convolution. The bottleneck projection is a pointwise
      convolution that keeps 128 channels; transposed convolutions have kernel and stride 2. Eq. 14 is in
      normalized coordinates of voxel centers. Eq. 16: pointwise fusion. Eq. 17: the gate is a 3^3
      convolution. Eq. 19, 20: kernel 3. Eq. 16 and each branch end with GN(4) and SiLU.
Table 4: K = 8, 16, 32.

With this reading (4 channels, 4 classes): 0.472M parameters (paper 0.48M), 0.689M with standard
convolutions (0.66M), 14.5G for 4x128x128x128 (14.64G), where one multiply-add of a convolution or a
linear layer counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEM_WIDTH = 8
ENCODER_WIDTHS = (16, 32, 64, 128)
DECODER_WIDTHS = (64, 32, 16, 8)
ROUTED_WIDTH = 64
LSPM_HIDDEN = 48
GROUPS = 4
SIZE_MULTIPLE = 16  # the stem and three poolings halve four times

Convolution = Callable[..., nn.Module]


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Trilinear resampling to `size` (D, H, W); no work where the size is right already."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="trilinear", align_corners=False)


def _normed(convolution: nn.Module, channels: int, groups: int = GROUPS) -> nn.Sequential:
    """Convolution, group norm, SiLU."""
    return nn.Sequential(convolution, nn.GroupNorm(groups, channels), nn.SiLU(inplace=True))


class GhostConv3d(nn.Module):
    """GhostConv3D with ratio 2 (section 3.1).

    Half the channels come from a dense 3^3 convolution, the other half from those by a depthwise 3^3 one.

    [B, C_in, D, H, W] -> [B, C_out, D/stride, ...].
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        half = out_channels // 2
        self.primary = nn.Conv3d(in_channels, half, 3, stride=stride, padding=1)
        self.ghost = nn.Conv3d(half, half, 3, padding=1, groups=half)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, D, H, W] -> [B, C_out, D/stride, ...]."""
        primary = self.primary(x)
        return torch.cat((primary, self.ghost(primary)), dim=1)


def standard_conv3d(in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """Return the convolution that replaces GhostConv3d in the paper's 0.66M variant."""
    return nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1)


class SqueezeExcitation(nn.Module):
    """Channel recalibration (eq. 10) with a bottleneck of max(C / 4, 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 4, 4)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, D, H, W] recalibrated by channel."""
        pooled = x.mean(dim=(2, 3, 4))
        scale = torch.sigmoid(self.expand(F.silu(self.reduce(pooled))))
        return x * scale[:, :, None, None, None]


class AnchorDetector(nn.Module):
    """Global anchor detector (section 3.2, eq. 1).

    [B, C, D, H, W] -> [B, K, 3] in (0, 1), the axes in the order depth, height, width.
    """

    def __init__(self, in_channels: int, anchors: int, hidden: int = 128) -> None:
        super().__init__()
        widths = (in_channels, 8, 8, 8)
        self.encoder = nn.Sequential(
            *(
                _normed(nn.Conv3d(a, b, 3, stride=2, padding=1, bias=False), b)
                for a, b in zip(widths[:-1], widths[1:], strict=True)
            )
        )
        self.mlp = nn.Sequential(nn.Linear(8, hidden), nn.SiLU(inplace=True), nn.Linear(hidden, 3 * anchors))

    def forward(self, volume: Tensor) -> Tensor:
        """Return anchors [B, anchors, 3], 0 to 1, of volumes [B, C, D, H, W]."""
        descriptor = self.encoder(volume).mean(dim=(2, 3, 4))
        return torch.sigmoid(self.mlp(descriptor)).unflatten(1, (-1, 3))


class LocalStructuralPrior(nn.Module):
    """LSPM (section 3.3): stem features -> (texture map T [B, 1, ...], mixed features [B, 16, ...])."""

    def __init__(self, channels: int = STEM_WIDTH, out_channels: int = ENCODER_WIDTHS[0]) -> None:
        super().__init__()
        self.smooth = nn.Conv3d(channels, channels, 3, padding=1, groups=channels)
        self.texture = nn.Conv3d(channels, 1, 1)
        self.complexity = nn.Sequential(
            _normed(nn.Conv3d(channels, LSPM_HIDDEN, 3, padding=1, bias=False), LSPM_HIDDEN),
            _normed(nn.Conv3d(LSPM_HIDDEN, 1, 3, padding=1, bias=False), 1, groups=1),
        )
        self.mixture = nn.Conv3d(1, 2, 1)
        self.experts = nn.ModuleList(nn.Conv3d(channels, out_channels, 1) for _ in range(2))

    def forward(self, stem: Tensor) -> tuple[Tensor, Tensor]:
        """Return texture [B, 1, D, H, W] and features [B, C_out, D, H, W] of the stem's features."""
        residual = (stem - self.smooth(stem)).abs()  # eq. 2
        texture = torch.sigmoid(self.texture(residual))  # eq. 3
        weights = torch.softmax(self.mixture(torch.sigmoid(self.complexity(stem))), dim=1)  # eq. 4
        first, second = (expert(stem) for expert in self.experts)
        return texture, weights[:, :1] * first + weights[:, 1:] * second  # eq. 5


class EncoderStage(nn.Module):
    """One encoder stage (section 3.4): FiLM by the anchors, texture-routed dual path, SE.

    Without anchors (`anchors=0`) FiLM is the identity; without a texture map both paths weigh 0.5.
    """

    def __init__(self, in_channels: int, channels: int, anchors: int, convolution: Convolution) -> None:
        super().__init__()
        self.convolution = convolution(in_channels, channels)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.scale = nn.Linear(3 * anchors, channels) if anchors else None
        self.shift = nn.Linear(3 * anchors, channels) if anchors else None
        self.detail = _normed(nn.Conv3d(channels, channels, 3, padding=1, groups=channels), channels)
        self.smooth = _normed(nn.Conv3d(channels, channels, 1), channels)
        self.excitation = SqueezeExcitation(channels)

    def forward(self, x: Tensor, anchors: Tensor | None, texture: Tensor | None) -> Tensor:
        """Return the stage's features at half the resolution."""
        x = self.norm(self.convolution(x))
        if anchors is not None and self.scale is not None and self.shift is not None:
            flat = anchors.flatten(1)
            gamma, beta = self.scale(flat), self.shift(flat)
            x = x * (1 + gamma[:, :, None, None, None]) + beta[:, :, None, None, None]  # eq. 6
        detail, smooth = self.detail(x), self.smooth(x)  # eq. 7, 8
        routing = 0.5 if texture is None else _resize(texture, x.shape[2:])
        return self.excitation(smooth + routing * (detail - smooth))  # eq. 9, 10


class SkipRouter(nn.Module):
    """Learned multi-scale skip fusion at the two coarse decoder levels (section 3.5, equations 11 to 13).

    11-13).
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv3d(width, ROUTED_WIDTH, 1) for width in widths)
        self.controller = nn.Sequential(
            nn.Conv3d(ROUTED_WIDTH * len(widths), ROUTED_WIDTH, 1),
            nn.SiLU(inplace=True),
            nn.Conv3d(ROUTED_WIDTH, len(widths), 1),
        )

    def forward(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return all encoder features at one size, routed, [B, C, *size]."""
        aligned = [
            _resize(projection(feature), size) for projection, feature in zip(self.projections, features, strict=True)
        ]
        weights = torch.softmax(self.controller(torch.cat(aligned, dim=1)), dim=1)  # eq. 12
        fused = weights[:, :1] * aligned[0]
        for index, feature in enumerate(aligned[1:], start=1):
            fused = fused + weights[:, index : index + 1] * feature  # eq. 13
        return fused


class PositionBias(nn.Module):
    """Anchor-relative position bias (eq. 14, 15), [B, K, 3] and a size -> [B, C, D, H, W].

    The summed signed offset of a voxel from an anchor splits into one term per axis, and the pointwise projection is
    linear: three 1D arrays are projected and then broadcast, so that no array of K values per voxel ever exists.
    """

    def __init__(self, anchors: int, channels: int) -> None:
        super().__init__()
        self.projection = nn.Conv3d(anchors, channels, 1)

    def along(self, axis: int, length: int, anchors: Tensor) -> Tensor:
        """Return the term of one axis, [B, C, length]; the bias is in none of the three."""
        position = (torch.arange(length, device=anchors.device, dtype=anchors.dtype) + 0.5) / length
        offset = position - anchors[:, :, axis, None]  # [B, K, length]
        return torch.matmul(self.projection.weight.flatten(1).to(offset.dtype), offset)

    def forward(self, anchors: Tensor, size: Sequence[int]) -> Tensor:
        """Return the bias [B, C, *size] of positions relative to the anchors."""
        bias = self.projection.bias
        assert bias is not None
        result = bias[None, :, None, None, None]
        for axis, length in enumerate(size):
            shape = [len(anchors), -1, 1, 1, 1]
            shape[2 + axis] = length
            result = result + self.along(axis, length, anchors).reshape(shape)
        return result


class DecoderStage(nn.Module):
    """One decoder stage (section 3.6): position-biased upsampling, fusion, per-voxel gating, SE."""

    def __init__(self, in_channels: int, channels: int, anchors: int, convolution: Convolution) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose3d(in_channels, channels, 2, stride=2)
        self.position = PositionBias(anchors, channels) if anchors else None
        self.fusion = _normed(nn.Conv3d(2 * channels, channels, 1), channels)
        self.gate = nn.Conv3d(channels, 3, 3, padding=1)
        self.branches = nn.ModuleList(
            (
                _normed(nn.Conv3d(channels, channels, 3, padding=1, groups=channels), channels),  # eq. 19
                _normed(convolution(channels, channels), channels),  # eq. 20
                _normed(nn.Conv3d(channels, channels, 1), channels),  # eq. 21
            )
        )
        self.excitation = SqueezeExcitation(channels)

    def forward(self, x: Tensor, skip: Tensor, anchors: Tensor | None) -> Tensor:
        """Return the stage's features at twice the resolution, with the skip connection."""
        x = self.upsample(x)
        if self.position is not None and anchors is not None:
            x = x + self.position(anchors, x.shape[2:])
        x = self.fusion(torch.cat((x, skip), dim=1))  # eq. 16
        weights = torch.softmax(self.gate(x), dim=1)  # eq. 17
        gated = weights[:, :1] * self.branches[0](x)
        for index in (1, 2):
            gated = gated + weights[:, index : index + 1] * self.branches[index](x)  # eq. 18
        return self.excitation(gated)


class LightMedSeg(nn.Module):
    """LightMedSeg, [B, in_channels, D, H, W] -> logits [B, classes, D, H, W].

    Any size is taken: the input is padded with its edge values to multiples of 16 and the logits are cropped back.

    Args:
        in_channels: modalities, and labels with the background.
        classes: modalities, and labels with the background.
        anchors: K; 0 leaves out the anchors with FiLM and the position bias ("w/o Anchors").
        structural_prior: False for Table 4's "w/o LSPM" (plain pointwise features, equal routing) and "w/o Skip
            Router" (same-scale skips).
        skip_router: see `structural_prior`.
        ghost: False for "w/o GhostConv3D" (0.66M).
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        anchors: int = 8,
        structural_prior: bool = True,
        skip_router: bool = True,
        ghost: bool = True,
    ) -> None:
        super().__init__()
        convolution: Convolution = GhostConv3d if ghost else standard_conv3d
        self.stem = nn.Sequential(convolution(in_channels, STEM_WIDTH, stride=2), nn.GroupNorm(GROUPS, STEM_WIDTH))
        self.detector = AnchorDetector(in_channels, anchors) if anchors else None
        self.prior = LocalStructuralPrior() if structural_prior else None
        self.entry = None if structural_prior else nn.Conv3d(STEM_WIDTH, ENCODER_WIDTHS[0], 1)
        inputs = (ENCODER_WIDTHS[0], *ENCODER_WIDTHS[:-1])
        self.encoder = nn.ModuleList(
            EncoderStage(a, b, anchors, convolution) for a, b in zip(inputs, ENCODER_WIDTHS, strict=True)
        )
        skips = (STEM_WIDTH, *ENCODER_WIDTHS[:-1])
        self.router = SkipRouter(skips) if skip_router else None
        coarse = [ROUTED_WIDTH] * 2 if skip_router else [skips[3], skips[2]]
        sources = (*coarse, skips[1], skips[0])
        self.skips = nn.ModuleList(nn.Conv3d(a, b, 1) for a, b in zip(sources, DECODER_WIDTHS, strict=True))
        self.seed = nn.Conv3d(ENCODER_WIDTHS[-1], ENCODER_WIDTHS[-1], 1)
        inputs = (ENCODER_WIDTHS[-1], *DECODER_WIDTHS[:-1])
        self.decoder = nn.ModuleList(
            DecoderStage(a, b, anchors, convolution) for a, b in zip(inputs, DECODER_WIDTHS, strict=True)
        )
        self.head = nn.Conv3d(DECODER_WIDTHS[-1], classes, 1)

    def forward(self, volume: Tensor) -> Tensor:
        """Return the logits [B, classes, D, H, W] of volumes [B, C, D, H, W]."""
        return in_multiples(volume, self._logits)

    def _logits(self, volume: Tensor) -> Tensor:
        """Return the logits of volumes whose sides are multiples of `SIZE_MULTIPLE`."""
        stem = self.stem(volume)
        anchors = self.detector(volume) if self.detector is not None else None
        texture, x = self.prior(stem) if self.prior is not None else (None, self.entry(stem))  # type: ignore[misc]

        features = [stem]  # what a decoder stage may skip to: stem, stages 1 to 3
        for index, stage in enumerate(self.encoder):
            x = stage(x, anchors, texture)
            if index < 3:
                features.append(x)
                x = F.max_pool3d(x, 2)

        x = self.seed(x)
        for index, stage in enumerate(self.decoder):
            out = [2 * length for length in x.shape[2:]]
            if index < 2 and self.router is not None:
                skip = self.skips[index](self.router(features, out))
            else:  # the pointwise projection commutes with resampling and is cheaper before it
                skip = _resize(self.skips[index](features[3 - index]), out)
            x = stage(x, skip, anchors)
        return self.head(x)


def in_multiples(volume: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `compute` of [B, C, D, H, W] padded to sides that are multiples of 16, cropped back."""
    size = volume.shape[2:]
    padding = [extra for length in reversed(size) for extra in (0, -length % SIZE_MULTIPLE)]
    if not any(padding):
        return compute(volume)
    logits = compute(F.pad(volume, padding, mode="replicate"))
    return logits[:, :, : size[0], : size[1], : size[2]]
