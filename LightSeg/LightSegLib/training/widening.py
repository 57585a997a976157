"""Weights of a network put into a larger one of the same kind, which then computes what the smaller one did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def widened(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a smaller network's `state` as the larger `network` takes them.

    An old channel hears nothing of the new ones: their weights are zero. A new channel starts as the larger network has
    it, so that it contributes as soon as it is used. A tensor that `state` lacks starts as the larger
    network has it; that this adds nothing at first is the network's business, as is `joined_inputs`: of weights by key,
    the number of equal parts of which their input is joined. Tensors of another rank, of fewer numbers along an axis or
    of an unknown name are left as they are, for `load_state` to refuse.
    """
    joined: Mapping[str, int] = getattr(network, "joined_inputs", {})
    result = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    for key, given in state.items():
        start = result.get(key)
        larger = start is not None and start.shape != given.shape and start.dim() == given.dim()
        if start is None or not larger or any(a > b for a, b in zip(given.shape, start.shape, strict=True)):
            result[key] = given
            continue
        old = tuple(slice(0, length) for length in given.shape)
        if given.dim() == 1:
            start[old] = given
            continue
        start[old[0]] = 0  # what the old channels hear
        parts = joined.get(key, 1)
        for before, after in zip(given.chunk(parts, 1), start.chunk(parts, 1), strict=True):
            after[(old[0], slice(0, before.shape[1]), *old[2:])] = before
    return result
