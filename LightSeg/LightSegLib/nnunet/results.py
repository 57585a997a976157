"""nnU-Net v2's results folder, `trainer__plans__configuration`: which folds are taken, and whether all fits together.

As in nnU-Net, plans.json and dataset.json of the folder count, not the checkpoints' own copies.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError, ModelError
from ..core.i18n import tr as _
from ..core.schema import FieldError
from ..weights.checkpoint import Checkpoint, read_checkpoint
from .dataset import DATASET_NAME
from .fields import read_object
from .plans import settings_from_plans

PLANS_NAME = "plans.json"
CHECKPOINT_NAMES = ("checkpoint_final.pth", "checkpoint_best.pth")
ALL = "all"  # the fold that was trained on all cases


@dataclass(frozen=True)
class Results:
    """The checkpoints of an nnU-Net results folder, with their weights.

    Attributes:
        checkpoint: with the weights of all folds taken.
        names: of their files.
        remark: how nnU-Net's choice differs.
    """

    checkpoint: Checkpoint
    folds: tuple[int | str, ...]
    names: tuple[str, ...]
    remark: str


def read_results(folder: Path, wanted: Sequence[str] = ()) -> Results:
    """Return the model in a results folder.

    Args:
        wanted: folds by number, or "all"; by default what nnU-Net takes the mean of.

    Raises:
        InputError: for folds that are not there.
        ModelError: for files that do not belong together.
    """
    names = [path.relative_to(folder).as_posix() for path in folder.glob("fold_*/checkpoint_*.pth") if path.is_file()]
    chosen, remark = choose_folds(names, wanted, str(folder))
    files = {fold: folder / name for fold, name in chosen.items()}
    try:
        plans, dataset = read_object(folder / PLANS_NAME), read_object(folder / DATASET_NAME)
    except FieldError as error:
        raise ModelError(_("{reason}. Copy the whole folder again.").format(reason=error)) from error
    checkpoints: list[Checkpoint] = []
    for file in files.values():
        own = read_described(file)
        checkpoints.append(dataclasses.replace(own, plans=plans, dataset=dataset))
        _check_belongs(own, checkpoints[-1], checkpoints[0], f"{_name(file)} in {folder.name}")
    return Results(
        dataclasses.replace(checkpoints[0], other_folds=tuple(other.state for other in checkpoints[1:])),
        tuple(fold if fold == ALL else int(fold) for fold in files),
        tuple(map(_name, files.values())),
        remark,
    )


def read_described(file: Path) -> Checkpoint:
    """Return a checkpoint that describes its own configuration.

    Raises:
        InputError: for others.
        ModelError: for damaged ones.
    """
    checkpoint = read_checkpoint(file)
    if checkpoint.plans is None or checkpoint.dataset is None or checkpoint.configuration is None:
        raise InputError(
            _(
                "{file} contains weights, "
                "but not the preprocessing and labels that an nnU-Net v2 checkpoint has. "
                "If it belongs to a listed model, "
                "add it to that model with Use a File in Slicer or with 'lightseg weights add MODEL FILE'."
            ).format(file=file.name)
        )
    return checkpoint


def choose_folds(names: Collection[str], wanted: Sequence[str], folder: str) -> tuple[dict[str, str], str]:
    """Checkpoint of each fold to be taken, and what to know about the choice.

    Where none is wanted, those of all numbered folds, else of the fold of all cases: of finished trainings if there are
    any. (nnU-Net's predictor: all folds with a checkpoint_final.pth but fold_all.)

    Args:
        names: of files in the results folder, such as fold_0/checkpoint_final.pth.
        folder: what messages call it.

    Raises:
        InputError: for folds that are not there.
    """
    found = {match[1] for name in names if (match := re.fullmatch(f"fold_([0-9]+|{ALL})/.+", name))}
    folds = sorted(found, key=lambda fold: (fold == ALL, len(fold), fold))
    final, best = (
        {fold: file for fold in folds if (file := f"fold_{fold}/{name}") in names} for name in CHECKPOINT_NAMES
    )
    there = {fold: final.get(fold) or best[fold] for fold in folds if fold in final or fold in best}
    if not there:
        raise InputError(
            _(
                "No fold in {folder} has a checkpoint ({names}). Finish the training, or copy the complete folder."
            ).format(folder=folder, names=" or a ".join(CHECKPOINT_NAMES))
        )
    if unknown := [fold for fold in wanted if fold not in there]:
        raise InputError(
            _("{folder} has no checkpoint of fold {fold}. Choose from {available}.").format(
                fold=" and ".join(unknown), folder=folder, available=", ".join(there)
            )
        )
    usual = list(final or best)
    chosen = wanted or [fold for fold in usual if fold != ALL] or usual
    return {fold: there[fold] for fold in there if fold in chosen}, _remark(chosen, list(there), list(final))


def _remark(chosen: Sequence[str], there: list[str], finished: list[str]) -> str:
    """Return how nnU-Net's own choice of folds and checkpoints would differ."""
    remarks = []
    if left := [fold for fold in finished if fold not in chosen and fold != ALL]:
        remarks.append(f"nnU-Net would take the mean with fold {', '.join(left)}, which was not imported.")
    if stopped := [fold for fold in there if fold not in (*chosen, *finished, ALL)]:
        remarks.append(f"Fold {', '.join(stopped)} was left out, since its training was not finished.")
    if unfinished := [fold for fold in chosen if fold not in finished]:
        remarks.append(f"Of fold {', '.join(unfinished)} this is {CHECKPOINT_NAMES[1]}: its training was not finished.")
    return " ".join(remarks)


def _name(file: Path) -> str:
    """Return a fold's checkpoint, in messages."""
    return f"{file.parent.name}/{file.name}"


def _check_belongs(own: Checkpoint, here: Checkpoint, first: Checkpoint, name: str) -> None:
    """Check that a checkpoint belongs to the results folder and to its first fold.

    Raises:
        ModelError: unless what a checkpoint states agrees with the folder's files, and with the first fold.
    """
    if difference := _difference(own, here):
        raise ModelError(
            _(
                "{plans} or {dataset} does not belong to the training that wrote {checkpoint}: "
                "they differ in {difference}. Use the files of a single training run."
            ).format(plans=PLANS_NAME, dataset=DATASET_NAME, checkpoint=name, difference=difference)
        )
    for fact in ("configuration", "trainer"):
        if getattr(here, fact) != getattr(first, fact):
            raise ModelError(
                _(
                    "{name} has the {fact} '{value}', but fold {fold} has '{other}'. "
                    "Use the folds of a single training run."
                ).format(name=name, fact=fact, value=getattr(here, fact), fold=first.fold, other=getattr(first, fact))
            )


def _difference(own: Checkpoint, other: Checkpoint) -> str:
    """Return the first thing, apart from names of labels and channels, that the two say differently."""
    for name in ("dataset_name", "plans_name"):
        if (own.plans or {}).get(name) != (other.plans or {}).get(name):
            return name
    first, second = (
        vars(settings_from_plans(c.plans, c.dataset, c.configuration or "", c.trainer or "", c.mirror_axes, gaps=True))
        for c in (own, other)
    )
    compared = ("network", "network_arguments", "preprocessing", "inference")
    return next((name.replace("_", " ") for name in compared if first[name] != second[name]), "")
