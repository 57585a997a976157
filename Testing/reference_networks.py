"""The published networks as their authors' own code computes them (see `Unit/networks/test_reference_networks.py`)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference_weights import fill
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "Data" / "reference"
MOST_ROUNDING = 5  # times the rounding error of the authors' code may the same computation be away


class Reference:
    """The facts <name>.json and the arrays <name>.npz of a network or a block."""

    def __init__(self, name: str) -> None:
        self.facts: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        with np.load(FOLDER / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)

    def state(self) -> dict[str, Tensor]:
        """The weights under all names that the authors' checkpoints have, in their order."""
        shapes = {}
        for line in self.arrays["keys"]:
            key, _, shape = line.partition(" ")
            shapes[key] = [int(length) for length in shape.split(",") if length]
        tied = dict(line.split(" ") for line in self.arrays.get("tied", ()))
        weights = fill(shapes, self.facts["weight_seed"], tied)
        return {key: torch.from_numpy(array) for key, array in weights.items()}

    def input(self) -> Tensor:
        """The volume that the network was given."""
        random = np.random.default_rng(self.facts["input_seed"])
        return torch.from_numpy(random.standard_normal(self.facts["input_shape"]).astype(np.float32))

    def check(self, outputs: list[Tensor]) -> None:
        """Hold every output against the stored voxels and statistics."""
        found = self.rounding(outputs)
        assert found <= MOST_ROUNDING, f"{found:.1f} times the rounding error"

    def rounding(self, outputs: list[Tensor]) -> float:
        """The largest distance of a voxel or a statistic, as a multiple of the rounding error of the authors' code."""
        assert [list(output.shape) for output in outputs] == [head["shape"] for head in self.facts["heads"]]
        largest = 0.0
        for number, (output, head) in enumerate(zip(outputs, self.facts["heads"], strict=True)):
            whole = output.double()
            found = {"mean": whole.mean(), "std": whole.std(correction=0), "min": whole.min(), "max": whole.max()}
            apart = [np.abs(self._voxels(output, number) - self.arrays[f"out{number}"]).max()]
            apart += [abs(value.item() - head[what]) for what, value in found.items()]
            if "channel_mean" in head:
                apart.append(np.abs(whole.mean(dim=(0, 2, 3, 4)).numpy() - head["channel_mean"]).max())
            largest = max(largest, *(_number(value) / head["noise"] for value in apart))
        return largest

    def share(self, outputs: list[Tensor]) -> float:
        """The root mean square distance of the voxels as a share of the output's spread, of the output with most."""
        return max(
            _number(np.sqrt(np.mean((self._voxels(output, number) - self.arrays[f"out{number}"]) ** 2))) / head["std"]
            for number, (output, head) in enumerate(zip(outputs, self.facts["heads"], strict=True))
        )

    def _voxels(self, output: Tensor, number: int) -> np.ndarray:
        """The voxels of an output that are stored."""
        strides = self.facts["heads"][number]["stride"]
        return output[tuple(slice(None, None, stride) for stride in strides)].numpy()


def load(module: nn.Module, state: dict[str, Tensor], canonical_key: Callable[[str], str]) -> None:
    """Every key must have its place and its shape, every place its key; names of one tensor must agree."""
    given: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = canonical_key(key)
        assert name not in given or torch.equal(given[name], tensor), key
        given[name] = tensor
    module.load_state_dict(given, strict=True)


def network_names() -> list[str]:
    """Names of the references that are whole networks."""
    return sorted(file.stem for file in FOLDER.glob("*.json") if "network" in json.loads(file.read_text("utf-8")))


def _number(value: float) -> float:
    """A distance; infinite where it is not a number, which no comparison would notice."""
    return math.inf if math.isnan(value) else float(value)
