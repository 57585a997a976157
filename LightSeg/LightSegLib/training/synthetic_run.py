"""A training of an aligned network on images synthesized from label maps.

Validation images are those of label maps that were set aside: each contrast with voxels as the training has them and
with slices of 5 mm, misaligned as by a typical registration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.i18n import tr as _
from ..evaluation.metrics import dice
from ..inference.backends.backend_choice import fast_backends
from ..inference.backends.devices import choose_device
from ..inference.backends.precisions import BFLOAT16
from ..networks import build
from ..networks.atlas_unet import AtlasUNet
from .earlier_runs import images_of, seen
from .loss import drawn_loss, drawn_voxels
from .material import Material, network_arguments
from .run import Run
from .synthesis.atlas import prior
from .synthesis.draw import random_generator
from .synthesis.generator import IGNORED, Sample, SampleRequest
from .synthesis.grid import Grid
from .synthesis.options import SynthesisOptions
from .synthetic_card import TEMPLATE, WEIGHTS
from .synthetic_options import SyntheticTrainingOptions
from .widening import widened

SLICES = 5.0  # mm
TYPICAL_POSE = 0.5  # of a registration that went well
QUEUE = 4  # images made ahead
VALIDATION_STREAM, PRIOR_STREAM = 1, 2  # beside that of the training


class SyntheticRun(Run):
    """A run on synthesized images."""

    network: AtlasUNet
    average: AtlasUNet

    def __init__(
        self, material: Material, out: Path, options: SyntheticTrainingOptions, synthesis: SynthesisOptions
    ) -> None:
        self.material, self.options, self.synthesis = material, options, synthesis
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        network = build("atlas_unet", network_arguments(material, options))
        super().__init__(out, options, network, choose_device(options.device), betas=(0.9, 0.99))
        self.generator = material.generator(material.training, 3 * options.seed)
        lookup = torch.full((256,), IGNORED, dtype=torch.uint8)
        lookup[: self.network.classes] = 0  # the other side's
        lookup[self.network.half_classes] = torch.arange(len(self.network.half_classes), dtype=torch.uint8)
        self.half_class = lookup
        self.images: Iterator[tuple[Tensor, Tensor]] | None = None
        self.open_folder()
        self.images_before = images_of(self.earlier_runs) or 0  # those of this run are others
        if self.step == 0:
            self.count_prior()

    def initial_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors of this network, or of one with fewer channels and blocks, which is widened."""
        return widened(state, self.network)

    def check_origin(self, weights: Path) -> None:
        """Check, where the runs that led to the weights are known, that none has seen what this run validates with.

        Raises:
            InputError: if they have.
        """
        validation = [self.material.maps[n].name for n in self.material.validation]
        if known := seen(self.earlier_runs, "label_maps", validation):
            raise InputError(
                _(
                    "{file} was trained on {maps}, which this training sets aside for validation. Repeat --seed and "
                    "--validation-maps of its training; if these are other label maps of the same name, rename them."
                ).format(file=weights, maps=", ".join(known))
            )

    def count_prior(self) -> None:
        """The prior of these label maps, whatever was in the weights."""
        counted = prior(
            self.material.generator(self.material.training, 3 * self.options.seed + PRIOR_STREAM),
            self.material.layout,
            self.network.half_classes[1:],
            self.network.prior_step,
            self.options.prior_images,
        )
        for network in (self.network, self.average):
            network.set_prior(counted.to(self.device))

    # --- training ------------------------------------------------------------------------------

    def train_steps(self, epoch: int) -> list[float]:
        """Train on the images of an epoch, one step each; return the losses."""
        first = epoch * self.options.images_per_epoch
        if self.images is None:
            self.images = self._stream(first)
        numbers = range(first, first + self.options.images_per_epoch)
        return [self._train_image(*next(self.images), number) for number in numbers]

    def _stream(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the half images and their classes from number `first` on, made in another process."""
        left = self.options.epochs * self.options.images_per_epoch - first
        loader = torch.utils.data.DataLoader(
            ImageStream(self, first), batch_size=None, sampler=range(left), num_workers=1, prefetch_factor=QUEUE
        )
        return iter(loader)

    def _train_image(self, image: Tensor, classes: Tensor, number: int) -> float:
        """Take a training step on one image and return its loss."""
        loss = self.loss(image, classes, self.images_before + number)
        return self.update(loss, number / self.options.images_per_epoch)

    def loss(self, image: Tensor, classes: Tensor, number: int) -> Tensor:
        """Return the loss on an image [k, j, i] with its half classes."""
        random = random_generator(self.options.seed, number)
        labels = classes.flatten().long()
        chosen, weights = drawn_voxels(labels, len(self.network.half_classes), self.options.voxels_per_class, random)
        labels, chosen, weights = (part.to(self.device) for part in (labels[chosen], chosen, weights))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16()):
            logits = self.network.half_logits(image.to(self.device), chosen)
        return drawn_loss(logits.float(), labels, weights)

    def _bfloat16(self) -> bool:
        """Return whether the device computes in bfloat16 itself, and is the faster for it."""
        if self.device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        return self.device.type == "cpu" and BFLOAT16 in fast_backends(openvino=False)

    # --- validation ----------------------------------------------------------------------------

    @property
    def validates(self) -> bool:
        """Whether label maps were set aside; without, the last weights are the best."""
        return bool(self.material.validation)

    def validate(self) -> dict[str, float]:
        """Return the mean Dice over the structures by contrast and resolution; by structure in `scores`."""
        scores: dict[str, list[list[float]]] = {}
        for name, sample in self.validation_samples():
            scores.setdefault(name, []).append(self._dice(sample))
        names = [value.name for value in self.material.settings.structures]
        mean = {name: np.nanmean(rows, 0) for name, rows in scores.items()}
        self.scores = {name: dict(zip(names, map(float, values), strict=True)) for name, values in mean.items()}
        return {name: float(np.nanmean(values)) for name, values in mean.items()}

    def validated(self) -> list[str]:
        """Contrasts with resolutions."""
        return [f"{kind} {resolution}" for kind in self._kinds() for resolution in self._resolutions()]

    def validation_samples(self) -> Iterator[tuple[str, Sample]]:
        """Whole images, the same each time: their kind, and the image with its classes."""
        generator = self.material.generator(self.material.validation, 3 * self.options.seed + VALIDATION_STREAM)
        number = 0
        for kind in self._kinds():
            for resolution, slices in self._resolutions().items():
                for subject in range(len(self.material.validation)):
                    request = SampleRequest(subject, kind, slices, TYPICAL_POSE, whole=True)
                    yield (
                        f"{kind} {resolution}",
                        generator.sample(number, self.grid_of(self.material.layout.grid), self.synthesis, request),
                    )
                    number += 1

    def _resolutions(self) -> dict[str, float]:
        """Return what is validated by its name: the thickness of the slices in mm, 0 for voxels of the grid."""
        spacing = self.grid_of(self.material.layout.grid).spacing
        return {f"{spacing:g} mm": 0.0, f"{SLICES:g} mm slices": SLICES}

    def _kinds(self) -> tuple[str, ...]:
        """Return the contrasts that are validated."""
        return (*self.material.settings.contrasts, "tissues")

    def _dice(self, sample: Sample) -> list[float]:
        """Return the Dice of every structure of a sample."""
        with torch.no_grad():
            found = self.found(sample)
        classes = sample.classes.numpy()
        return [dice(found == n, classes == n) for n in range(1, self.network.classes)]

    def found(self, sample: Sample) -> np.ndarray:
        """Return the labels of a whole image by the averaged weights."""
        return self.average.eval()(sample.image[None, None].to(self.device))[0].argmax(0).cpu().numpy()

    @staticmethod
    def grid_of(grid: Grid) -> Grid:
        """Return the grid of the images for a part of the network's."""
        return grid

    def model_files(self) -> list[str]:
        """Return the names of weights and template."""
        return [WEIGHTS, TEMPLATE]

    def fingerprint(self) -> str:
        """Return options and label maps; how long it lasts and how fast it runs may change."""
        free = (
            "epochs",
            "hours",
            "validate_every",
            "device",
            "threads",
            "nice",
            "resume",
            "replace",
            "settings",
            "initial_weights",
        )
        fixed = {name: value for name, value in vars(self.options).items() if name not in free}
        maps = [self.material.maps[n].name for n in self.material.training]
        for name in ("border_channels", "whole_network", "all_maps"):
            if not fixed[name]:
                del fixed[name]  # of runs before there was such an option
        if self.options.border_channels:
            del fixed["prior_images"]  # the prior is that of the weights
        fixed["from weights"] = bool(self.options.initial_weights)
        return f"{fixed} {self.synthesis} {self.material.settings} {maps}"


@dataclasses.dataclass(frozen=True)
class Progress:
    """Share of a training that is done with image `number`; a start from weights has no easy beginning."""

    options: SyntheticTrainingOptions

    def __call__(self, number: int) -> float:
        """Return the share of the training that is done at image `number`."""
        if self.options.initial_weights:
            return 1.0
        return number / (self.options.epochs * self.options.images_per_epoch)


class ImageStream(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Training images from number `first` on: half image [k, j, i] and its half classes, uint8."""

    def __init__(self, run: SyntheticRun, first: int) -> None:
        self._generator, self._grid, self._half_class = (
            run.generator,
            run.grid_of(run.material.layout.half),
            run.half_class,
        )
        self._synthesis, self._progress = run.synthesis, Progress(run.options)
        self._first, self._before = first, run.images_before

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        number = self._first + index
        synthesis = self._synthesis.at(self._progress(number))
        sample = self._generator.sample(self._before + number, self._grid, synthesis)
        return sample.image, self._half_class[sample.classes.long()]
