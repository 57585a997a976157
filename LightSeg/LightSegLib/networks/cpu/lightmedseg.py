"""LightMedSeg's forward pass for inference on a CPU: the numbers of `lightmedseg`, to float32 rounding, in less time.

On a few cores, passes over the finest maps cost more than the arithmetic. So, other than in the modules:

- One sample at a time is computed, as maps [k, j, i, C], which oneDNN's convolutions take and give without a copy.
- A map is worked on in slabs along k, which stay in the cache for as many steps as can follow one another.
- A norm is two passes: its moments, gathered where the map is made, then scale and shift together with what follows.
- Linear steps in a row are one: eq. 16's pointwise fusion goes into the transposed convolution and in front of the
  skip's resampling, the recalibration (eq. 10) that ends a decoder stage into the layer after it.
- Convolutions of one map are one convolution: the gate (eq. 17) and the dense half of the ghost convolution (eq. 20).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..lightmedseg import GhostConv3d, LightMedSeg, in_multiples

VOXELWISE_BYTES = 1 << 20  # of a slab whose voxels are computed one by one
MOMENTS_BYTES = 1 << 22  # of a part whose moments are summed in float32
CONVOLVED_BYTES = 1 << 23  # of a slab for convolutions, which compute some rows of its neighbors again
SMALL = 1 << 17  # voxels of a sample, up to which the modules are faster where there are several
LANES = 8  # output channels that oneDNN computes at a time with AVX2


class LightMedSegOnCpu(nn.Module):
    """`network`, whose parameters it shares, as computed here: [B, C, k, j, i] -> [B, classes, k, j, i], float32."""

    def __init__(self, network: LightMedSeg) -> None:
        super().__init__()
        self.network = network

    @staticmethod
    def takes(network: nn.Module) -> TypeGuard[LightMedSeg]:
        """Return whether it is a whole LightMedSeg, none of the variants of Table 4, and torch has oneDNN."""
        return (
            isinstance(network, LightMedSeg)
            and None not in (network.detector, network.prior, network.router)
            and isinstance(network.stem[0], GhostConv3d)
            and torch.backends.mkldnn.is_available()
        )

    def forward(self, volume: Tensor) -> Tensor:
        """Return the logits [B, classes, k, j, i] of volumes [B, C, k, j, i]."""
        if len(volume) > 1 and volume[0, 0].numel() <= SMALL:
            return self.network(volume)
        return in_multiples(volume, self._logits)

    def _logits(self, volume: Tensor) -> Tensor:
        """Return the logits of volumes whose sides are multiples of the network's."""
        logits = [_sample(self.network, sample.movedim(0, -1).contiguous()) for sample in volume]
        return torch.stack(logits) if len(logits) > 1 else logits[0][None]


def _sample(network: Any, volume: Tensor) -> Tensor:
    """Return the logits of one volume [k, j, i, C]."""
    stem = _ghost(network.stem[0], volume, stride=2)
    _affine(stem, *_Moments(stem).normalizing(network.stem[1]))
    anchors = _detect(network.detector, volume)
    texture, x = _prior(network.prior, stem)

    features = [stem]
    for index, stage in enumerate(network.encoder):
        x = _encode(stage, x, anchors, texture)
        if index < 3:
            features.append(x)
            x = _pooled(x)

    x, recalibration = _pointwise(network.seed, x), None
    for index, (stage, projection) in enumerate(zip(network.decoder, network.skips, strict=True)):
        size = [2 * length for length in x.shape[:3]]
        skip = _route(network.router, features, size) if index < 2 else features[3 - index]
        x, recalibration = _decode(stage, x, recalibration, _pointwise(projection, skip), anchors)
    weight, bias = network.head.weight.flatten(1) * recalibration, network.head.bias.view(-1, 1, 1, 1)
    logits = x.new_empty(len(weight), *x.shape[:3])
    for slab in _slabs(x, VOXELWISE_BYTES):
        torch.mm(weight, x[slab].flatten(0, 2).T, out=logits[:, slab].flatten(1))
        logits[:, slab] += bias
    return logits


