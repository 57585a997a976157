"""The one way in: a card, volumes in, a segmentation out. The module, the command line and training use it."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .catalog.card import Card
from .errors import DeviceError, InputError, ModelError
from .pipeline.region import Region
from .progress import CancelCallback, ProgressCallback, Reporter
from .volume import Segmentation, Volume, check_voxels

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .pipeline.preprocess import Prepared

AXIAL = (0, 1, 2)  # order of the array axes in an image that is stored as axial slices
SMALLEST_TILE = 32  # voxels along an axis; smaller tiles would see too little
BATCH_VOXELS = 320_000  # small tiles run together: torch's fast CPU convolutions want more than one


class Segmenter:
    """One model on one device; the network is loaded at the first use and kept.

    device: "auto", "cpu", "cuda", "cuda:N" or "mps". full_precision: float32 on a GPU too. mirror: average over
    the flips that the card allows. largest_component: "none", "label" (one piece of every label) or "whole" (one piece
    of all labels together); None for what the card says. accept_licence: agree to a licence that forbids commercial
    use, needed once before such a model is downloaded.
    """

    def __init__(
        self,
        card: Card,
        device: str = "auto",
        full_precision: bool = False,
        mirror: bool = False,
        largest_component: str | None = None,
        accept_licence: bool = False,
    ) -> None:
        self.card = card
        self._accept_licence = accept_licence
        self._weights_sha256 = card.weights.sha256
        self._device_name = device
        self._full_precision = full_precision
        self._mirror = mirror
        self._largest = card.inference.largest_component if largest_component is None else largest_component
        self._network: nn.Module | None = None

    def use_network(self, network: nn.Module) -> None:
        """Run this network instead of the card's weights; training validates with it."""
        self._network = network

    def segment(
        self,
        volumes: Sequence[Volume],
        roi: Region | None = None,
        progress: ProgressCallback | None = None,
        cancelled: CancelCallback | None = None,
    ) -> Segmentation:
        """Segment one volume per channel of the card, all on one grid; the result has that exact grid.

        Outside `roi` the result is background. Raises InputError, ModelError, DeviceError, and Cancelled within
        one tile of `cancelled` returning True, or one batch of small tiles with as many voxels as a large one.
        """
        from .pipeline.preprocess import prepare
        from .pipeline.restore import keep_largest_component

        started = time.perf_counter()
        reporter = Reporter(progress, cancelled)
        if self.card.self_describing:  # then the weights file says what must be checked and prepared
            self._load(progress, cancelled)
        self._check(volumes)
        reporter.step("Preparing")
        prepared = prepare(volumes, self.card.preprocessing, roi)
        reporter.step("Loading model")
        network = self._load(progress, cancelled)
        labels, device, notices = self._run_with_fallbacks(network, prepared, reporter)
        reporter.step("Restoring")
        labels = keep_largest_component(labels, self._largest)
        notices += self._doubts(volumes[0], roi)
        if self._too_large(prepared, volumes[0]):
            notices.append(
                f"The model was made for a region of {' x '.join(f'{mm:g}' for mm in self.card.region_mm or ())} mm. "
                "Expect a wrong result: set a region of interest around the structure."
            )
        if not labels.any():
            notices.append("Nothing was found: check the volume, the region of interest and the model.")
        return Segmentation(
            prepared.restore(labels),
            volumes[0].geometry,
            self.card.labels,
            self._provenance(device, notices, time.perf_counter() - started),
        )

    def _check(self, volumes: Sequence[Volume]) -> None:
        wanted = self.card.channels
        if len(volumes) != len(wanted):
            raise InputError(
                f"The model '{self.card.title}' needs {len(wanted)} volume(s) ({', '.join(wanted)}), "
                f"but {len(volumes)} were given. Give one volume per channel, in this order."
            )
        for volume in volumes:
            check_voxels(volume.voxels, volume.name)
            if not volume.geometry.matches(volumes[0].geometry):
                raise InputError(
                    f"{volume.name} and {volumes[0].name} do not lie on the same grid. "
                    f"Resample {volume.name} to the grid of {volumes[0].name} first."
                )

    def _doubts(self, volume: Volume, roi: Region | None) -> list[str]:
        """Notices of what may spoil this model's result with this input."""
        from .pipeline.preprocess import orientation_steps

        card, found = self.card, []
        if card.unverified:
            found.append(
                "This model is unverified, since not everything about it is known: check the result. "
                f"'lightseg info {card.id}' lists what is not known."
            )
        if card.preprocessing.orientation == "input" and orientation_steps(volume.geometry, "LPS")[0] != AXIAL:
            found.append(
                f"{volume.name} is not stored as axial slices, and this model takes images as they are stored. "
                "Expect a wrong result unless it was trained on such slices."
            )
        of_image = any(rule.method not in ("ct", "none") for rule in card.preprocessing.normalization)
        if roi is not None and of_image and card.region_mm is None:
            found.append(
                "The intensities were normalised within the region, while the model was trained on whole images. "
                "Choose a larger region, or none, if the result is poor."
            )
        return found

    def _too_large(self, prepared: Prepared, volume: Volume) -> bool:
        """Whether the used part is more than twice as long, along any axis, as the region the model was made for."""
        if self.card.region_mm is None:
            return False
        spacing = np.array(volume.geometry.spacing[::-1])[list(prepared.order)]
        extent = np.array(prepared.inner_shape) * spacing
        return bool((extent > 2 * np.array(self.card.region_mm[::-1])).any())

    def _load(self, progress: ProgressCallback | None, cancelled: CancelCallback | None) -> nn.Module:
        if self._network is None:
            from .weights.opening import open_model

            opened = open_model(self.card, progress, cancelled, self._accept_licence)
            self.card, self._network, self._weights_sha256 = opened.card, opened.network, opened.sha256
        return self._network

    def _run_with_fallbacks(
        self, network: nn.Module, prepared: Prepared, reporter: Reporter
    ) -> tuple[np.ndarray, torch.device, list[str]]:
        """Labels on the used part; where memory runs out, smaller tiles, then the CPU, and a notice of it."""
        import torch

        from .pipeline.devices import choose_device, is_out_of_memory, is_unsupported

        device = choose_device(self._device_name)
        tile = self.card.inference.patch_size
        notices: list[str] = []
        while True:
            try:
                return self._run(network, prepared, tile, device, reporter), device, notices
            except (RuntimeError, MemoryError) as error:
                if device.type != "cpu" and is_unsupported(error):
                    notices.append(f"This build of PyTorch lacks an operation on {device}; the CPU was used.")
                    device = torch.device("cpu")
                    continue
                if not is_out_of_memory(error):
                    raise
            k, j, i = (max(min(length, SMALLEST_TILE), length // 2) for length in tile)
            if (k, j, i) != tile and not self.card.inference.pad_to_patch:  # else the network takes whole patches alone
                tile = (k, j, i)
                notices.append(f"Memory of {device.type} ran out; smaller tiles ({k} x {j} x {i}) were used.")
            elif device.type != "cpu":
                device, tile = torch.device("cpu"), self.card.inference.patch_size
                notices.append("Memory of the GPU ran out; the CPU was used.")
            else:
                raise DeviceError(
                    "This machine's memory is too small for this volume even with the smallest tiles. "
                    "Close other programs or choose a smaller region of interest."
                )

    def _run(
        self,
        network: nn.Module,
        prepared: Prepared,
        patch_size: tuple[int, int, int],
        device: torch.device,
        reporter: Reporter,
    ) -> np.ndarray:
        import torch

        from .pipeline.restore import LabelRestorer
        from .pipeline.sliding_window import TileAggregator, TileSampler

        shape = prepared.array.shape[1:]
        rules = self.card.inference
        sampler = TileSampler(shape, patch_size, rules.overlap, rules.pad_to_patch)
        aggregator = TileAggregator(self.card.outputs, shape, sampler.importance(), device)
        threshold = 0.5 if rules.average == "probabilities" else 0.0
        restorer = LabelRestorer(shape, prepared.inner_shape, self.card.outputs, rules.regions, threshold)
        volume = torch.from_numpy(prepared.array)
        whole_tiles = patch_size == rules.patch_size  # else memory ran out before
        network = network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        reporter.tile("Segmenting", 0, len(sampler))
        finished = 0
        with torch.inference_mode():
            for positions in sampler.batches(max(1, BATCH_VOXELS // sampler.tile_voxels) if whole_tiles else 1):
                tiles = torch.stack([sampler.tile(volume, position) for position in positions])
                for logits, position in zip(self._logits(network, tiles.to(device), reporter), positions, strict=True):
                    for slab in aggregator.add(sampler.covered(logits), position):
                        restorer.add(slab)
                    finished += 1
                    reporter.tile("Segmenting", finished, len(sampler))
            for slab in aggregator.finish():
                restorer.add(slab)
        return restorer.labels

    def _logits(self, network: nn.Module, tiles: Tensor, reporter: Reporter) -> Tensor:
        """What is averaged (logits or probabilities) [tiles, outputs, k, j, i], over the flips too when asked to."""
        import torch

        rules = self.card.inference
        tiles = tiles.contiguous(memory_format=torch.channels_last_3d)
        half = tiles.device.type == "cuda" and not self._full_precision

        def run(flipped: Tensor) -> Tensor:
            try:
                logits: Tensor = network(flipped).float()
            except ValueError as error:  # how the networks refuse a size
                raise ModelError(f"The patch size of '{self.card.id}' does not fit its network. {error}") from error
            if rules.average == "logits":
                return logits
            return logits.sigmoid() if rules.regions else logits.softmax(dim=1)

        with torch.autocast("cuda", torch.float16) if half else contextlib.nullcontext():
            total = run(tiles)
            if not self._mirror:
                return total
            axes = rules.mirror_axes
            flips = [f for n in range(1, len(axes) + 1) for f in itertools.combinations(axes, n)]
            for flip in flips:
                reporter.check_cancelled()
                dims = [axis + 2 for axis in flip]
                total = total + run(tiles.flip(dims)).flip(dims)
        return total / (len(flips) + 1)

    def _provenance(self, device: torch.device, notices: list[str], seconds: float) -> dict[str, Any]:
        card = self.card
        return {
            "model": card.id,
            "title": card.title,
            "version": card.version,
            "weights_sha256": self._weights_sha256,
            "device": str(device),
            "settings": {
                "full_precision": self._full_precision,
                "mirror": self._mirror,
                "largest_component": self._largest,
            },
            "seconds": round(seconds, 3),
            "licence": card.licence,
            "citation": card.citation,
            "lightseg": __version__,
            "notices": notices,
        }
