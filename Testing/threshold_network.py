"""A network whose labels are known beforehand."""

from __future__ import annotations

import torch
from torch import nn


class Threshold(nn.Module):
    """Replaces a trained network: class 1 where the input is above zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((-x[:, :1], x[:, :1], torch.full_like(x[:, :1], -1e3)), dim=1)