def _first(x: Tensor) -> Tensor:
    """[k, j, i, C] as torch's modules take it, [1, C, k, j, i] in the memory format channels_last_3d.

    The axis comes first: the stride of `x.movedim(-1, 0)[None]` is another, by which torch does not see the format.
    """
    return x[None].movedim(-1, 1)


def _last(x: Tensor) -> Tensor:
    """Return the other way round."""
    return x[0].movedim(0, -1).contiguous()


def _slabs(x: Tensor, limit: int) -> Iterator[slice]:
    """Return the pairs of rows k up to `limit` bytes, at least one pair; a single row stays alone."""
    step = max(1, limit // max(1, 2 * x[0].nbytes)) * 2
    return (slice(start, min(start + step, len(x))) for start in range(0, len(x), step))


def _with_neighbors(slab: slice, count: int) -> tuple[slice, slice]:
    """Return the slab with `count` rows on either side where there are any, and where its own rows are in that."""
    start = max(0, slab.start - count)
    return slice(start, slab.stop + count), slice(slab.start - start, slab.stop - start)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, groups: int = 1) -> Tensor:
    """3^3 convolution with "same" padding.

    Called by its own name, since torch gives small maps to a slower one.
    """
    weight = weight.contiguous(memory_format=torch.channels_last_3d)
    return _last(torch.mkldnn_convolution(_first(x), weight, bias, (1, 1, 1), (stride,) * 3, (1, 1, 1), groups))


def _depthwise(convolution: Any, x: Tensor) -> Tensor:
    """Return a depthwise convolution of [k, j, i, C]."""
    return _convolve(x, convolution.weight, convolution.bias, groups=x.shape[-1])


