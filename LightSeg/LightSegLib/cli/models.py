"""The commands about models: what there is, where it comes from, what is on this computer."""

from __future__ import annotations

import argparse
import json
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..catalog.card import Card, Preprocessing, Resampling, Weights
from ..catalog.card_file import card_to_dict
from ..catalog.condensed import condensed
from ..catalog.lookup import all_cards, find_card, remove_model
from ..catalog.needed import all_models, own_models, own_size, size_of
from ..catalog.sides import possible_labels
from ..core.errors import InputError, LightSegError, ModelError
from ..core.i18n import tr as _
from ..core.plain_text import public_address
from ..weights.download import ROOM
from ..weights.sources import origin
from ..weights.store import WeightStore
from ..weights.verified import is_unverified
from .model_list import list_models
from .printing import WIDTH, ProgressLine, megabytes, nested, say, table, wrapped

MOST_LABELS = 24  # that are listed with their values among other facts


def _state(card: Card, store: WeightStore) -> str:
    """Return the state of a card's weights, and whether the model is unverified."""
    return store.state(card) + (", unverified" if is_unverified(card) else "")


def _info(arguments: argparse.Namespace) -> None:
    """Run `lightseg info`."""
    card = find_card(arguments.model)
    if arguments.json:
        facts_of_card = card_to_dict(card)
        for source in facts_of_card.get("weights", {}).get("sources", ()):
            source.update({"url": public_address(source["url"])} if "url" in source else {})
        say(json.dumps(facts_of_card, indent=2, ensure_ascii=False))
        return
    if arguments.labels:
        _print_labels(card)
        return
    weights = card.weights
    facts = {
        "Id": card.id,
        "Version": card.version,
        "State": _state(card, WeightStore()),
        "Description": card.description,
        "Family": card.family,
        "Modality": card.modality,
        "Input": ", ".join(card.channels),
        "Resampled to": _outer_spacing(card.preprocessing),
        "Spacing": _spacing(card.preprocessing) if card.network else "",
        "Resampling": _resampling(card),
        "Patch": f"{' x '.join(map(str, card.inference.patch_size))} voxels (k, j, i)" if card.network else "",
        "Network": card.network,
        "Folds": _folds(card),
        "Region": _region(card),
        "Labels": _labels(card),
        "Totals": ", ".join(total.name for total in card.totals),
        "Weights": f"{weights.file}, {megabytes(weights.size)}, {_pin(weights)}" if not card.parts else "",
        "Parts": _parts(card),
        "Needs": _others(card),
        "Archive": _archive(weights),
        "Sources": ", ".join(map(origin, weights.sources)),
        "Measured": _measured(card),
        "Homepage": card.homepage,
        "Limitations": card.limitations,
        "License": card.license,
        "Citation": card.citation,
    }
    say(card.title)
    say(wrapped({name: text for name, text in facts.items() if text}))
    if card.assumptions:
        say(f"{'Unverified' if is_unverified(card) else 'Verified on this computer'}: not known about this model")
        say(
            "\n".join(
                textwrap.fill(sentence, WIDTH, initial_indent="  - ", subsequent_indent="    ")
                for sentence in card.assumptions
            )
        )
    if card.training:
        say("\n".join(["  Training:", *_lines(card.training)]))
    if card.performance:
        say(nested({"Performance": card.performance}))


def _lines(facts: Mapping[str, Any], indent: str = "    ") -> Iterator[str]:
    """Yield the facts of a training, one below the other; of long lists, such as of its cases, how long they are."""
    for name, value in facts.items():
        title, listed = f"{indent}{name.replace('_', ' ')}:", value if isinstance(value, list) else []
        if isinstance(value, Mapping):
            yield title
            yield from _lines(value, indent + "  ")
        elif any(isinstance(one, Mapping) for one in listed):  # one run after the other
            yield from _lines({f"{name} {number}": one for number, one in enumerate(listed, start=1)}, indent)
        else:
            text = ", ".join(map(str, listed)) or "none" if isinstance(value, list) else str(value)
            text = text if not listed or len(text) <= WIDTH else f"{len(listed)} (--json lists them)"
            yield textwrap.fill(
                text,
                WIDTH,
                initial_indent=f"{title} ",
                subsequent_indent=f"{indent}  ",
                break_long_words=False,
                break_on_hyphens=False,
            )


def _labels(card: Card) -> str:
    """Return the labels of a model with their values, or of one with many a summary."""
    labels = possible_labels(card)
    if len(labels) <= MOST_LABELS:
        return ", ".join(f"{label.value} {label.name}" for label in labels)
    names = "; ".join(condensed(label.name for label in labels))
    return f"{len(labels)} ('lightseg info {card.id} --labels' lists each): {names}"


