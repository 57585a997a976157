"""The training run: epochs, validation through the inference pipeline, resuming, and the model folder at the end.

The model folder gets `model.json` and the weights (the best by validation Dice), `training.csv` (one line per
epoch), and `checkpoint.pt`, from which an interrupted run goes on with the same result as without.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..catalog.card import Card, Weights, write_card
from ..catalog.store import CARD_NAME
from ..errors import InputError, OutputError
from ..evaluation import dice
from ..files import check_folder, write_table
from ..networks import build
from ..pipeline.devices import choose_device
from ..pipeline.preprocess import orientation_steps, prepare
from ..pipeline.resample import resample_labels
from ..progress import CancelCallback, Reporter
from ..segmenter import Segmenter
from ..volume import Volume
from ..weights.files import save_torch, save_weights, sha256
from .augment import Augmentation, random_patch
from .dataset import Case, Dataset, read_dataset
from .loss import SegmentationLoss
from .model_card import starting_card
from .options import TrainingOptions, training_command

CHECKPOINT = "checkpoint.pt"
LOG = "training.csv"


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch: what the log holds, and the seconds that the rest will take."""

    epoch: int
    epochs: int
    learning_rate: float
    train_loss: float
    validation_dice: float | None
    best_dice: float
    seconds: float
    seconds_left: float


def train(
    dataset_folder: str | Path,
    out: str | Path,
    options: TrainingOptions,
    on_epoch: Callable[[EpochReport], None] | None = None,
    cancelled: CancelCallback | None = None,
) -> Card:
    """Train LightMedSeg on a training set and write a model folder; returns its card.

    Raises InputError for a training set that cannot be used, OutputError for a folder that cannot be written.
    """
    out = Path(out)
    dataset = read_dataset(dataset_folder)
    loaded = {case.name: case.load() for case in dataset.cases}
    card = starting_card(dataset, list(loaded.values()), out, options)
    run = _Run(card, dataset, loaded, out, options)
    reporter = Reporter(None, cancelled)
    for epoch in range(run.epoch, options.epochs):
        reporter.step("Training")
        report = run.train_epoch(epoch)
        if on_epoch is not None:
            on_epoch(report)
    return run.finish(dataset.name, training_command(Path(dataset_folder).resolve().name, out, options))


