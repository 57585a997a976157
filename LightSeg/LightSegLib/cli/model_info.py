"""The command `lightseg info`: what is known of a model, in groups."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from ..catalog.card import Card, Preprocessing, Resampling, Weights
from ..catalog.card_file import card_to_dict
from ..catalog.condensed import condensed
from ..catalog.lookup import find_card
from ..catalog.needed import all_models, own_models, own_size
from ..catalog.sides import possible_labels
from ..core.errors import ModelError
from ..core.plain_text import public_address
from ..weights.download import ROOM
from ..weights.sources import origin
from ..weights.store import WeightStore
from ..weights.verified import is_unverified
from .printing import WIDTH, megabytes, say, table, wrapped

MOST_LABELS = 24  # that are listed with their values among other facts
MOST_MEASURED = 8  # structures whose measured values are listed


def _state(card: Card, store: WeightStore) -> str:
    """Return the state of a card's weights, and whether the model is unverified."""
    return store.state(card) + (", unverified" if is_unverified(card) else "")


def describe_model(arguments: argparse.Namespace) -> None:
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
    say(card.title)
    groups = [{name: text for name, text in group.items() if text} for group in _facts(card)]
    column = max(len(name) for group in groups for name in group)
    say("\n\n".join(wrapped(group, column) for group in groups if group))
    if card.assumptions:
        say(f"\n{'Unverified' if is_unverified(card) else 'Verified on this computer'}: not known about this model")
        say(
            "\n".join(
                textwrap.fill(sentence, WIDTH, initial_indent="  - ", subsequent_indent="    ")
                for sentence in card.assumptions
            )
        )
    if card.training:
        say("\n".join(["\n  Training:", *_lines(card.training)]))
    if card.performance:
        say("\n".join(["\n  Performance:", *_measurements(card.performance)]))


def _facts(card: Card) -> Iterator[dict[str, str]]:
    """Yield what is known of a model by name, in groups: of what it does, takes and gives, how, and whose it is."""
    weights = card.weights
    yield {
        "Id": card.id,
        "Version": card.version,
        "State": _state(card, WeightStore()),
        "Family": card.family,
        "Description": card.description,
        "Limitations": card.limitations,
    }
    yield {
        "Modality": card.modality,
        "Input": ", ".join(card.channels),
        "Region": _region(card),
        "Labels": _labels(card),
        "Totals": ", ".join(total.name for total in card.totals),
    }
    yield {
        "Resampled to": _outer_spacing(card.preprocessing),
        "Spacing": _spacing(card.preprocessing) if card.network else "",
        "Resampling": _resampling(card),
        "Patch": f"{' x '.join(map(str, card.inference.patch_size))} voxels (k, j, i)" if card.network else "",
        "Network": card.network,
        "Folds": _folds(card),
        "Measured": _measured(card),
    }
    yield {
        "Weights": f"{weights.file}, {megabytes(weights.size)}, {_pin(weights)}" if not card.parts else "",
        "Parts": _parts(card),
        "Needs": _others(card),
        "Archive": archive_facts(weights),
        "Sources": ", ".join(map(origin, weights.sources)),
    }
    yield {"Homepage": card.homepage, "License": card.license, "Citation": card.citation}


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
            yield _filled(title, text, indent)


def _measurements(facts: Mapping[str, Any], indent: str = "    ") -> Iterator[str]:
    """Yield measured values, the innermost on one line; of very many, such as of each structure, how many they are."""
    for name, value in facts.items():
        title, inner = f"{indent}{name.replace('_', ' ')}:", value if isinstance(value, Mapping) else {}
        if not any(isinstance(one, Mapping) for one in inner.values()):
            text = ", ".join(f"{key.replace('_', ' ')} {one}" for key, one in inner.items())
            yield _filled(title, text or str(value), indent)
        elif len(inner) > MOST_MEASURED:
            yield f"{title} {len(inner)} (--json lists them)"
        else:
            yield title
            yield from _measurements(inner, indent + "  ")


def _filled(title: str, text: str, indent: str) -> str:
    """Return a title and a text of any length, with the lines after the first one further in."""
    return textwrap.fill(
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


def archive_facts(weights: Weights) -> str:
    """Return what is used of an archive, and the disk that it needs until that is unpacked."""
    if weights.archive is None:
        return ""
    folds = f"fold {', '.join(weights.archive.folds)}" if weights.archive.folds else "all folds"
    needed = f"; {megabytes(ROOM * weights.size)} of the disk until it is unpacked" if weights.size else ""
    download = f"{megabytes(weights.size)} to download{needed}" if weights.size else "of unknown size"
    return f"{folds} of {weights.archive.folder or 'its one training'}, {download}"
