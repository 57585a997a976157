"""How much memory a run needs, computed beforehand, and how much the machine has left."""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.system import free_memory
from .backends.backend_choice import PADDED

SMALL = 1 << 16  # voxels of a patch that is run as it is


def available_memory(device: torch.device) -> int | None:
    """Return the bytes that a run on `device` may still take, or None if the system does not report them."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return free_memory()


def activation_memory(network: nn.Module, shape: Sequence[int]) -> int:
    """Return the most bytes that one pass through the network holds, without its weights.

    A network that knows it (`pass_bytes`) is not run. Otherwise a small input is run, since memory grows with the
    voxels, and a small patch as it is, since networks pad what is smaller; a network that takes whole patches alone
    runs on torch's meta device, shapes without numbers, for which torch must first load its compiler.

    Raises:
        ValueError: of a network that knows it, for a size that does not fit.
    """
    channels, *sides = shape[1:]
    known: Callable[[Sequence[int]], int] | None = getattr(network, "pass_bytes", None)
    if known is not None:
        return shape[0] * known(sides)
    device = next(network.parameters(), torch.empty(0)).device
    if math.prod(sides) <= SMALL:
        return shape[0] * _most_held(network, torch.zeros((1, *shape[1:]), device=device))
    ways = [(divisor, least) for least in (PADDED, 1) for divisor in (8, 4, 2)]
    for divisor, least in ways:
        small = [max(1, side // divisor) for side in sides]
        if any((side % divisor or side // divisor < least) and side > 1 for side in sides):
            continue
        try:
            measured = _most_held(network, torch.zeros((1, channels, *small), device=device))
        except (RuntimeError, ValueError):  # too small for its strides, or not of the size that it was made for
            continue
        return measured * shape[0] * math.prod(sides) // math.prod(small)
    twin = copy.deepcopy(network).to("meta")
    return _most_held(twin, torch.empty(tuple(shape), device="meta"))


def _most_held(network: nn.Module, volume: Tensor) -> int:
    """Return the most bytes of tensors that the layers of a network hold at a time."""
    held = _Held()
    modules = list(network.modules())
    hooks: list[Any] = [module.register_forward_pre_hook(held.before) for module in modules]
    hooks += [module.register_forward_hook(held.after) for module in modules]
    try:
        with torch.inference_mode():
            network(volume)
    finally:
        for hook in hooks:
            hook.remove()
    return held.most


class _Held:
    """Counts the bytes of the tensors that go into modules and come out of them, for as long as they are alive."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._known: set[int] = set()

    def before(self, module: nn.Module, inputs: Any) -> None:
        """Count the inputs of a layer."""
        self._count(inputs)

    def after(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Count the output of a layer."""
        self._count(output)

    def _count(self, value: Any) -> None:
        """Count the memory of every tensor in a value until it is freed."""
        if isinstance(value, (tuple, list)):
            for entry in value:
                self._count(entry)
        elif isinstance(value, Tensor) and (storage := value.untyped_storage())._cdata not in self._known:
            self._known.add(storage._cdata)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        """Subtract memory that was freed."""
        self._known.discard(key)
        self.now -= size
