"""Training on labeled images: patches, validation through the inference pipeline, and the model folder at the end.

The model folder gets `model.json` and the weights (the best by validation Dice) beside what every run leaves
(`run.py`).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..catalog.card import Card, Weights
from ..catalog.card_file import write_card
from ..catalog.lookup import CARD_NAME
from ..core.errors import InputError
from ..core.file_hash import sha256
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, Reporter
from ..evaluation.metrics import dice
from ..imaging.volume import Volume
from ..inference.backends.devices import choose_device
from ..inference.options import InferenceOptions
from ..inference.processing.orientation import axis_steps, oriented
from ..inference.processing.preprocess import prepare
from ..inference.processing.resample import resample_labels
from ..inference.segmenter import Segmenter
from ..networks import build
from ..weights.files import save_weights
from .augment import Augmentation, random_patch
from .dataset import Case, Dataset, read_dataset
from .earlier_runs import seen, with_earlier
from .loss import SegmentationLoss
from .model_card import starting_card
from .options import TrainingOptions, training_command
from .run import EpochReport, Run

TRAINED_ON = "trained_on"  # among the training facts of a card: the names of the cases


def train(
    dataset_folder: str | Path,
    out: str | Path,
    options: TrainingOptions,
    on_epoch: Callable[[EpochReport], None] | None = None,
    canceled: CancelCallback | None = None,
) -> Card:
    """Train LightMedSeg on a training set and write a model folder; returns its card.

    Raises:
        InputError: for a training set that cannot be used.
        OutputError: for a folder that cannot be written.
    """
    out = Path(out)
    dataset = read_dataset(dataset_folder)
    loaded = {case.name: case.load() for case in dataset.cases}
    card = starting_card(dataset, list(loaded.values()), out, options)
    run = _Run(card, dataset, loaded, out, options)
    reporter = Reporter(None, canceled)
    for epoch in range(run.epoch, options.epochs):
        reporter.step(_("Training"))
        report = run.train_epoch(epoch)
        if on_epoch is not None:
            on_epoch(report)
    return run.finish(dataset.name, training_command(Path(dataset_folder).resolve().name, out, options))


class _Run(Run):
    """A run on the patches of a training set."""

    options: TrainingOptions

    def __init__(
        self,
        card: Card,
        dataset: Dataset,
        loaded: dict[str, tuple[list[Volume], np.ndarray]],
        out: Path,
        options: TrainingOptions,
    ) -> None:
        self.card, self.options = card, options
        self.training, self.validation = _split(dataset.cases, options)
        self.loaded = loaded
        if self.validation and not any(loaded[case.name][1].any() for case in self.validation):
            raise InputError(
                _(
                    "None of the validation cases has a labeled voxel, so no model could be selected. "
                    "Use another seed, a larger validation fraction or fewer parts."
                )
            )
        self.prepared = [_training_arrays(card, *loaded[case.name]) for case in self.training]
        torch.manual_seed(options.seed)
        device = choose_device(options.device)
        self.lower_precision = _lower_precision(device, options)
        network = build(card.network, card.network_arguments)
        _check_patch(network, len(card.channels), options.patch_size or card.inference.patch_size)
        super().__init__(out, options, network, device)
        self.loss = SegmentationLoss(self._frequencies(), options.class_weight_exponent).to(self.device)
        self.open_folder()

    def train_steps(self, epoch: int) -> list[float]:
        """Train on all cases once; return the losses."""
        options = self.options
        random = np.random.default_rng((options.seed, epoch))
        order = random.permutation(len(self.prepared))
        batches = [order[n : n + options.batch_size] for n in range(0, len(order), options.batch_size)]
        return [
            self._train_batch(*self._batch(batch, random), epoch + index / len(batches))
            for index, batch in enumerate(batches)
        ]

    def _batch(self, indices: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return augmented patches and their labels."""
        patch_size = self.options.patch_size or self.card.inference.patch_size
        pairs = []
        for index in indices:
            image, labels = self.prepared[index]
            pair = random_patch(
                image,
                labels,
                patch_size,
                random.random() < self.options.foreground_fraction,
                random,
                Augmentation(flip_axes=self.options.flip_axes).times(self.options.augmentation),
            )
            pairs.append(pair)
        images = torch.stack([image for image, _ in pairs]).to(self.device)
        targets = torch.stack([labels for _, labels in pairs]).to(self.device)
        return images.contiguous(memory_format=torch.channels_last_3d), targets

    def _train_batch(self, images: Tensor, labels: Tensor, epoch: float) -> float:
        """Take a training step on a batch and return its loss."""
        with torch.autocast(self.device.type, self.lower_precision, enabled=self.lower_precision is not None):
            logits = self.network(images)
        return self.update(self.loss(logits, labels), epoch)

    @property
    def validates(self) -> bool:
        """Whether cases were set aside."""
        return bool(self.validation)

    def validate(self) -> dict[str, float]:
        """Return the mean Dice of the averaged weights by label, through the pipeline that users run."""
        segmenter = Segmenter(self.card, InferenceOptions(str(self.device)))
        segmenter.use_network(self.average.eval())
        scores: dict[str, list[float]] = {label.name: [] for label in self.card.labels}
        for case in self.validation:
            volumes, labels = self.loaded[case.name]
            predicted = segmenter.segment(volumes).voxels
            for label in self.card.labels:
                scores[label.name].append(dice(predicted == label.value, labels == label.value))
        self.average.to(self.device)  # lack of memory may have moved it to the CPU
        return {name: float(np.nanmean(values)) for name, values in scores.items() if not np.isnan(values).all()}

    def validated(self) -> list[str]:
        """Return the names of the labels."""
        return [label.name for label in self.card.labels]

    def _frequencies(self) -> list[float]:
        """Return the share of voxels of every class."""
        counts = np.zeros(self.card.classes)
        for _image, labels in self.prepared:
            counts += np.bincount(labels.numpy().ravel().astype(np.int64), minlength=self.card.classes)
        return [float(share) for share in counts / counts.sum()]

    def model_files(self) -> list[str]:
        """Return the name of the weights file."""
        return [self.card.weights.file]

    def fingerprint(self) -> str:
        """Return options and cases."""
        options = dataclasses.replace(self.options, resume=False, replace=False, device="")
        later = f" augmentation {options.augmentation}" if options.augmentation != 1 else ""
        later += " from weights" if options.initial_weights else ""
        later += " in bfloat16" if options.bfloat16 else ""
        later += f" fold {options.fold}" if options.fold else ""
        return f"{options} {[case.name for case in self.training]}{later}"

    def check_origin(self, weights: Path) -> None:
        """Check, where the runs that led to the weights are known, that none has seen what this run validates with.

        Raises:
            InputError: if they have.
        """
        if known := seen(self.earlier_runs, TRAINED_ON, [case.name for case in self.validation]):
            raise InputError(
                _(
                    "{file} was trained on {cases}, which this training sets aside for validation. Repeat --seed and "
                    "--validation-fraction or --fold of its training; if these are other cases of the same name, "
                    "rename them."
                ).format(file=weights, cases=", ".join(known))
            )

    def finish(self, dataset: str, command: str) -> Card:
        """Write the best weights and the card with their measured quality."""
        from .report import measure_performance

        card = self.card
        path = self.out / card.weights.file
        save_weights(self.best, path)
        weights = Weights(path.name, path.stat().st_size, sha256(path))
        card = dataclasses.replace(card, weights=weights, folder=self.out)
        cases = [(case.name, *self.loaded[case.name]) for case in self.validation]
        training = {
            "command": command,
            "dataset": dataset,
            "seed": self.options.seed,
            "training_cases": len(self.training),
            TRAINED_ON: [case.name for case in self.training],
            "validation_cases": [case.name for case in self.validation],
            "epochs": self.options.epochs,
            "best_epoch": self.best_epoch,
            "device": self.device.type,
            "torch": torch.__version__,
        }
        card = dataclasses.replace(
            card,
            training=with_earlier(training, self.initial_sha256, self.earlier_runs),
            performance=measure_performance(card, cases, str(self.device)) if cases else {},
        )
        write_card(card, self.out / CARD_NAME)
        return card


