"""MeshNet: dilated convolutions at full resolution, then one voxel at a time; some hundred thousand weights.

Source: A. Fedorov et al., "End-to-end learning of brain tissue segmentation from imperfect labeling", IJCNN 2017
(arXiv:1612.00940); the models of brainchop (Masoud et al., doi:10.21105/joss.05098) are such networks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ..core.i18n import tr as _

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {  # in place where torch offers it: nothing needs what was before
    "elu": lambda: nn.ELU(inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "gelu": nn.GELU,  # exact, by erf
}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda _: nn.Identity(),
    "instance": nn.InstanceNorm3d,  # over the whole volume, without weights
    "batch": nn.BatchNorm3d,
}
# In torch's checkpoints of the authors a block is numbered, and its convolution and norm are 0 and 1.
PARTS = {"0": "convolutions", "1": "norms"}


class MeshNet(nn.Module):
    """[B, in_channels, k, j, i] -> logits [B, classes, k, j, i].

    Args:
        channels: of every hidden layer.
        dilations: of the convolutions of 3 x 3 x 3, one each; zeros are padded, so that the size stays.
        activation: "elu", "relu" or "gelu", after each of them.
        norm: "none", "instance" (over the whole volume, without weights) or "batch", before the activation.
        bias: whether these convolutions have one; the last, of 1 x 1 x 1, has.

    Raises:
        ValueError: for arguments that make no network.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        channels: int,
        dilations: Sequence[int],
        activation: str = "relu",
        norm: str = "none",
        bias: bool = True,
    ) -> None:
        super().__init__()
        for what, name, known in (("activation", activation, ACTIVATIONS), ("norm", norm, NORMS)):
            if name not in known:
                raise ValueError(
                    _("the {what} '{name}' is not one of {known}").format(what=what, name=name, known=", ".join(known))
                )
        if not dilations or min(dilations) < 1:
            raise ValueError(_("dilations must be a list of positive numbers"))
        self.arguments: dict[str, Any] = {
            "in_channels": in_channels,
            "classes": classes,
            "channels": channels,
            "dilations": list(dilations),
            "activation": activation,
            "norm": norm,
            "bias": bias,
        }
        inputs = [in_channels, *[channels] * (len(dilations) - 1)]
        self.convolutions = nn.ModuleList(
            nn.Conv3d(width, channels, 3, padding=dilation, dilation=dilation, bias=bias)
            for width, dilation in zip(inputs, dilations, strict=True)
        )
        self.norms = nn.ModuleList(NORMS[norm](channels) for _ in dilations)
        self.activation = ACTIVATIONS[activation]()
        self.classifier = nn.Conv3d(channels, classes, 1)

    @property
    def reach(self) -> int:
        """Voxels, each way along each axis, of which a voxel's logits know; without a norm over the volume."""
        return sum(self.arguments["dilations"])

    def canonical_key(self, key: str) -> str:
        """Return this network's name of a tensor in the authors' checkpoints.

        These are "model.3.0.weight" and, last, "model.9.weight".
        """
        found = re.fullmatch(r"model\.(\d+)\.(?:([01])\.)?(\w+)", key)
        if found is None:
            return key
        number, part, tensor = found.groups()
        if part is None:
            return f"classifier.{tensor}" if int(number) == len(self.convolutions) else key
        return f"{PARTS[part]}.{number}.{tensor}"

    def forward(self, volume: Tensor) -> Tensor:
        """Return the logits [B, classes, k, j, i] of volumes [B, C, k, j, i]."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            volume = self.activation(norm(convolution(volume)))
        logits: Tensor = self.classifier(volume)
        return logits
