"""The inference form of a network: the same numbers, to rounding, with fewer passes over memory.

Convolutions reach the processor's peak; what is left to save is the traffic around them. A normalization and the
activation after it become one step in place, in parts that stay in the processor's cache, with the channels last as
the convolutions take and give them. LightMedSeg has a form of its own. Training and everything else keep the network
as it is.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .lightmedseg import LightMedSegOnCpu

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
INSTANCE_NORMS = (nn.InstanceNorm2d, nn.InstanceNorm3d)
BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
ACTIVATIONS = (nn.LeakyReLU, nn.ReLU, nn.SiLU)  # those that work in place
CACHED_VALUES = 1 << 19  # computed together


def fuse_modules(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a twin of `network` in evaluation mode that computes the same on the CPU, in `dtype`.

    It shares the parameters, as far as they are of that type.
    """
    if dtype == torch.float32 and LightMedSegOnCpu.takes(network):
        return LightMedSegOnCpu(network)
    # The same memory, but objects of their own: the network may go on training.
    shared: dict[int, Tensor] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in network.parameters()}
    shared |= {id(buffer): buffer for buffer in network.buffers()}
    twin: nn.Module = copy.deepcopy(network, shared).eval()
    for module in list(twin.modules()):
        if isinstance(module, nn.Sequential):
            _fuse(module)
    return twin if dtype == torch.float32 else copy.deepcopy(twin).to(dtype)


def _fuse(unit: nn.Sequential) -> None:
    """Replace what follows a convolution, whose output nothing else needs, by its form in place."""
    for before, after in zip(list(unit._modules), list(unit._modules)[1:], strict=False):
        first, second = unit._modules[before], unit._modules[after]
        if isinstance(first, CONVOLUTIONS) and isinstance(second, BATCH_NORMS) and second.track_running_stats:
            unit._modules[before], unit._modules[after] = fuse_conv_bn_eval(first, second), nn.Identity()
        elif isinstance(first, CONVOLUTIONS) and isinstance(second, INSTANCE_NORMS) and second.affine:
            unit._modules[after] = NormInPlace(second)
        elif isinstance(first, NormInPlace) and isinstance(second, ACTIVATIONS):
            first.activation = copy.copy(second)
            first.activation.inplace = True
            unit._modules[after] = nn.Identity()


class NormInPlace(nn.Module):
    """Instance norm of [B, C, ...], and the activation after it, written over the input."""

    def __init__(self, norm: nn.InstanceNorm2d | nn.InstanceNorm3d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.activation: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Normalize and activate [B, C, ...] in place."""
        channels_last = x.movedim(1, -1)
        if not channels_last.is_contiguous():
            channels_last = channels_last.contiguous()
        for sample in channels_last:
            self._normalize(sample.view(-1, sample.shape[-1]))
        return channels_last.movedim(-1, 1)

    def _normalize(self, voxels: Tensor) -> None:
        """[voxels, C] in float32 or bfloat16; statistics are summed in float32."""
        parts = voxels.split(max(1, CACHED_VALUES // voxels.shape[1]))
        mean = torch.stack([part.sum(0, dtype=torch.float32) for part in parts]).sum(0) / len(voxels)
        squares = torch.stack([(part - mean).square_().sum(0) for part in parts])
        scale = self.weight.float() * (squares.sum(0) / len(voxels) + self.eps).rsqrt()
        shift = self.bias.float() - mean * scale
        for part in parts:
            self.activation(torch.addcmul(shift, part, scale, out=part))
