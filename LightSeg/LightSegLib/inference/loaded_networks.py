"""The networks of a model in memory: what a pass takes, and what computes their tiles on a device."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..catalog.card import Card
from ..core.progress import Reporter
from ..networks.border_head import BorderNetwork
from ..networks.linear_head import split
from .alignment.second_look import smoothed
from .backends.accelerate import Model, Runner, accelerate, choose_backend
from .backends.precisions import OPENVINO8
from .calibrated import Calibrated, calibrated, without_int8
from .memory import activation_memory
from .options import InferenceOptions
from .plan import ExecutionPlan
from .processing.preprocess import NetworkInput
from .sliding_window import TileSampler

UNSIGNED = ("percentile", "minmax")  # normalizations to the range from 0 to 1


class LoadedNetworks:
    """Networks with weights, and what was made of them for a device.

    Args:
        card: of the model.
        networks: one, or one of each fold.
        identity: under which facts about these weights are kept, None for weights that may change.

    Attributes:
        networks: without their last layer where that may follow the sums of tiles.
        model: what the backends need to know of them.
    """

    def __init__(self, card: Card, networks: tuple[nn.Module, ...], identity: str | None) -> None:
        inference, aligned = card.inference, card.preprocessing.alignment is not None
        linear = inference.average == "logits" and inference.calibration is None and not aligned
        self.networks, head = split(networks) if linear else (networks, None)
        self.model = Model(
            self.networks,
            len(card.channels),
            inference.patch_size,
            # A network that fits distributions to its input, as for aligned images, needs the digits of float32.
            None if aligned else identity,
            signed=all(rule.method not in UNSIGNED for rule in card.preprocessing.normalization),
            regions=bool(inference.regions),
            head=head,
        )
        self._one_pass: dict[tuple[int, int, int], int] = {}
        self._backends: dict[tuple[object, ...], str] = {}
        self._runners: dict[tuple[object, ...], Runner] = {}

    @cached_property
    def smoothed_prior(self) -> Tensor:
        """The prior of all classes of a network for aligned images, for a second look, on the CPU."""
        prior: Tensor = self.networks[0].class_prior()  # type: ignore[operator]
        return smoothed(prior.cpu())

    @cached_property
    def border_network(self) -> BorderNetwork | None:
        """A copy of the network, where it has a border head, on the CPU, which makes the labels.

        The network itself may move to a GPU later.
        """
        network: Any = self.networks[0]
        if getattr(network, "border", None) is None:
            return None
        copied: BorderNetwork = copy.deepcopy(network).cpu()
        return copied

    def one_pass(self, patch: tuple[int, int, int]) -> int:
        """Return the bytes that a pass of a patch of [k, j, i] voxels holds.

        Raises:
            ValueError: for a size that does not fit the network.
        """
        if patch not in self._one_pass:
            shape = (1, self.model.channels, *patch)
            self._one_pass[patch] = activation_memory(self.networks[0], shape)
        return self._one_pass[patch]

    def backend(self, device: torch.device, options: InferenceOptions) -> str:
        """Return the backend for a device; it is chosen once."""
        key = (device, options.precision, options.openvino)
        if key not in self._backends:
            self._backends[key] = choose_backend(self.model, device, options.precision, options.openvino)
        return self._backends[key]

    def runner(
        self,
        plan: ExecutionPlan,
        image: tuple[NetworkInput, TileSampler],
        options: InferenceOptions,
        reporter: Reporter,
        threads: int,
    ) -> Calibrated:
        """Return the runner of tiles for a plan; it is made once, but for int8, which is made for each volume."""
        device, patch = plan.device, image[1].patch
        backend = self.backend(device, options)
        if backend == OPENVINO8:
            self._runners.clear()
            return calibrated(self.model, *image, plan.tiles, reporter, options.openvino)
        key = (device, threads, patch, backend)
        if key not in self._runners:
            self._runners.clear()  # no two backends of a network are in memory together
            self._runners[key] = accelerate(self.model, device, backend, patch, threads)
        tiled = self.model if device.type == "cpu" else None
        return Calibrated(self._runners[key], notices=without_int8(options, backend, tiled))
