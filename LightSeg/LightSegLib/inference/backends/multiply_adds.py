"""How much a network has to compute: multiply-adds of its convolutions and matrix products, each counted once.

PyTorch's own counter (`torch.utils.flop_counter`) loads PyTorch's compiler, which takes seconds in every process.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Work(TorchFunctionMode):
    """Counts, while it is entered, what the functions of PyTorch compute that Python calls.

    Attributes:
        convolutions: multiply-adds of these.
        products: of matrix products and attention.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = self.products = 0

    @property
    def all(self) -> int:
        """Multiply-adds of both."""
        return self.convolutions + self.products

    def __torch_function__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Call a function, and count it."""
        result = function(*args, **(kwargs or {}))
        operands = [value for value in (*args, *(kwargs or {}).values()) if isinstance(value, Tensor)]
        name = getattr(function, "__name__", "").strip("_")
        if name in ("conv1d", "conv2d", "conv3d"):
            self.convolutions += result.numel() * operands[1][0].numel()
        elif name in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"):
            self.convolutions += operands[0].numel() * operands[1][0].numel()
        elif name in ("linear", "matmul", "mm", "bmm"):
            self.products += result.numel() * operands[0].shape[-1]
        elif name in ("addmm", "baddbmm"):
            self.products += result.numel() * operands[1].shape[-1]
        elif name == "scaled_dot_product_attention":
            query, keys = operands[:2]
            self.products += (query.numel() + result.numel()) * keys.shape[-2]
        elif name == "einsum":
            axes = str(args[0]).partition("->")[0].replace(" ", "").split(",")
            lengths: dict[str, int] = {}
            for letters, operand in zip(axes, operands, strict=True):
                lengths |= dict(zip(letters, operand.shape, strict=True))
            self.products += math.prod(lengths.values())
        return result


def counted(network: nn.Module, tile: Tensor) -> Work:
    """Return the work of a network for one input."""
    with torch.inference_mode(), Work() as work:
        network(tile)
    return work


def multiply_adds(network: nn.Module, shape: Sequence[int]) -> int:
    """Multiply-adds of all convolutions and matrix products for an input of `shape`, each counted once.

    A copy of the network runs on torch's meta device: shapes without numbers, and no memory, but torch must first load
    its compiler.
    """
    return counted(copy.deepcopy(network).to("meta"), torch.empty(tuple(shape), device="meta")).all
