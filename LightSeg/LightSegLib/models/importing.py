"""Bring a model into the user's model folder: nnU-Net v2's results, their archive, a checkpoint, a LightSeg folder.

Everything is read, checked and loaded into its network before the first byte is written; then the model appears
whole or not at all.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..catalog.card import Card, Weights
from ..catalog.card_file import check_readable, read_card, write_card
from ..catalog.lookup import CARD_NAME, all_cards
from ..catalog.needed import parts_of
from ..catalog.orientations import ORIENTATIONS
from ..core.atomic_io import to_disk
from ..core.errors import InputError, ModelError, OutputError
from ..core.file_hash import sha256
from ..core.i18n import tr as _
from ..core.leftovers import IMPORT, REPLACED, new_folder, temporary_folder
from ..core.paths import user_models_folder
from ..nnunet.dataset import DATASET_NAME
from ..nnunet.description import describe
from ..nnunet.network import is_known_trainer
from ..nnunet.plans import complete, turned
from ..nnunet.results import PLANS_NAME, read_described, read_results
from ..weights.checkpoint import Checkpoint, read_checkpoint, write_slim
from .archives import unpacked
from .matching import fitting_network, known_models

DEPTH = 3  # folders below the given one in which a model is looked for: results/dataset/configuration
ACCEPTED = _(
    "Give an nnU-Net v2 results folder (with plans.json, dataset.json and fold_0, fold_1, ...), its zip or tar.gz, "
    "one checkpoint of nnU-Net v2 (.pth), or a LightSeg model folder (with model.json)."
)


@dataclass(frozen=True)
class _Model:
    """A model that fits together.

    Attributes:
        card: with the name of the weights file.
        write_weights: writes that file; None for a model that consists of others.
        plans: nnU-Net's, where there are some.
        template: file to be copied beside it.
    """

    card: Card
    write_weights: Callable[[Path], object] | None
    plans: dict[str, Any] | None = None
    template: Path | None = None


def import_model(
    path: str | Path, replace: bool = False, folds: Sequence[int | str] = (), orientation: str | None = None
) -> Card:
    """Add the model at `path` to the user's models and return its card.

    Nothing has changed then.

    Args:
        path: an nnU-Net v2 results folder (`trainer__plans__configuration`, or a folder above that holds one such),
            a LightSeg model folder or its model.json, a zip or tar.gz file of any of these, or a checkpoint (.pth) that
            describes itself.
        replace: in place of an imported model of the same id.
        folds: those of a results folder whose networks are averaged, by number, or "all" for the one trained on all
            cases; by default, as in nnU-Net, all that are numbered and finished.
        orientation: world directions of the axes i, j, k in which the network shall see images, as in "RAS", for a
            model whose authors turn them before nnU-Net does its part; by default what its plans or card state.

    Raises:
        InputError: for anything else, for an id that is taken, for folds that are not there, and for an orientation
            that there is not.
        ModelError: for a model whose parts do not fit or that LightSeg cannot run.
        OutputError: if it cannot be written.
    """
    path = Path(path)
    if orientation not in (None, *ORIENTATIONS):
        raise InputError(
            _("There is no orientation '{orientation}'. Give three letters such as RAS or LPS, or input.").format(
                orientation=orientation
            )
        )
    if not path.exists():
        raise InputError(_("{file} does not exist. {accepted}").format(file=path, accepted=ACCEPTED))
    with _opened(path) as content:
        model = _read(content, path.name, [str(fold) for fold in folds])
        if orientation is not None:
            model = _turned(model, orientation)
        return _install(model, replace)


@contextmanager
def _opened(path: Path) -> Iterator[Path]:
    """Open a path as a folder or a checkpoint; archives are unpacked."""
    kind = path.suffix.lower()
    if path.is_dir() or kind in (".pth", ".pt"):
        yield path
    elif path.name in (CARD_NAME, PLANS_NAME):
        yield path.parent
    elif path.name.lower().endswith((".zip", ".tar.gz", ".tgz")):
        with unpacked(path) as folder:
            yield folder
    else:
        raise _not_a_model(path.name, is_old=kind in (".model", ".pkl"))


def _read(content: Path, source: str, folds: list[str]) -> _Model:
    """Return the model in a checkpoint or a folder; given: name of what the user gave, such as the zip file."""
    folder = content if content.is_file() else _locate(content, source)
    if (folder / PLANS_NAME).exists() and not (folder / CARD_NAME).exists():
        return _from_results(folder, folds)
    if folds:
        raise InputError(
            _(
                "{source} has no folds to choose from, as an nnU-Net results folder has. "
                "Import it without naming a fold."
            ).format(source=source)
        )
    return _from_card(folder) if folder.is_dir() else _from_nnunet(read_described(folder), [folder.name])


def _locate(root: Path, source: str) -> Path:
    """Return the one folder, at or below `root`, that holds a model."""
    for depth in range(DEPTH + 1):
        found = {file.parent for name in (CARD_NAME, PLANS_NAME) for file in root.glob("*/" * depth + name)}
        if len(found) == 1:
            return found.pop()
        if found:
            names = ", ".join(sorted(folder.relative_to(root).as_posix() for folder in found))
            raise InputError(
                _("{source} contains {count} models ({names}). Import one of these folders.").format(
                    count=len(found), source=source, names=names
                )
            )
    raise _not_a_model(source, is_old=any(file for depth in range(3) for file in root.glob("*/" * depth + "*.model")))


def _not_a_model(source: str, is_old: bool) -> InputError:
    """Return the error for a source without a model."""
    if is_old:
        return InputError(
            _(
                "{source} is from nnU-Net v1, whose files do not describe the model completely. "
                "If it belongs to a listed model, "
                "add it to that model with Use a File in Slicer or with 'lightseg weights add MODEL FILE'."
            ).format(source=source)
        )
    return InputError(_("There is no model in {source}. {accepted}").format(source=source, accepted=ACCEPTED))


# --- LightSeg's own ------------------------------------------------------------------------------


def _from_card(folder: Path) -> _Model:
    """Return the model in a folder with a card."""
    card = read_card(folder / CARD_NAME)
    if card.parts:
        parts_of(card)  # are all here
        return _Model(card, None)
    weights, file = card.weights, folder / card.weights.file
    if not file.is_file():
        raise ModelError(
            _("The weights file {file} is missing in {folder}. Put it next to {card}.").format(
                file=weights.file, folder=folder, card=CARD_NAME
            )
        )
    if weights.size not in (None, file.stat().st_size) or weights.sha256 not in (None, sha256(file)):
        raise ModelError(
            _(
                "The weights file {file} in {folder} is not the one that its card describes (size or SHA-256 differ). "
                "It is damaged or was replaced: copy the model again."
            ).format(file=weights.file, folder=folder)
        )
    checkpoint = read_checkpoint(file)
    card = complete(card, checkpoint) if card.metadata_in_weights else card
    _check(
        card,
        checkpoint,
        [
            file.name,
            *(
                _("{file} (network {number})").format(file=file.name, number=2 + n)
                for n in range(len(checkpoint.other_folds))
            ),
        ],
    )
    alignment = card.preprocessing.alignment
    model = _Model(card, partial(shutil.copyfile, file), checkpoint.plans)
    if alignment is None:
        return model
    template = folder / alignment.template
    if not template.is_file() or sha256(template) != alignment.template_sha256:
        raise ModelError(
            _(
                "The template {template} in {folder} is missing or is not the one that its card describes "
                "(SHA-256 differs). "
                "Copy the model again."
            ).format(template=alignment.template, folder=folder)
        )
    return dataclasses.replace(model, template=template)


# --- nnU-Net v2 ----------------------------------------------------------------------------------


def _from_results(folder: Path, folds: list[str]) -> _Model:
    """Return the model of an nnU-Net results folder."""
    results = read_results(folder, folds)
    return _from_nnunet(results.checkpoint, results.names, results.folds, results.remark)


def _from_nnunet(
    checkpoint: Checkpoint, names: Sequence[str], folds: Sequence[int | str] = (), remark: str = ""
) -> _Model:
    """Return the model of an nnU-Net checkpoint."""
    card = describe(checkpoint, folds, remark)
    _check(card, checkpoint, names)
    return _Model(card, partial(write_slim, checkpoint), checkpoint.plans)


def _turned(model: _Model, orientation: str) -> _Model:
    """Return a model whose network sees images in an orientation, which its weights do not replace at each use."""
    card = model.card
    steps = dataclasses.replace(card.preprocessing, orientation=orientation)
    if model.plans is not None:
        steps = turned(card.preprocessing, orientation, model.plans)
    kept = card.kept
    if card.metadata_in_weights and "orientation" not in kept:
        kept = (*kept, "orientation")
    return dataclasses.replace(model, card=dataclasses.replace(card, preprocessing=steps, kept=kept))


# --- both ----------------------------------------------------------------------------------------


def _check(card: Card, checkpoint: Checkpoint, names: Sequence[str]) -> None:
    """The weights show whether an unknown trainer has changed the network of the plans.

    Args:
        names: what messages call the weights of each fold.

    Raises:
        ModelError: for what no card can hold, and for weights that do not fit the network, all of them.
    """
    try:
        check_readable(card)
    except ValueError as error:
        raise ModelError(
            _(
                "The description of {names} cannot be turned into a model card: {reason}. Correct its {file} or plans."
            ).format(names=names[0], reason=error, file=DATASET_NAME)
        ) from error
    for name, state in zip(names, (checkpoint.state, *checkpoint.other_folds), strict=True):
        try:
            fitting_network(card, state, name, known_models)
        except ModelError as error:
            if checkpoint.trainer is None or is_known_trainer(checkpoint.trainer):
                raise
            raise ModelError(
                _(
                    "The model was trained with '{trainer}', "
                    "which LightSeg does not know and whose network is not the one in the plans. "
                    "Use a model that was trained with one of nnU-Net's own trainers.\n{reason}"
                ).format(trainer=checkpoint.trainer, reason=error)
            ) from error


def _install(model: _Model, replace: bool) -> Card:
    """Put a model into the user's models folder and return its card."""
    models = user_models_folder()
    folder = models / model.card.id
    _check_id(model.card.id, folder, replace)
    try:
        models.mkdir(parents=True, exist_ok=True)
        # One level deeper than models are looked for, so that it is not found before it is complete.
        with temporary_folder(IMPORT, models) as temporary:
            new = temporary / folder.name
            new.mkdir()
            card = model.card
            if model.write_weights is not None:
                file = new / card.weights.file
                model.write_weights(file)
                card = dataclasses.replace(card, weights=Weights(file.name, file.stat().st_size, sha256(file)))
            if model.template is not None:
                shutil.copyfile(model.template, new / model.template.name)
            write_card(card, new / CARD_NAME)
            for written in (*new.iterdir(), new):
                to_disk(written)
            _put(new, folder)
    except OSError as error:
        raise OutputError(
            _(
                "The model could not be stored in {folder} ({reason}). Free some space, "
                "change the permissions of the folder, or set LIGHTSEG_MODELS to another one."
            ).format(folder=models, reason=error.strerror or error)
        ) from error
    return read_card(folder / CARD_NAME)


