"""Bring a model into the user's model folder: from nnU-Net v2's results, their zip, a checkpoint, or a LightSeg folder.

Everything is read, checked and loaded into its network before the first byte is written; then the model appears
whole or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelError, OutputError
from ..networks import build
from ..nnunet.description import describe
from ..nnunet.plans import complete, settings_from_plans
from ..weights.checkpoint import Checkpoint, read_checkpoint, write_slim
from ..weights.files import sha256
from ..weights.matching import known_models, load_state
from .archives import unpacked
from .card import Card, Weights, card_to_dict, read_card, write_card
from .store import CARD_NAME, all_cards, user_models_folder

PLANS_NAME, DATASET_NAME = "plans.json", "dataset.json"
CHECKPOINT_NAMES = ("checkpoint_final.pth", "checkpoint_best.pth")
DEPTH = 3  # folders below the given one in which a model is looked for: results/dataset/configuration
ACCEPTED = (
    "Give an nnU-Net v2 results folder (with plans.json, dataset.json and fold_0, fold_1, ...), its exported zip, "
    "one checkpoint of nnU-Net v2 (.pth), or a LightSeg model folder (with model.json)."
)


@dataclass(frozen=True)
class _Model:
    """A model that fits together. card: with the name of the weights file. write_weights: writes that file."""

    card: Card
    write_weights: Callable[[Path], object]


def import_model(path: str | Path, replace: bool = False) -> Card:
    """Add the model at `path` to the user's models; its card, with the folder where it now lies.

    path: an nnU-Net v2 results folder (`trainer__plans__configuration`, or a folder above that holds one such), a
    LightSeg model folder or its model.json, a zip file of any of these, or a checkpoint (.pth) that describes itself.
    Of several folds one is taken. replace: in place of an imported model of the same id.

    Raises InputError for anything else and for an id that is taken, ModelError for a model whose parts do not fit or
    that LightSeg cannot run, OutputError where it cannot be written. Nothing has changed then.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file or folder {path}. {ACCEPTED}")
    with _opened(path) as content:
        return _install(_read(content, path.name), replace)


@contextmanager
def _opened(path: Path) -> Iterator[Path]:
    """The folder or checkpoint that `path` stands for."""
    kind = path.suffix.lower()
    if path.is_dir() or kind in (".pth", ".pt"):
        yield path
    elif path.name in (CARD_NAME, PLANS_NAME):
        yield path.parent
    elif kind == ".zip":
        with unpacked(path) as folder:
            yield folder
    else:
        raise _not_a_model(path.name, is_old=kind in (".model", ".pkl"))


def _read(content: Path, given: str) -> _Model:
    """The model in a checkpoint or a folder; given: name of what the user gave, such as the zip file."""
    if content.is_file():
        return _from_checkpoint(_described(content), content)
    folder = _locate(content, given)
    return _from_card(folder) if (folder / CARD_NAME).is_file() else _from_results(folder)


def _locate(root: Path, given: str) -> Path:
    """The one folder, at or below `root`, that holds a model."""
    for depth in range(DEPTH + 1):
        found = {file.parent for name in (CARD_NAME, PLANS_NAME) for file in root.glob("*/" * depth + name)}
        if len(found) == 1:
            return found.pop()
        if found:
            names = ", ".join(sorted(folder.relative_to(root).as_posix() for folder in found))
            raise InputError(f"There are {len(found)} models in {given} ({names}). Import one of these folders.")
    raise _not_a_model(given, is_old=any(file for depth in range(3) for file in root.glob("*/" * depth + "*.model")))


def _not_a_model(given: str, is_old: bool) -> InputError:
    if is_old:
        return InputError(
            f"{given} is of nnU-Net v1, whose files do not say enough to make a model of them. "
            "If it belongs to a model of the list, use it there: 'lightseg weights use MODEL FILE'."
        )
    return InputError(f"There is no model in {given}. {ACCEPTED}")


# --- LightSeg's own ------------------------------------------------------------------------------


def _from_card(folder: Path) -> _Model:
    card = read_card(folder / CARD_NAME)
    weights, file = card.weights, folder / card.weights.file
    if not file.is_file():
        raise ModelError(f"The weights file {weights.file} is missing in {folder}. Put it beside {CARD_NAME}.")
    if weights.size not in (None, file.stat().st_size) or weights.sha256 not in (None, sha256(file)):
        raise ModelError(
            f"The weights file {weights.file} in {folder} is not the one its card describes (size or SHA-256 differ). "
            "It is damaged or was replaced: copy the model again."
        )
    checkpoint = read_checkpoint(file)
    card = complete(card, checkpoint) if card.self_describing else card
    _check(card, checkpoint, file.name)
    return _Model(card, partial(shutil.copyfile, file))


# --- nnU-Net v2 ----------------------------------------------------------------------------------


def _from_results(folder: Path) -> _Model:
    """A folder `trainer__plans__configuration`. As in nnU-Net, its plans and dataset count, not the checkpoint's."""
    file, remark = _choose_fold(folder)
    own = _described(file)
    checkpoint = dataclasses.replace(
        own, plans=_read_json(folder / PLANS_NAME), dataset=_read_json(folder / DATASET_NAME)
    )
    if difference := _difference(own, checkpoint):
        raise ModelError(
            f"{PLANS_NAME} or {DATASET_NAME} in {folder.name} is not of the training that wrote "
            f"{file.parent.name}/{file.name}: they differ in {difference}. Take all files from one training."
        )
    return _from_checkpoint(checkpoint, file, remark)