def _print_labels(card: Card) -> None:
    """Print every label: value, name, the authors' word and the code of its standard term."""
    rows = [("VALUE", "NAME", "AUTHORS' NAME", "CODE")]
    for label in possible_labels(card):
        code = f"{label.terminology.type.scheme} {label.terminology.type.value}" if label.terminology else ""
        rows.append((str(label.value), label.name, label.original or "", code))
    say(table(rows))


def _parts(card: Card) -> str:
    """Return the models that a model consists of, and the size of their weights."""
    if not card.parts:
        return ""
    return f"{', '.join(part.model for part in card.parts)} ({megabytes(own_size(card))} in all)"


def _others(card: Card) -> str:
    """Return the models that a run needs beside the model and its parts, and their sizes."""
    try:
        own = {model.id for model in own_models(card)}
        others = [model for model in all_models(card) if model.id not in own]
    except ModelError as error:
        return str(error)
    return ", ".join(f"{model.id} ({megabytes(model.weights.size)})" for model in others)


def _spacing(preprocessing: Preprocessing) -> str:
    """Return the spacing of the network's input as text."""
    if (alignment := preprocessing.alignment) is not None:
        return f"{' x '.join(f'{length:g}' for length in alignment.spacing)} mm, aligned with a {alignment.subject}"
    lengths = {axis: length for axis, length in zip("ijk", preprocessing.spacing or (), strict=False) if length}
    if not lengths:
        return "that of the image"
    kept = "".join(f", along {axis} that of the image" for axis in "ijk" if axis not in lengths)
    return f"{' x '.join(f'{length:g}' for length in lengths.values())} mm ({', '.join(lengths)}){kept}"


def _outer_spacing(preprocessing: Preprocessing) -> str:
    """Return the spacing to which an image is resampled before all other steps; nothing without that."""
    outer = preprocessing.outer_resampling
    return "" if outer is None else f"{' x '.join(f'{length:.3g}' for length in outer.spacing)} mm (i, j, k)"


def _region(card: Card) -> str:
    """Return the size of the region the model was made for, and how it is found in a larger image."""
    size = f"{' x '.join(f'{mm:g}' for mm in card.roi_mm)} mm" if card.roi_mm else ""
    if card.region_from is None:
        return size
    rule = card.region_from
    return f"{size}{', ' if size else ''}found by {rule.model}, with a margin of {rule.margin_mm:g} mm"


def _resampling(card: Card) -> str:
    """Return how the image, and the network's output, are resampled."""
    if card.preprocessing.spacing is None:
        return ""
    return f"{_interpolation(card.preprocessing.resampling)}; results {_interpolation(card.inference.resampling)}"


def _interpolation(rule: Resampling) -> str:
    """Return a resampling rule in words."""
    along = "" if rule.separate_axis == "never" else f", {rule.separate_axis_interpolation} along the coarsest axis"
    return rule.interpolation + along + (" where that is anisotropic" if rule.separate_axis == "anisotropic" else "")


def _folds(card: Card) -> str:
    """Return the folds whose networks were imported."""
    folds = [str(fold) for fold in card.training.get("folds", ()) if fold is not None]
    return ", ".join(folds) + (f" (mean of {len(folds)} networks)" if len(folds) > 1 else "")


def _measured(card: Card) -> str:
    """Return what a run took."""
    if (found := card.measured) is None:
        return ""
    return (
        f"{found.seconds:g} s ({found.cold_seconds:g} s from a start) and {found.memory_mb} MB for {found.volume}, "
        f"on {found.cores} cores of {found.processor} in {found.form}"
    )


def _pin(weights: Weights) -> str:
    """Return the checksum that the file must have."""
    if weights.sha256:
        return f"SHA-256 {weights.sha256}"
    if weights.git_blob:
        return f"git blob id {weights.git_blob}"
    return "size only, until the first download" if weights.size else "no hash is known before the first download"


def _archive(weights: Weights) -> str:
    """Return what is used of an archive, and the disk that it needs until that is unpacked."""
    if weights.archive is None:
        return ""
    folds = f"fold {', '.join(weights.archive.folds)}" if weights.archive.folds else "all folds"
    needed = f"; {megabytes(ROOM * weights.size)} of the disk until it is unpacked" if weights.size else ""
    download = f"{megabytes(weights.size)} to download{needed}" if weights.size else "of unknown size"
    return f"{folds} of {weights.archive.folder or 'its one training'}, {download}"


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
        say(f"{len(downloads)} models, {megabytes(size_of(downloads))} to download")
    store.check_obtainable(needed.values(), arguments.mirror)
    for card in needed.values():
        if not arguments.quiet and card.weights.archive and WeightStore().state(card) == "available":
            say(f"{card.id}: {_archive(card.weights)}")
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
    "info": _info,
    "import": _import,
    "remove": _remove_model,
    "weights list": _list,
    "weights download": _download,
    "weights add": _add_weights,
    "weights verify": _verify,
    "weights remove": _remove,
    "weights path": _path,
}