def _check_patch(network: torch.nn.Module, channels: int, patch_size: Sequence[int]) -> None:
    """Check that a network can learn from patches of a size [k, j, i], which computes nothing and changes nothing.

    Raises:
        InputError: if it cannot.
    """
    twin = copy.deepcopy(network).to("meta").train()
    try:
        twin(torch.empty(1, channels, *patch_size, device="meta"))
    except NotImplementedError:  # an operation that only a real device has
        return
    except (ValueError, RuntimeError) as error:
        size, reason = ",".join(map(str, patch_size)), str(error).partition(". ")[0]
        raise InputError(
            _("The network cannot learn from patches of {size} voxels ({reason}). Choose another --patch-size.").format(
                size=size, reason=reason
            )
        ) from error


def _lower_precision(device: torch.device, options: TrainingOptions) -> torch.dtype | None:
    """Return what products are computed in: float16 on CUDA, bfloat16 on a CPU where asked for; None for float32.

    Raises:
        InputError: where bfloat16 is asked for on anything but a CPU.
    """
    if options.bfloat16 and device.type != "cpu":
        raise InputError(
            _("bfloat16 is for a training on the CPU, and this one runs on {device}. Omit it.").format(device=device)
        )
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if options.bfloat16 else None


def _split(cases: tuple[Case, ...], options: TrainingOptions) -> tuple[list[Case], list[Case]]:
    """Training and validation cases, drawn by the seed; all are for training where none is to be set aside."""
    if not options.validation_fraction:
        return list(cases), []
    order = np.random.default_rng(options.seed).permutation(len(cases))
    if len(cases) < 2:
        raise InputError(
            _(
                "The training set has a single case: training and validation need at least two. "
                "Add labeled cases, or set none aside with --validation-fraction 0 and without --fold."
            )
        )
    part, parts = options.part() or (0, 0)
    if parts > len(cases):
        raise InputError(
            _("The training set has {count} cases, too few for {parts} parts. Choose fewer parts.").format(
                count=len(cases), parts=parts
            )
        )
    if parts:
        chosen = order[part - 1 :: parts]
    else:
        chosen = order[: min(max(1, round(len(cases) * options.validation_fraction)), len(cases) - 1)]
    held_out = set(chosen.tolist())
    return (
        [case for n, case in enumerate(cases) if n not in held_out],
        [case for n, case in enumerate(cases) if n in held_out],
    )


def _training_arrays(card: Card, volumes: list[Volume], labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Preprocessed image [C, k, j, i] and labels [k, j, i] on the same working grid."""
    prepared = prepare(volumes, card.preprocessing)
    geometry = volumes[0].geometry
    order, flips = axis_steps(geometry, card.preprocessing)
    working = resample_labels(oriented(labels, order, flips)[prepared.inner], prepared.shape)
    return torch.from_numpy(prepared.array), torch.from_numpy(np.ascontiguousarray(working))