def _from_checkpoint(checkpoint: Checkpoint, file: Path, remark: str = "") -> _Model:
    card = describe(checkpoint, remark)
    _check(card, checkpoint, file.name)
    return _Model(card, partial(write_slim, checkpoint))


def _described(file: Path) -> Checkpoint:
    """A checkpoint that says what it was trained for."""
    checkpoint = read_checkpoint(file)
    if checkpoint.plans is None or checkpoint.dataset is None or checkpoint.configuration is None:
        raise InputError(
            f"{file.name} holds weights, but not how to use them, as a checkpoint of nnU-Net v2 does. "
            "If it belongs to a model of the list, use it there: 'lightseg weights use MODEL FILE'."
        )
    return checkpoint


def _choose_fold(folder: Path) -> tuple[Path, str]:
    """The checkpoint of fold_all, else of the lowest fold, finished ones first, and what to know about it."""
    folds = sorted(folder.glob("fold_*"), key=lambda fold: (fold.name != "fold_all", len(fold.name), fold.name))
    for name in CHECKPOINT_NAMES:
        files = [fold / name for fold in folds if (fold / name).is_file()]
        if files:
            of_several = f"{files[0].parent.name} alone, of {len(files)} folds whose mean nnU-Net takes. "
            unfinished = f"{name}, since there is no {CHECKPOINT_NAMES[0]}. "
            return files[0], (
                (of_several if len(files) > 1 else "") + (unfinished if name != CHECKPOINT_NAMES[0] else "")
            )
    raise InputError(
        f"No fold of {folder} has a {' or a '.join(CHECKPOINT_NAMES)}. Finish the training, or copy it whole."
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} is missing or damaged ({error}). Copy the whole folder again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} is not a JSON object. Copy the whole folder again.")
    return content


def _difference(own: Checkpoint, other: Checkpoint) -> str:
    """The first thing, apart from names of labels and channels, that the two say differently."""
    for name in ("dataset_name", "plans_name"):
        if (own.plans or {}).get(name) != (other.plans or {}).get(name):
            return name
    first, second = (
        vars(settings_from_plans(c.plans, c.dataset, c.configuration or "", c.trainer or "", c.mirror_axes))
        for c in (own, other)
    )
    told = ("network", "network_arguments", "preprocessing", "inference")
    return next((name.replace("_", " ") for name in told if first[name] != second[name]), "")


# --- both ----------------------------------------------------------------------------------------


def _check(card: Card, checkpoint: Checkpoint, name: str) -> None:
    """Raise ModelError for texts that no file can hold, and for weights that do not fit the network, all of them.

    The latter tells what a trainer that LightSeg does not know has made of the network in the plans.
    """
    try:
        json.dumps(card_to_dict(card), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ModelError(
            f"The texts that describe {name} cannot be made a model card ({error}). Correct its {DATASET_NAME}."
        ) from error
    load_state(build(card.network, card.network_arguments), checkpoint.state, name, known_models)


def _install(model: _Model, replace: bool) -> Card:
    models = user_models_folder()
    folder = models / model.card.id
    _check_id(model.card.id, folder, replace)
    try:
        models.mkdir(parents=True, exist_ok=True)
        # One level deeper than models are looked for, so that nobody sees it before it is complete.
        with tempfile.TemporaryDirectory(prefix=".import-", dir=models, ignore_cleanup_errors=True) as temporary:
            new = Path(temporary) / folder.name
            new.mkdir()
            file = new / model.card.weights.file
            model.write_weights(file)
            weights = Weights(file.name, file.stat().st_size, sha256(file))
            write_card(dataclasses.replace(model.card, weights=weights), new / CARD_NAME)
            _put(new, folder)
    except OSError as error:
        raise OutputError(
            f"The model could not be stored in {models} ({error.strerror or error}). "
            "Make room there, change its permissions, or set LIGHTSEG_MODELS to another folder."
        ) from error
    return read_card(folder / CARD_NAME)


def _check_id(identifier: str, folder: Path, replace: bool) -> None:
    for card in all_cards():
        if (card.id == identifier) != (card.folder == folder):
            raise InputError(
                f"The id '{identifier}' is taken by the model '{card.title}' in {card.folder}. "
                f"Change the id in the {CARD_NAME} that is to be imported, or remove that model."
            )
    if folder.exists() and not replace:
        raise InputError(
            f"There is already a model '{identifier}' in {folder}. Import with --replace to put this one in its place."
        )


def _put(new: Path, folder: Path) -> None:
    """Rename `new` to `folder`; what was there is removed afterwards, or put back if that fails."""
    if not folder.exists():
        new.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=".replaced-", dir=folder.parent)) / folder.name
    try:
        folder.rename(aside)
        new.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        aside.parent.rmdir()
        raise
    shutil.rmtree(aside.parent, ignore_errors=True)
