"""The last layer of a network after the sums of its tiles instead of before them.

The last layer of a U-Net is linear and pointwise, as are the weighted mean of tiles and the interpolation to another
grid: in whichever order they follow one another, the logits are the same, to rounding. Where a network has many more
outputs than features in front of that layer, as with a hundred labels, the features are added up, in a part of the
memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .unet import PlainConvUNet, ResidualEncoderUNet

LEAST_RATIO = 2  # outputs over features from which the order is changed


@dataclass(frozen=True)
class Head:
    """A pointwise linear layer: weight [outputs, channels] and bias [outputs]."""

    weight: Tensor
    bias: Tensor | None

    @property
    def channels(self) -> int:
        """Return the number of features that it takes."""
        return self.weight.shape[1]

    @property
    def outputs(self) -> int:
        """Return the number of outputs that it makes of them."""
        return self.weight.shape[0]

    def __call__(self, features: Tensor) -> Tensor:
        """Return the outputs [n, outputs, ...] of features [n, channels, ...]."""
        bias = None if self.bias is None else self.bias.to(features)
        return F.linear(features.movedim(1, -1), self.weight.to(features), bias).movedim(-1, 1)


def split(networks: tuple[nn.Module, ...]) -> tuple[tuple[nn.Module, ...], Head | None]:
    """Return the networks of an ensemble as they are, or a single one without its last layer, and that layer."""
    network = networks[0]
    if len(networks) > 1 or not isinstance(network, (PlainConvUNet, ResidualEncoderUNet)):
        return networks, None
    body, last = network.split()
    head = Head(last.weight.detach().flatten(1), None if last.bias is None else last.bias.detach())
    if head.outputs < LEAST_RATIO * head.channels:
        return networks, None
    return (body,), head