def _check_id(identifier: str, folder: Path, replace: bool) -> None:
    """Check that a model id is free, or its model may be replaced.

    Raises:
        InputError: if not.
    """
    for card in all_cards():
        if (card.id == identifier) != (card.folder == folder):
            raise InputError(
                _(
                    "The id '{identifier}' is already used by the model '{model}' in {folder}. "
                    "Change the id in the imported {card}, or remove that model."
                ).format(identifier=identifier, model=card.title, folder=card.folder, card=CARD_NAME)
            )
    if folder.exists() and not replace:
        raise InputError(
            _(
                "A model '{identifier}' already exists in {folder}. "
                "Delete it in Slicer first, or replace it with 'lightseg import --replace'."
            ).format(identifier=identifier, folder=folder)
        )


def _put(new: Path, folder: Path) -> None:
    """Rename `new` to `folder`; what was there is removed afterwards, or put back if that fails.

    If the program is killed in between, the next search for models puts it back (`lookup.all_cards`).
    """
    if not folder.exists():
        new.rename(folder)
        return
    aside = new_folder(REPLACED, folder.parent) / folder.name
    try:
        folder.rename(aside)
        new.rename(folder)
    except BaseException:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        with suppress(OSError):
            aside.parent.rmdir()
        raise
    shutil.rmtree(aside.parent, ignore_errors=True)
