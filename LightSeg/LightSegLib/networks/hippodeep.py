"""hippodeep: three networks that find the hippocampi in a head, one after the other.

The first estimates for each of 64 x 64 x 64 places how much of it is brain and cortex; the second derives from that the
head's place relative to an average one; the third finds the hippocampus of one side in a box about its usual place.

Source: B. Thyreau et al., "Segmentation of the hippocampus by transferring algorithmic knowledge for large cohort
processing", Medical Image Analysis 43 (2018), doi:10.1016/j.media.2017.11.004, and the weights' own shapes. Names of
modules are those in the authors' checkpoints; the names of these files are what a combined file has before them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 64  # voxels of the whole head, along each axis
FILES = {  # the authors' files, by the part whose weights they hold
    "params_head_00075_00000": "head",
    "paramsaffineta_00079_00000": "affine",
    "hippodeep": "hippocampus",
}


class HippoDeep(nn.Module):
    """The three networks. `forward` is that of the hippocampus; the others are called by name."""

    def __init__(self) -> None:
        super().__init__()
        self.head = HeadPrior()
        self.affine = HeadAffine()
        self.hippocampus = Hippocampus()

    def canonical_key(self, key: str) -> str:
        """Return the name of a tensor here, of one that has its file's name before it."""
        file, _, rest = key.partition(".")
        return f"{FILES[file]}.{rest}" if file in FILES else key

    def forward(self, crop: Tensor) -> Tensor:
        """Return what the network of the hippocampus finds in a box."""
        result: Tensor = self.hippocampus(crop)
        return result


def _conv(inputs: int, outputs: int) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 3, padding=1)


class HeadPrior(nn.Module):
    """[B, 1, 64, 64, 64] -> probabilities [B, 4, 64, 64, 64]: brain, cortex, cerebrum, and one for the alignment."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0a, self.conv0b, self.bn0a = _conv(1, 8), _conv(8, 8), nn.BatchNorm3d(8)
        self.conv1a, self.conv1b, self.bn1a = _conv(8, 16), _conv(16, 24), nn.BatchNorm3d(24)
        self.conv2a, self.conv2b, self.bn2a = _conv(24, 24), _conv(24, 32), nn.BatchNorm3d(32)
        self.conv3a, self.conv3b, self.bn3a = _conv(32, 48), _conv(48, 48), nn.BatchNorm3d(48)
        self.conv2u, self.conv2v, self.bn2u = _conv(48, 24), _conv(24 + 32, 24), nn.BatchNorm3d(24)
        self.conv1u, self.conv1v, self.bn1u = _conv(24, 24), _conv(24 + 24, 24), nn.BatchNorm3d(24)
        self.conv0u, self.conv0v, self.bn0u = _conv(24, 16), _conv(16 + 8, 8), nn.BatchNorm3d(8)
        self.conv1x = nn.Conv3d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        levels: list[Tensor] = []
        for level in ("0", "1", "2", "3"):
            x = F.max_pool3d(x, 2) if levels else x
            x = F.elu(self._part(f"conv{level}a")(x))
            x = F.elu(self._part(f"bn{level}a")(self._part(f"conv{level}b")(x)))
            levels.append(x)
        for level in ("2", "1", "0"):
            x = F.elu(self._part(f"conv{level}u")(F.interpolate(x, scale_factor=2, mode="nearest")))
            x = torch.cat([x, levels[int(level)]], dim=1)
            x = F.elu(self._part(f"bn{level}u")(self._part(f"conv{level}v")(x)))
        return torch.sigmoid(self.conv1x(x))

    def _part(self, name: str) -> nn.Module:
        return self.get_submodule(name)


class HeadAffine(nn.Module):
    """[B, 2, 64, 64, 64] -> [B, 4, 4].

    Row vectors in coordinates from -1 to 1 of the average head, times it, are those of the head.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convaff1, self.convaff2, self.bnaff2 = _conv(2, 16), _conv(16, 16), nn.LayerNorm([32] * 3)
        self.convaff3, self.bnaff3 = _conv(16, 32), nn.LayerNorm([16] * 3)
        self.convaff4, self.bnaff4 = _conv(32, 64), nn.LayerNorm([8] * 3)
        self.convaff5, self.convaff6 = nn.Conv3d(64, 128, 1), nn.Conv3d(128, 12, 4)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = F.max_pool3d(F.relu(self.convaff1(x)), 2)
        x = F.max_pool3d(F.relu(self.bnaff2(self.convaff2(x))), 2)
        x = F.max_pool3d(F.relu(self.bnaff3(self.convaff3(x))), 2)
        x = F.max_pool3d(F.relu(self.bnaff4(self.convaff4(x))), 2)
        x = self.convaff6(F.relu(self.convaff5(x))).view(-1, 3, 4)
        square = torch.cat([x, torch.zeros_like(x[:, :1])], dim=1)
        return (square + torch.eye(4, device=x.device, dtype=x.dtype)).transpose(1, 2)


class Hippocampus(nn.Module):
    """[B, 1, i, j, k] -> probabilities [B, 1, i - 4, j - 4, k - 4] of the right hippocampus.

    The left one is that of the mirrored image. The sides of the result must be multiples of 4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv0a_0 = nn.Conv3d(1, 16, (1, 1, 3))
        self.conv0a_1 = nn.Conv3d(16, 16, (1, 3, 1))
        self.conv0a = nn.Conv3d(16, 16, (3, 1, 1))
        self.convf1 = nn.Conv3d(16, 48, 3)
        self.bn1, self.convout0, self.convout1 = nn.BatchNorm3d(48), _conv(48, 48), _conv(48, 48)
        self.bn2, self.convout2p, self.convout2 = nn.BatchNorm3d(48), _conv(48, 48), _conv(48, 48)
        self.convlx3, self.convlx5, self.convlx7 = _conv(48, 48), _conv(48, 48), _conv(48, 16)
        self.convlx8 = nn.Conv3d(16, 1, 1)
        self.blur = nn.Conv3d(1, 1, 7, padding=3)
        self.conv_extract, self.convmix, self.convout1x = _conv(48, 47), _conv(48, 16), nn.Conv3d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        for convolution in (self.conv0a_0, self.conv0a_1, self.conv0a, self.convf1):
            x = F.relu(convolution(x))
        features = x
        x = pooled = F.max_pool3d(x, 2)
        x = F.relu(self.convout1(F.relu(self.convout0(self.bn1(x)))) + pooled)
        x = pooled = F.max_pool3d(x, 2)
        x = F.relu(self.convout2(F.relu(self.convout2p(self.bn2(x)))) + pooled)
        x = F.interpolate(F.relu(self.convlx3(x)), scale_factor=2, mode="nearest")
        x = F.interpolate(F.relu(self.convlx5(x)), scale_factor=2, mode="nearest")
        rough = torch.sigmoid(self.convlx8(F.relu(self.convlx7(x))))
        x = F.leaky_relu(self.conv_extract(torch.sigmoid(self.blur(rough)) * features))
        x = F.relu(self.convmix(torch.cat([rough, x], dim=1)))
        return torch.sigmoid(self.convout1x(x))
