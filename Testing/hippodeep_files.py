"""The three files of hippodeep in their authors' layout, with weights made here that do something simple.

The first network calls brain what is brighter than the image's mean; the second shifts, by what its last bias says; the
third calls hippocampus what is brighter than the box around it by a number of standard deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

BRIGHT = 4.5  # standard deviations
HEAD = {
    "conv0a": (8, 1, 3), "conv0b": (8, 8, 3), "bn0a": 8, "conv1a": (16, 8, 3), "conv1b": (24, 16, 3), "bn1a": 24,
    "conv2a": (24, 24, 3), "conv2b": (32, 24, 3), "bn2a": 32, "conv3a": (48, 32, 3), "conv3b": (48, 48, 3),
    "bn3a": 48, "conv2u": (24, 48, 3), "conv2v": (24, 56, 3), "bn2u": 24, "conv1u": (24, 24, 3),
    "conv1v": (24, 48, 3), "bn1u": 24, "conv0u": (16, 24, 3), "conv0v": (8, 24, 3), "bn0u": 8, "conv1x": (4, 8, 1),
}  # fmt: skip
AFFINE = {
    "convaff1": (16, 2, 3), "convaff2": (16, 16, 3), "bnaff2": (32,) * 3, "convaff3": (32, 16, 3), "bnaff3": (16,) * 3,
    "convaff4": (64, 32, 3), "bnaff4": (8,) * 3, "convaff5": (128, 64, 1), "convaff6": (12, 128, 4),
}  # fmt: skip
HIPPOCAMPUS = {
    "conv0a_0": (16, 1, (1, 1, 3)), "conv0a_1": (16, 16, (1, 3, 1)), "conv0a": (16, 16, (3, 1, 1)),
    "convf1": (48, 16, 3), "bn1": 48, "convout0": (48, 48, 3), "convout1": (48, 48, 3), "bn2": 48,
    "convout2p": (48, 48, 3), "convout2": (48, 48, 3), "convlx3": (48, 48, 3), "convlx5": (48, 48, 3),
    "convlx7": (16, 48, 3), "convlx8": (1, 16, 1), "blur": (1, 1, 7), "conv_extract": (47, 48, 3),
    "convmix": (16, 48, 3), "convout1x": (1, 16, 1),
}  # fmt: skip


def write_hippodeep(folder: Path, affine: Sequence[float] = (0.0,) * 12) -> list[Path]:
    """Write the three files. affine: three rows of a map, less the identity, in coordinates from -1 to 1."""
    head, shift, hippocampus = map(_empty, (HEAD, AFFINE, HIPPOCAMPUS))
    _route(head, ("conv0a", 0), ("conv0b", 0), ("conv0v", 16))  # the level of the image comes after 16 channels
    head["conv1x.weight"][0, 0] = 20
    shift["convaff6.bias"][:] = torch.tensor(affine)
    _route(hippocampus, ("conv0a_0", 0), ("conv0a_1", 0), ("conv0a", 0), ("convf1", 0))
    _route(hippocampus, ("conv_extract", 0), ("convmix", 1))  # channel 0 is the rough result, which is a half
    hippocampus["convout1x.weight"][0, 0] = 20
    hippocampus["convout1x.bias"][0] = -20 * BRIGHT / 2
    states = {"params_head_00075_00000": head, "paramsaffineta_00079_00000": shift, "hippodeep": hippocampus}
    for name, state in states.items():
        torch.save(state, folder / f"{name}.pt")
    return [folder / f"{name}.pt" for name in states]


def _empty(layout: dict[str, object]) -> dict[str, Tensor]:
    """Convolutions of zeros, and norms that change nothing."""
    state: dict[str, Tensor] = {}
    for name, size in layout.items():
        if isinstance(size, int):
            state |= {f"{name}.{part}": torch.zeros(size) for part in ("bias", "running_mean")}
            state |= {f"{name}.{part}": torch.ones(size) for part in ("weight", "running_var")}
            state[f"{name}.num_batches_tracked"] = torch.tensor(1)
        elif name.startswith("bn"):
            state |= {f"{name}.weight": torch.ones(size), f"{name}.bias": torch.zeros(size)}  # type: ignore[call-overload]
        else:
            outputs, inputs, kernel = size  # type: ignore[misc]
            kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
            state |= {f"{name}.weight": torch.zeros(outputs, inputs, *kernel), f"{name}.bias": torch.zeros(outputs)}
    return state


def _route(state: dict[str, Tensor], *convolutions: tuple[str, int]) -> None:
    """Let the first output of each be one of its inputs as it is."""
    for name, channel in convolutions:
        weight = state[f"{name}.weight"]
        weight[(0, channel, *(length // 2 for length in weight.shape[2:]))] = 1
