"""A training run in epochs: learning rate, averaged weights, the best by validation, a log, and its interruption.

What a step and a validation are is up to the kind of training. The model folder gets `training.csv` (one line per
epoch) and `checkpoint.pt`, from which an interrupted run goes on with the same result as without.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..catalog.lookup import CARD_NAME
from ..core.atomic_io import check_folder, output_error, write_table
from ..core.errors import InputError, OutputError
from ..core.file_hash import sha256
from ..core.i18n import tr as _
from ..models.matching import load_state
from ..weights.checkpoint import read_checkpoint
from ..weights.files import save_torch
from ..weights.safe_load import first_line
from .earlier_runs import earlier_runs

CHECKPOINT = "checkpoint.pt"
LOG = "training.csv"
CURVES = "curves.png"
STEEPEST = 5.0  # norm at which gradients are cut


@dataclass(frozen=True)
class EpochReport:
    """A finished epoch: a line of the log, and the seconds left."""

    epoch: int
    epochs: int
    learning_rate: float
    train_loss: float
    validation_dice: float | None
    best_dice: float
    seconds: float
    seconds_left: float


class RunOptions(Protocol):
    """The options that all kinds of training share."""

    @property
    def epochs(self) -> int:
        """Number of epochs."""

    @property
    def learning_rate(self) -> float:
        """Highest learning rate."""

    @property
    def weight_decay(self) -> float:
        """Weight decay of the optimizer."""

    @property
    def warmup_epochs(self) -> int:
        """Epochs in which the learning rate rises."""

    @property
    def ema_decay(self) -> float:
        """Decay of the average of the weights, per step."""

    @property
    def validate_every(self) -> int:
        """Epochs between two validations."""

    @property
    def initial_weights(self) -> str:
        """Weights file to start from, "" for none."""

    @property
    def resume(self) -> bool:
        """Whether to resume the run in the folder."""

    @property
    def replace(self) -> bool:
        """Whether to replace the model in the folder."""


class Run(ABC):
    """State of a training run; everything that `checkpoint.pt` must hold lives here."""

    def __init__(
        self,
        out: Path,
        options: RunOptions,
        network: nn.Module,
        device: torch.device,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self.out, self.run_options, self.device = out, options, device
        self.network = network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.best = copy.deepcopy(self.average.state_dict())
        self.best_dice, self.best_epoch = -1.0, 0
        self.initial_sha256 = ""  # of the weights file that the run started from
        self.earlier_runs: list[dict[str, Any]] = []  # that led to it
        self.scores: dict[str, dict[str, float]] = {}  # of the last validation, in more detail where there is any
        self.best_scores: dict[str, dict[str, float]] = {}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, betas=betas
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        self.rows: list[dict[str, Any]] = []
        self.epoch, self.step = 0, 0

    @abstractmethod
    def train_steps(self, epoch: int) -> list[float]:
        """Losses of the steps of one epoch; every random number follows from the seed and the epoch."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Return Dice of the averaged weights by what the log names it."""

    @property
    def validates(self) -> bool:
        """Whether anything was set aside to validate with; without, the last weights are the best."""
        return True

    @property
    def starts_at_random(self) -> bool:
        """Whether what is trained had random weights at first."""
        return not self.initial_sha256

    @abstractmethod
    def validated(self) -> list[str]:
        """Return the names that `validate` may give."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return what must be the same when a run resumes."""

    @abstractmethod
    def model_files(self) -> list[str]:
        """Return the names of the files of the model in its folder, beside its card."""

    # --- one epoch -----------------------------------------------------------------------------

    def train_epoch(self, epoch: int) -> EpochReport:
        """Train, validate where it is time to, and keep the state."""
        started = time.perf_counter()
        options = self.run_options
        self.network.train()
        losses = self.train_steps(epoch)
        self.epoch = epoch + 1
        rate = self.optimizer.param_groups[0]["lr"]
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "learning_rate": f"{rate:.3g}",
            "train_loss": f"{np.mean(losses):.5f}",
        }
        score = None
        if self.epoch % options.validate_every == 0 or self.epoch == options.epochs:
            if self.validates:
                scores = self.validate()
                score = float(np.mean(list(scores.values())))
                row["validation_dice"] = f"{score:.5f}"
                row |= {f"validation_dice_{name}": f"{value:.5f}" for name, value in scores.items()}
            if score is None or score > self.best_dice:
                self.best, self.best_epoch = copy.deepcopy(self.average.state_dict()), self.epoch
                self.best_dice, self.best_scores = self.best_dice if score is None else score, self.scores
        seconds = time.perf_counter() - started
        row["seconds"] = f"{seconds:.2f}"
        self.rows.append(row)
        self._save()
        mean_seconds = float(np.mean([float(entry["seconds"]) for entry in self.rows]))
        left = mean_seconds * (options.epochs - self.epoch)
        return EpochReport(
            self.epoch, options.epochs, rate, float(np.mean(losses)), score, self.best_dice, seconds, left
        )

    def update(self, loss: Tensor, epoch: float) -> float:
        """Take a step of the optimizer and of the average; return the loss.

        Args:
            epoch: with the share of it that is done.
        """
        rate = learning_rate(self.run_options, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), STEEPEST)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        decay = self.run_options.ema_decay
        if self.starts_at_random:  # early on, a short memory: random weights are worth nothing
            decay = min(decay, self.step / (self.step + 10))
        with torch.no_grad():
            for average, current in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                if average.is_floating_point():
                    average.lerp_(current, 1 - decay)
        return float(loss.detach())

    # --- files ---------------------------------------------------------------------------------

    def open_folder(self) -> None:
        """Make the model folder, or go on with the run in it.

        Raises:
            OutputError: for a folder that cannot be written, or that holds a model or a run which is neither to be
                gone on with nor to be replaced.
            InputError: for a run of another kind.
            ModelError: for initial weights that do not fit.
        """
        checkpoint = self.out / CHECKPOINT
        resumed = self.run_options.resume and checkpoint.is_file()
        initial_weights = Path(self.run_options.initial_weights)
        if self.run_options.initial_weights and not resumed:
            self._load(initial_weights)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                _("The model folder {folder} cannot be created ({reason}). Choose another folder.").format(
                    folder=self.out, reason=error.strerror
                )
            ) from error
        check_folder(self.out)
        if resumed:
            self._resume(checkpoint)
            if initial_weights.is_file() and sha256(initial_weights) != self.initial_sha256:
                raise InputError(
                    _(
                        "The run in {folder} did not start from {file}, as it is now. Resume it with the file that it "
                        "started from, or choose another folder."
                    ).format(folder=self.out, file=initial_weights)
                )
            if initial_weights.is_file() and not self.earlier_runs:  # of a version that did not keep them
                self.earlier_runs = earlier_runs(initial_weights, self.initial_sha256)
        else:
            self._make_room()

    def initial_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors of a weights file as the network takes them; all of them must fit as they are."""
        return state

    @abstractmethod
    def check_origin(self, weights: Path) -> None:
        """Check, where the runs that led to the weights are known, that none has seen what this run validates with.

        Raises:
            InputError: if they have.
        """

    def _load(self, path: Path) -> None:
        """Start from a weights file.

        Raises:
            InputError: if it is not there, or this run may not start from it.
            ModelError: for one that does not fit.
        """
        if not path.is_file():
            raise InputError(
                _("There is no weights file {file} to start from. Check the path of --initial-weights.").format(
                    file=path
                )
            )
        self.initial_sha256 = sha256(path)
        self.earlier_runs = earlier_runs(path, self.initial_sha256)
        self.check_origin(path)
        state = self.initial_state(read_checkpoint(path).state)
        for network in (self.network, self.average):
            load_state(network, state, path.name)

    def _resume(self, checkpoint: Path) -> None:
        """Take over the state in a file. Raises InputError for a file that is damaged, or of another run."""
        try:
            self._restore(torch.load(checkpoint, map_location=self.device, weights_only=True))
        except InputError:
            raise
        except Exception as error:  # broken bytes can break any line of the reader, or be of another program
            raise InputError(
                _(
                    "The training in {folder} cannot be resumed because {name} is damaged ({reason}). "
                    "Start again with --replace, or choose another folder."
                ).format(folder=checkpoint.parent, name=checkpoint.name, reason=first_line(error))
            ) from error

    def _make_room(self) -> None:
        """Check that the folder is free for this run, or remove what is to be replaced.

        Raises:
            OutputError: if a model or a run is in the folder, or remove its files if it is to be replaced.
        """
        names = [CARD_NAME, CHECKPOINT, LOG, CURVES, *self.model_files()]  # without its card, no half of it is a model
        there = [name for name in names if os.path.lexists(self.out / name)]
        if there and not self.run_options.replace:
            in_the_way = _(
                "{folder} already contains a model or parts of one ({files}). "
                "Replace it with --replace, or choose another folder."
            )
            if CHECKPOINT in there:
                in_the_way = _(
                    "{folder} already contains a training run ({files}). "
                    "Continue it with --resume, replace it with --replace, or choose another folder."
                )
            raise OutputError(in_the_way.format(folder=self.out, files=", ".join(there)))
        for name in there:
            try:
                (self.out / name).unlink()
            except OSError as error:
                raise output_error(self.out / name, error) from error

    def _save(self) -> None:
        """Write the checkpoint from which training can resume."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "initial_sha256": self.initial_sha256,
            "earlier_runs": json.dumps(self.earlier_runs),
            "best_dice": self.best_dice,
            "best_scores": self.best_scores,
            "best_epoch": self.best_epoch,
            "epoch": self.epoch,
            "step": self.step,
            "rows": self.rows,
            "fingerprint": self.fingerprint(),
        }
        save_torch(state, self.out / CHECKPOINT)
        names = ["validation_dice", *(f"validation_dice_{name}" for name in self.validated())]
        header = ["epoch", "learning_rate", "train_loss", *names, "seconds"]
        write_table([header, *([row.get(name, "") for name in header] for row in self.rows)], self.out / LOG)

    def _restore(self, state: dict[str, Any]) -> None:
        """Take over the state of a checkpoint.

        Raises:
            InputError: if it is of another training set or other options.
        """
        if state["fingerprint"] != self.fingerprint():
            raise InputError(
                _(
                    "The run in {folder} was started with other options or data. Resume it with the same command, "
                    "or choose another folder."
                ).format(folder=self.out)
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.best, self.best_scores = state["best"], state.get("best_scores", {})
        self.initial_sha256 = state.get("initial_sha256", "")
        self.earlier_runs = json.loads(state.get("earlier_runs", "[]"))
        self.best_dice, self.best_epoch = state["best_dice"], state["best_epoch"]
        self.epoch, self.step, self.rows = state["epoch"], state["step"], state["rows"]


def learning_rate(options: RunOptions, epoch: float) -> float:
    """Linear warm-up, then a cosine to a hundredth."""
    if epoch < options.warmup_epochs:
        return options.learning_rate * (epoch + 0.1) / (options.warmup_epochs + 0.1)
    share = (epoch - options.warmup_epochs) / max(1e-9, options.epochs - options.warmup_epochs)
    return options.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