def _pointwise(convolution: Any, x: Tensor) -> Tensor:
    """Return a pointwise convolution of [k, j, i, C]."""
    return _linear(x, convolution.weight.flatten(1), convolution.bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., C_in] -> [..., C_out].

    Two narrow voxels are computed as one, since matrix products are slow below 16.
    """
    if x.shape[-1] < 16 and x.shape[-2] % 2 == 0:
        twice = F.linear(
            x.unflatten(-2, (-1, 2)).flatten(-2),
            torch.block_diag(weight, weight),
            bias if bias is None else bias.repeat(2),
        )
        return twice.unflatten(-1, (2, -1)).flatten(-3, -2)
    return F.linear(x, weight, bias)


def _ghost(ghost: Any, x: Tensor, stride: int = 1) -> Tensor:
    """Return a ghost convolution of [k, j, i, C]."""
    primary = _convolve(x, ghost.primary.weight, ghost.primary.bias, stride)
    return torch.cat((primary, _depthwise(ghost.ghost, primary)), dim=-1)


def _pooled(x: Tensor) -> Tensor:
    """Maximum of 2^3 voxels."""
    x = torch.maximum(x[::2], x[1::2])
    x = torch.maximum(x[:, ::2], x[:, 1::2])
    return torch.maximum(x[:, :, ::2], x[:, :, 1::2])


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Trilinear resampling, one axis after the other, to twice the size or the size divided by any even number."""
    for axis, length in enumerate(size):
        step = x.shape[axis] // length
        if step > 1:  # a new voxel's center is in the middle between those of the two middle old ones
            places = torch.arange(step // 2, x.shape[axis], step)
            x = x.index_select(axis, places - 1).add_(x.index_select(axis, places)).mul_(0.5)
        elif step < 1:
            x = _doubled(x, axis)
    return x


def _doubled(x: Tensor, axis: int) -> Tensor:
    """Linear interpolation to twice the length."""
    length = x.shape[axis]
    before = torch.cat((x.narrow(axis, 0, 1), x.narrow(axis, 0, length - 1)), dim=axis)
    after = torch.cat((x.narrow(axis, 1, length - 1), x.narrow(axis, length - 1, 1)), dim=axis)
    doubled = x.new_empty(*x.shape[: axis + 1], 2, *x.shape[axis + 1 :])
    torch.lerp(x, before, 0.25, out=doubled.select(axis + 1, 0))
    torch.lerp(x, after, 0.25, out=doubled.select(axis + 1, 1))
    return doubled.flatten(axis, axis + 1)


class _Moments:
    """Sums and sums of squares of maps of C channels; float64 beyond a slab, so that they lose nothing."""

    def __init__(self, *parts: Tensor) -> None:
        self._count = 0
        self._sums: Tensor | float = 0.0
        for part in parts:
            self.add(part)

    def add(self, x: Tensor) -> None:
        """Add the voxels of a map [k, j, i, C] to the moments."""
        for slab in _slabs(x, MOMENTS_BYTES):
            lines = x[slab].flatten(0, 1).flatten(1)  # [k j, i C]: long rows are summed fast
            both = torch.stack((lines.sum(0), torch.linalg.vecdot(lines, lines, dim=0)))
            self._sums = self._sums + both.view(2, -1, x.shape[-1]).sum(1, dtype=torch.float64)
            self._count += x[slab].shape[:3].numel()

    @property
    def mean(self) -> Tensor:
        """Return the mean of every channel [C]."""
        return (self._sums[0] / self._count).float()  # type: ignore[index]

    def normalizing(self, norm: Any) -> tuple[Tensor, Tensor]:
        """Return the scale and shift [C] that do what the norm does."""
        assert isinstance(self._sums, Tensor)
        mean, square = (self._sums / self._count).unflatten(1, (norm.num_groups, -1)).mean(2, keepdim=True)
        scale = (square - mean.square()).clamp_(min=0).add_(norm.eps).rsqrt_() * norm.weight.view(norm.num_groups, -1)
        shift = norm.bias.view(norm.num_groups, -1) - mean * scale
        return scale.flatten().float(), shift.flatten().float()


def _affine(x: Tensor, scale: Tensor, shift: Tensor, activate: bool = False) -> Tensor:
    """X * scale + shift for each channel, in place, with or without SiLU after it."""
    for slab in _slabs(x, VOXELWISE_BYTES):
        torch.addcmul(shift, x[slab], scale, out=x[slab])
        if activate:
            F.silu(x[slab], inplace=True)
    return x


def _recalibration(excitation: Any, mean: Tensor) -> Tensor:
    """Return the factors [C] of eq. 10."""
    return torch.sigmoid(excitation.expand(F.silu(excitation.reduce(mean))))


def _detect(detector: Any, volume: Tensor) -> Tensor:
    """Return the section 3.2: anchors [K, 3]."""
    for convolution, norm, _ in detector.encoder:
        volume = _convolve(volume, convolution.weight, None, stride=2)
        _affine(volume, *_Moments(volume).normalizing(norm), activate=True)
    return torch.sigmoid(detector.mlp(volume.mean(dim=(0, 1, 2)))).view(-1, 3)


def _prior(prior: Any, stem: Tensor) -> tuple[Tensor, Tensor]:
    """Return the section 3.3: texture map [k, j, i, 1] and mixed features."""
    residual = _depthwise(prior.smooth, stem).sub_(stem).abs_()  # eq. 2
    texture = _pointwise(prior.texture, residual).sigmoid_()  # eq. 3

    (expand, inner, _), (reduce, outer, _) = prior.complexity
    slabs, moments = [], _Moments()
    for slab in _slabs(stem, CONVOLVED_BYTES // 2):
        rows, own = _with_neighbors(slab, 1)
        slabs.append(_convolve(stem[rows], expand.weight, None)[own])
        moments.add(slabs[-1])
    products = stem.new_empty(27, *stem.shape[:3])
    affine, kernel = moments.normalizing(inner), reduce.weight[0].flatten(1).T
    for slab, hidden in zip(_slabs(stem, CONVOLVED_BYTES // 2), slabs, strict=True):
        _affine(hidden, *affine, activate=True)
        torch.mm(kernel, hidden.flatten(0, 2).T, out=products[:, slab].flatten(1))
    complexity = _summed(products)[..., None]
    _affine(complexity, *_Moments(complexity).normalizing(outer), activate=True).sigmoid_()
    # Eq. 4, 5: of two weights that sum to one, the first is the sigmoid of the difference; then s + w (f - s).
    weight, bias = prior.mixture.weight.flatten(), prior.mixture.bias
    first = complexity.mul_(weight[0] - weight[1]).add_(bias[0] - bias[1]).sigmoid_()
    mixed = stem.new_empty(*stem.shape[:3], prior.experts[0].out_channels)
    for slab in _slabs(mixed, VOXELWISE_BYTES):
        one, other = (_pointwise(expert, stem[slab]) for expert in prior.experts)
        torch.lerp(other, one, first[slab], out=mixed[slab])
    return texture, mixed


def _summed(products: Tensor) -> Tensor:
    """3^3 convolution to one channel from the products [27, k, j, i] of every voxel with its taps."""
    result = torch.zeros_like(products[0])
    for tap, offset in zip(products, itertools.product((-1, 0, 1), repeat=3), strict=True):
        to = [slice(max(0, -o), length - max(0, o)) for o, length in zip(offset, result.shape, strict=True)]
        of = [slice(max(0, o), length - max(0, -o)) for o, length in zip(offset, result.shape, strict=True)]
        result[tuple(to)] += tap[tuple(of)]
    return result


def _encode(stage: Any, x: Tensor, anchors: Tensor, texture: Tensor) -> Tensor:
    """Return the section 3.4."""
    x = _ghost(stage.convolution, x)
    scale, shift = _Moments(x).normalizing(stage.norm)
    gamma, beta = stage.scale(anchors.flatten()), stage.shift(anchors.flatten())
    _affine(x, scale * (1 + gamma), shift * (1 + gamma) + beta)  # eq. 6
    detail, smooth = _depthwise(stage.detail[0], x), _pointwise(stage.smooth[0], x)  # eq. 7, 8
    of_detail = _Moments(detail).normalizing(stage.detail[1])
    of_smooth = _Moments(smooth).normalizing(stage.smooth[1])
    routing, fused = _resized(texture, x.shape[:3]), _Moments()
    for slab in _slabs(x, VOXELWISE_BYTES):
        paths = _affine(smooth[slab], *of_smooth, activate=True), _affine(detail[slab], *of_detail, activate=True)
        fused.add(torch.lerp(*paths, routing[slab], out=x[slab]))  # eq. 9
    return x.mul_(_recalibration(stage.excitation, fused.mean))


def _route(router: Any, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Return the section 3.5.

    The projections (eq. 11) are linear: they become part of the controller and follow the sum.
    """
    aligned = torch.cat([_resized(feature, size) for feature in features], dim=-1).flatten(0, 2)
    projections = [projection.weight.flatten(1) for projection in router.projections]
    biases = torch.stack([projection.bias for projection in router.projections], dim=1)  # [C, features]
    control, _, decide = router.controller
    parts = control.weight.flatten(1).split(len(biases), dim=1)
    kernel = torch.cat([part @ projection for part, projection in zip(parts, projections, strict=True)], dim=1)
    bias = control.bias + control.weight.flatten(1) @ biases.T.flatten()
    weights = _pointwise(decide, F.silu(F.linear(aligned, kernel, bias), inplace=True)).softmax(-1)  # eq. 12
    for index, feature in enumerate(aligned.split([feature.shape[-1] for feature in features], dim=-1)):
        feature.mul_(weights[:, index : index + 1])
    fused = F.linear(weights, biases).addmm_(aligned, torch.cat(projections, dim=1).T)  # eq. 13
    return fused.view(*size, -1)


def _position(position: Any, anchors: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Eq.

    14, 15 as the part [k, C] along k, and the rest [j, i, C].
    """
    along_k, along_j, along_i = (position.along(axis, length, anchors[None])[0].T for axis, length in enumerate(size))
    return along_k, along_j[:, None] + along_i + position.projection.bias


def _fuse(
    stage: Any, x: Tensor, recalibration: Tensor | None, skip: Tensor, anchors: Tensor
) -> tuple[Tensor, _Moments]:
    """Eq.

    14 to 16 up to the norm, as the sum of what upsampling, position bias and skip become in the fusion.
    """
    channels = skip.shape[-1]
    of_x, of_skip = stage.fusion[0].weight.flatten(1).split(channels, dim=1)
    kernel = (
        stage.upsample.weight if recalibration is None else stage.upsample.weight * recalibration.view(-1, 1, 1, 1, 1)
    )
    kernel = torch.einsum("dc,pckji->kjidp", of_x, kernel).flatten(0, 3)
    size = [2 * length for length in x.shape[:3]]
    along_k, rest = (of_x @ part[..., None] for part in _position(stage.position, anchors, size))
    rest = rest[..., 0] + of_x @ stage.upsample.bias + stage.fusion[0].bias

    skip = _linear(skip, of_skip)
    coarse = skip.shape[1] != size[1]
    skip = (_doubled(skip, 0) if coarse else skip).add_(along_k[:, None, None, :, 0])
    fused, moments = x.new_empty(*size, channels), _Moments()
    for slab in _slabs(x, VOXELWISE_BYTES // 4):
        fine = slice(2 * slab.start, 2 * slab.stop)
        part = _doubled(_doubled(skip[fine], 1), 2) if coarse else skip[fine]
        torch.add(part, rest, out=fused[fine])
        upsampled = F.linear(x[slab], kernel).view(*x[slab].shape[:3], 2, 2, 2, channels).permute(0, 3, 1, 4, 2, 5, 6)
        fused[fine].view(upsampled.shape).add_(upsampled)
        moments.add(fused[fine])
    return fused, moments


def _decode(
    stage: Any, x: Tensor, recalibration: Tensor | None, skip: Tensor, anchors: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gated features (section 3.6) and the factors that recalibrate them in the next layer."""
    x, moments = _fuse(stage, x, recalibration, skip, anchors)
    _affine(x, *moments.normalizing(stage.fusion[1]), activate=True)
    (detailed, detail_norm, _), (ghost, context_norm, _), (identity, identity_norm, _) = stage.branches

    half = ghost.primary.out_channels
    joined = [ghost.primary, stage.gate]
    kernel = torch.cat([layer.weight for layer in joined])
    bias = torch.cat([layer.bias for layer in joined])
    missing = -len(bias) % LANES
    kernel, bias = F.pad(kernel, (0,) * 9 + (missing,)), F.pad(bias, (0, missing))

    parts, of_detail, of_context, of_identity = [], _Moments(), _Moments(), _Moments()
    for slab in _slabs(x, CONVOLVED_BYTES):
        rows, own = _with_neighbors(slab, 2)  # the ghost convolution reaches two rows beyond the slab
        detail = _depthwise(detailed, x[rows])[own]  # eq. 19
        both = _convolve(x[rows], kernel, bias)
        weights = both[own, ..., half : half + 3].movedim(-1, 0).contiguous().softmax(0)[..., None]  # eq. 17
        primary, context = both[..., :half].contiguous(), torch.empty_like(detail)
        context[..., :half], context[..., half:] = primary[own], _depthwise(ghost.ghost, primary)[own]  # eq. 20
        of_detail.add(detail)
        of_context.add(context)
        for part in _slabs(x[slab], VOXELWISE_BYTES):
            of_identity.add(_pointwise(identity, x[slab][part]))
        parts.append((x[slab], weights, detail, context))

    affine = [
        moments.normalizing(norm)
        for moments, norm in ((of_detail, detail_norm), (of_context, context_norm), (of_identity, identity_norm))
    ]
    moments = _Moments()
    for whole, weights, detail, context in parts:
        for slab in _slabs(whole, VOXELWISE_BYTES):
            fused, (w1, w2, w3) = whole[slab], weights[:, slab]
            branches = detail[slab], context[slab], _pointwise(identity, fused)  # eq. 21
            first, second, third = (_affine(y, *a, activate=True) for y, a in zip(branches, affine, strict=True))
            moments.add(torch.mul(first, w1, out=fused).addcmul_(second, w2).addcmul_(third, w3))  # eq. 18
    return x, _recalibration(stage.excitation, moments.mean)
