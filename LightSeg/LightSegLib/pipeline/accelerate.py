"""How a network runs fastest on a device with the same result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Runner:
    """Runs tiles [B, C, k, j, i] through the networks of an ensemble: mean logits [B, outputs, k, j, i], float32.

    name: how it computes, for the record.
    """

    def __init__(self, networks: Sequence[nn.Module], device: torch.device, half: bool) -> None:
        self.name = "float16" if half else "float32"
        self._half = half
        self._device = device
        self._networks = [network.to(device=device, memory_format=torch.channels_last_3d) for network in networks]  # type: ignore[call-overload]

    def __call__(self, tiles: Tensor) -> Tensor:
        tiles = tiles.to(self._device).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cuda", torch.float16) if self._half else contextlib.nullcontext():
            total: Tensor = self._networks[0](tiles).float()
            for network in self._networks[1:]:
                total = total + network(tiles).float()
        return total / len(self._networks) if len(self._networks) > 1 else total


def accelerate(
    networks: Sequence[nn.Module],
    device: torch.device,
    full_precision: bool,
    example: Callable[[], Tensor],
    identity: str | None,
    openvino: bool = True,
) -> tuple[Runner, list[str]]:
    """A runner for `device`, and notices for the user."""
    return Runner(networks, device, device.type == "cuda" and not full_precision), []