class _Run:
    """State of a training run; everything that `checkpoint.pt` must hold lives here."""

    def __init__(
        self,
        card: Card,
        dataset: Dataset,
        loaded: dict[str, tuple[list[Volume], np.ndarray]],
        out: Path,
        options: TrainingOptions,
    ) -> None:
        self.card, self.out, self.options = card, out, options
        self.device = choose_device(options.device)
        self.training, self.validation = _split(dataset.cases, options)
        self.loaded = loaded
        if not any(loaded[case.name][1].any() for case in self.validation):
            raise InputError(
                "None of the validation cases has a label, so no model could be chosen. "
                "Take another seed or a larger validation fraction."
            )
        self.prepared = [_training_arrays(card, *loaded[case.name]) for case in self.training]
        torch.manual_seed(options.seed)
        self.network = build(card.network, card.network_arguments)
        self.network.to(device=self.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.best = copy.deepcopy(self.average.state_dict())
        self.best_dice, self.best_epoch = -1.0, 0
        self.loss = SegmentationLoss(self._frequencies(), options.class_weight_exponent).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.device.type == "cuda")
        self.rows: list[dict[str, Any]] = []
        self.epoch, self.step = 0, 0
        self._open_folder()

    # --- one epoch -----------------------------------------------------------------------------

    def train_epoch(self, epoch: int) -> EpochReport:
        """One pass over the training cases; every random number follows from the seed and the epoch."""
        started = time.perf_counter()
        options = self.options
        random = np.random.default_rng((options.seed, epoch))
        order = random.permutation(len(self.prepared))
        batches = [order[n : n + options.batch_size] for n in range(0, len(order), options.batch_size)]
        self.network.train()
        losses = []
        for index, batch in enumerate(batches):
            rate = self._learning_rate(epoch + index / len(batches))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            losses.append(self._train_batch(*self._batch(batch, random)))
            self._update_average()
        self.epoch = epoch + 1
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "learning_rate": f"{rate:.3g}",
            "train_loss": f"{np.mean(losses):.5f}",
        }
        score = None
        if self.epoch % options.validate_every == 0 or self.epoch == options.epochs:
            by_label = self._validate()
            score = float(np.mean(list(by_label.values())))
            row["validation_dice"] = f"{score:.5f}"
            row |= {f"validation_dice_{name}": f"{value:.5f}" for name, value in by_label.items()}
            if score > self.best_dice:
                self.best, self.best_dice, self.best_epoch = copy.deepcopy(self.average.state_dict()), score, self.epoch
        seconds = time.perf_counter() - started
        row["seconds"] = f"{seconds:.2f}"
        self.rows.append(row)
        self._save()
        mean_seconds = float(np.mean([float(entry["seconds"]) for entry in self.rows]))
        left = mean_seconds * (options.epochs - self.epoch)
        return EpochReport(
            self.epoch, options.epochs, rate, float(np.mean(losses)), score, self.best_dice, seconds, left
        )

    def _batch(self, indices: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        patch_size = self.options.patch_size or self.card.inference.patch_size
        pairs = []
        for index in indices:
            image, labels = self.prepared[index]
            pair = random_patch(
                image,
                labels,
                patch_size,
                self.options.flip_axes,
                random.random() < self.options.foreground_fraction,
                random,
                Augmentation(),
            )
            pairs.append(pair)
        images = torch.stack([image for image, _ in pairs]).to(self.device)
        targets = torch.stack([labels for _, labels in pairs]).to(self.device)
        return images.contiguous(memory_format=torch.channels_last_3d), targets

    def _train_batch(self, images: Tensor, labels: Tensor) -> float:
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            logits = self.network(images)
        loss = self.loss(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        return float(loss.detach())

    def _update_average(self) -> None:
        # early on, a short memory: the first weights are worth nothing
        decay = min(self.options.ema_decay, self.step / (self.step + 10))
        with torch.no_grad():
            for average, current in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                average.lerp_(current, 1 - decay)

    def _learning_rate(self, epoch: float) -> float:
        """Linear warm-up, then a cosine to a hundredth."""
        options = self.options
        if epoch < options.warmup_epochs:
            return options.learning_rate * (epoch + 0.1) / (options.warmup_epochs + 0.1)
        share = (epoch - options.warmup_epochs) / max(1e-9, options.epochs - options.warmup_epochs)
        return options.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))

    def _validate(self) -> dict[str, float]:
        """Mean Dice by label of the averaged weights, through the same pipeline that users run."""
        segmenter = Segmenter(self.card, device=str(self.device))
        segmenter.use_network(self.average.eval())
        scores: dict[str, list[float]] = {label.name: [] for label in self.card.labels}
        for case in self.validation:
            volumes, labels = self.loaded[case.name]
            predicted = segmenter.segment(volumes).voxels
            for label in self.card.labels:
                scores[label.name].append(dice(predicted == label.value, labels == label.value))
        self.average.to(self.device)  # lack of memory may have moved it to the CPU
        return {name: float(np.nanmean(values)) for name, values in scores.items() if not np.isnan(values).all()}

    def _frequencies(self) -> list[float]:
        counts = np.zeros(self.card.classes)
        for _, labels in self.prepared:
            counts += np.bincount(labels.numpy().ravel().astype(np.int64), minlength=self.card.classes)
        return [float(share) for share in counts / counts.sum()]

    # --- files ---------------------------------------------------------------------------------

    def _open_folder(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The model folder {self.out} cannot be made ({error.strerror}). Choose another folder."
            ) from error
        check_folder(self.out)
        checkpoint = self.out / CHECKPOINT
        if self.options.resume and checkpoint.is_file():
            self._restore(torch.load(checkpoint, map_location=self.device, weights_only=True))
        elif checkpoint.is_file():
            raise OutputError(
                f"{self.out} already holds a training run. Continue it with --resume or choose another folder."
            )

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best_dice": self.best_dice,
            "best_epoch": self.best_epoch,
            "epoch": self.epoch,
            "step": self.step,
            "rows": self.rows,
            "fingerprint": self._fingerprint(),
        }
        save_torch(state, self.out / CHECKPOINT)
        names = ["validation_dice", *(f"validation_dice_{label.name}" for label in self.card.labels)]
        header = ["epoch", "learning_rate", "train_loss", *names, "seconds"]
        write_table([header, *([row.get(name, "") for name in header] for row in self.rows)], self.out / LOG)

    def _restore(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self._fingerprint():
            raise InputError(
                f"The run in {self.out} was started with other options or data. "
                "Resume it with the same command or choose another folder."
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.best = state["best"]
        self.best_dice, self.best_epoch = state["best_dice"], state["best_epoch"]
        self.epoch, self.step, self.rows = state["epoch"], state["step"], state["rows"]

    def _fingerprint(self) -> str:
        options = dataclasses.replace(self.options, resume=False, device="")
        return f"{options} {[case.name for case in self.training]}"

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
            "validation_cases": [case.name for case in self.validation],
            "epochs": self.options.epochs,
            "best_epoch": self.best_epoch,
            "device": self.device.type,
            "torch": torch.__version__,
        }
        card = dataclasses.replace(
            card, training=training, performance=measure_performance(card, cases, str(self.device))
        )
        write_card(card, self.out / CARD_NAME)
        return card


def _split(cases: tuple[Case, ...], options: TrainingOptions) -> tuple[list[Case], list[Case]]:
    """Training and validation cases, drawn by the seed."""
    count = min(max(1, round(len(cases) * options.validation_fraction)), len(cases) - 1)
    held_out = set(np.random.default_rng(options.seed).permutation(len(cases))[:count].tolist())
    return (
        [case for n, case in enumerate(cases) if n not in held_out],
        [case for n, case in enumerate(cases) if n in held_out],
    )


def _training_arrays(card: Card, volumes: list[Volume], labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Preprocessed image [C, k, j, i] and labels [k, j, i] on the same working grid."""
    prepared = prepare(volumes, card.preprocessing)
    geometry = volumes[0].geometry
    order, flips = orientation_steps(geometry, card.preprocessing.orientation)
    oriented = np.flip(labels.transpose(order), flips)[prepared.inner]
    oriented = resample_labels(oriented, prepared.shape)
    return torch.from_numpy(prepared.array), torch.from_numpy(np.ascontiguousarray(oriented))
