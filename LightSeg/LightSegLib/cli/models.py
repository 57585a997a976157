"""The commands about models: what there is, where it comes from, what is on this computer."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import asdict
from pathlib import Path

from ..catalog.card import Card, Weights
from ..catalog.lookup import all_cards, find_card, remove_model
from ..catalog.needed import all_models, own_models, size_of
from ..core.errors import InputError, LightSegError
from ..core.i18n import tr as _
from ..weights.store import WeightStore
from .model_info import archive_facts, describe_model
from .model_list import list_models
from .printing import ProgressLine, megabytes, say, table


def _import(arguments: argparse.Namespace) -> None:
    """Run `lightseg import`."""
    from ..models.importing import import_model

    card = import_model(arguments.path, arguments.replace, arguments.folds, arguments.orientation)
    say(f"{card.title} imported; use it with --model {card.id}")


def _remove_model(arguments: argparse.Namespace) -> None:
    """Run `lightseg remove`."""
    card = find_card(arguments.model)
    remove_model(card)
    say(f"{card.title} removed")


# --- lightseg weights ----------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> None:
    """Run `lightseg weights list`."""
    entries = WeightStore().entries()
    if arguments.json:
        say(json.dumps([asdict(entry) for entry in entries], indent=2, ensure_ascii=False, default=str))
        return
    rows = [(entry.model, megabytes(entry.size), str(entry.path or "an unfinished download")) for entry in entries]
    say(table([("MODEL", "SIZE", "FILE"), *rows]) if rows else "Nothing was downloaded yet.")


def _download(arguments: argparse.Namespace) -> None:
    """Run `lightseg weights download`."""
    from ..models.archived import ensure_weights

    store = WeightStore()
    needed = {card.id: card for model in arguments.models for card in all_models(find_card(model))}
    downloads = store.to_download(needed.values())
    if len(needed) > 1 and downloads and not arguments.quiet:
        models = "1 model" if len(downloads) == 1 else f"{len(downloads)} models"
        say(f"{models}, {megabytes(size_of(downloads))} to download")
    store.check_obtainable(needed.values(), arguments.mirror)
    for card in needed.values():
        if not arguments.quiet and card.weights.archive and WeightStore().state(card) == "available":
            say(f"{card.id}: {archive_facts(card.weights)}")
        progress = ProgressLine(arguments.quiet)
        try:
            path = ensure_weights(card, progress, accept_license=arguments.accept_license, mirror=arguments.mirror)
        finally:
            progress.clear()
        if not arguments.quiet:
            say(f"{card.id}: {path}")


def _add_weights(arguments: argparse.Namespace) -> None:
    """Run `lightseg weights add`."""
    if arguments.from_totalsegmentator is None:
        _add(find_card(arguments.model), arguments.file, arguments)
        return
    from ..models.installed import installed_models

    if arguments.model is not None:
        raise InputError(
            _("--from-totalsegmentator takes all models that it finds. Leave out {model}.").format(
                model=arguments.model
            )
        )
    failures: list[LightSegError] = []
    for card, folder in installed_models(arguments.from_totalsegmentator or None):
        if WeightStore().state(card) == "downloaded":
            say(f"{card.id}: has its weights already")
            continue
        try:
            _add(card, folder, arguments)
        except LightSegError as error:  # the others may be whole
            failures.append(error)
            say(f"{card.id}: {error}")
    if failures:
        raise failures[0]


def _add(card: Card, file: str | Path, arguments: argparse.Namespace) -> None:
    """Add a file or folder to the weights of a model."""
    from ..models.archived import add_weights

    if card.parts:
        raise _of_a_part(card, Path(file))
    progress = ProgressLine(arguments.quiet)
    try:
        path = add_weights(card, file, progress, accept_license=arguments.accept_license)
    finally:
        progress.clear()
    if not arguments.quiet:
        say(f"{card.id}: {path}")


def _of_a_part(card: Card, file: Path) -> InputError:
    """Return the error for weights that are added to a model that has none of its own, but parts with some."""
    parts = own_models(card)
    named = [part for part in parts if file.name in _published_names(part.weights)]
    if len(named) == 1:
        return InputError(
            _(
                "{model} consists of other models, and {file} is by its name the weights of one of them, {part}. "
                "Add it to that: lightseg weights add {part} {path}"
            ).format(model=card.id, file=file.name, part=named[0].id, path=shlex.quote(str(file)))
        )
    return InputError(
        _(
            "{model} consists of other models, each with weights of its own: {parts}. Add the file of each to it: "
            "lightseg weights add {part} FILE, and so on; 'lightseg info {part}' names the file."
        ).format(model=card.id, parts=", ".join(part.id for part in parts), part=parts[0].id)
    )


def _published_names(weights: Weights) -> tuple[str, ...]:
    """Return the names of a weights file and, of an archive, of the folder in it, as their authors publish them."""
    folder = weights.archive.folder.partition("/")[0] if weights.archive else ""
    return tuple(filter(None, (weights.file, folder)))


def _verify(arguments: argparse.Namespace) -> None:
    """Run `lightseg weights verify`."""
    store = WeightStore()
    named = [card for model in arguments.models for card in own_models(find_card(model))]
    own = [card for card in all_cards() if not card.parts]  # which are verified themselves
    models = named or [card for card in own if store.state(card) not in ("available", "manual")]
    failures: list[LightSegError] = []
    for card in models:
        try:
            store.verify(card)
            say(f"{card.id}: OK")
        except LightSegError as error:
            failures.append(error)
            say(f"{card.id}: {error}")
    if failures:
        raise failures[0]


def _remove(arguments: argparse.Namespace) -> None:
    """Run `lightseg weights remove`."""
    store = WeightStore()
    known = {entry.model for entry in store.entries()}
    stored = {model: _stored(model, known) for model in arguments.models}
    if unknown := [model for model, ids in stored.items() if not ids]:
        raise InputError(
            _(
                "No weights of {model} have been downloaded. See 'lightseg weights list' for downloaded weights, "
                "and use 'lightseg remove MODEL' to remove an imported model."
            ).format(model=", ".join(unknown))
        )
    for model in dict.fromkeys(one for ids in stored.values() for one in ids):  # by id, since the card may be gone
        say(f"{model}: {megabytes(store.remove(model, arguments.forget))} freed")


def _stored(model: str, known: set[str]) -> list[str]:
    """Return the ids of what has weights on the disk: of a model itself, else of its parts; the card may be gone."""
    if model in known:
        return [model]
    try:
        return [part.id for part in own_models(find_card(model)) if part.id in known]
    except LightSegError:
        return []


def _path(arguments: argparse.Namespace) -> None:
    """Run `lightseg weights path`."""
    for path in WeightStore().paths(own_models(find_card(arguments.model))):
        say(path)


MODEL_COMMANDS = {
    "models": list_models,
    "info": describe_model,
    "import": _import,
    "remove": _remove_model,
    "weights list": _list,
    "weights download": _download,
    "weights add": _add_weights,
    "weights verify": _verify,
    "weights remove": _remove,
    "weights path": _path,
}
