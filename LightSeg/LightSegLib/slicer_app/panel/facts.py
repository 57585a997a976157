"""What is known about a model, in three lines and on a page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import replace

from slicer.i18n import tr as _

from ...catalog.card import Card
from ...catalog.condensed import condensed
from ...catalog.duration import duration
from ...catalog.needed import all_models, own_models, size_of
from ...core.errors import ModelError
from ...weights.download import ROOM
from ...weights.store import WeightStore
from ..translation import translated
from .formatting import megabytes
from .listed import Listed


def shortFacts(model: Listed) -> list[str]:
    """Return three lines: what is segmented, in what, how exact and where the weights are."""
    card = model.card
    names = ", ".join(condensed(label.name for label in card.result_labels))
    channels = ", ".join(card.channels)
    taken = channels if card.modality in card.channels else f"{card.modality}, {channels}"
    if card.roi_mm:
        taken = _("{image}; a region of {size} mm").format(image=taken, size=millimeters(card.roi_mm))
    measured = accuracy(card, short=True)
    third = "; ".join(part for part in (measured, _("weights: {state}").format(state=stateText(model))) if part)
    return [
        _("Segments: {names}").format(names=names),
        _("Input: {image}").format(image=taken),
        third[:1].upper() + third[1:],
    ]


def millimeters(size: tuple[float, ...]) -> str:
    """Return lengths of a box: "35 x 50 x 40"."""
    return " x ".join(f"{side:.0f}" for side in size)


def downloadSize(cards: Iterable[Card]) -> str:
    """Return the size of a download, and of archives the disk that it needs until they are unpacked."""
    cards = tuple(cards)
    size, archives = size_of(cards), [card.weights.size or 0 for card in cards if card.weights.archive is not None]
    if not size or not archives:
        return megabytes(size)
    needed = size + (ROOM - 1) * max(archives)  # which are unpacked one after the other
    return _("{size}, and {needed} of the disk until it is unpacked").format(
        size=megabytes(size), needed=megabytes(needed)
    )


def _weights(card: Card) -> str:
    """Return the size of the weights file, and whether nothing else is known of it; empty where that is not."""
    size = megabytes(card.weights.size) if card.weights.size else ""
    if not size or card.weights.sha256 or card.weights.git_blob or not card.weights.sources:
        return size
    return _("{size} (size only: no hash is published)").format(size=size)


def storedBytes(model: str, models: Mapping[str, Listed]) -> int:
    """Return the size on disk of a downloaded or imported model, of all its parts together."""
    listed = models.get(model)
    try:
        ids = {own.id for own in own_models(listed.card, _cards(models))} if listed else {model}
    except ModelError:  # a part is not here
        ids = {model}
    size = sum(entry.size for entry in WeightStore().entries() if entry.model in ids)
    if listed is not None and listed.state == "user" and listed.card.folder is not None:
        size += sum(path.stat().st_size for path in listed.card.folder.rglob("*") if path.is_file())
    return size


def stateText(model: Listed, short: bool = False) -> str:
    """Return the state of a model's weights as text; a star marks an unverified model.

    Args:
        model: with its state.
        short: of those that can be downloaded, the size alone.
    """
    size = megabytes(model.size) if model.size else ""
    words = {
        "bundled": _("bundled"),
        "user": _("imported"),
        "downloaded": _("downloaded"),
        "available": _("{size} to download").format(size=size) if size else _("to download"),
        "manual": _("file needed"),
        "missing": _("missing"),
    }
    text = size if short and size and model.state == "available" else words[model.state]
    return _("{state} *").format(state=text) if model.unverified else text


def qualityText(model: Listed) -> str:
    """Return a model's quality, and where its weights are."""
    words = {"normal": _("normal"), "fast": _("fast"), "fastest": _("fastest")}
    return _("{quality}: {state}").format(quality=words[model.card.quality], state=stateText(model))


def details(model: Listed, models: Mapping[str, Listed]) -> str:
    """Return a model as a small page.

    Args:
        model: the one.
        models: all that there are, for those that this one needs.
    """
    card = model.card
    labels = " ".join(
        f'<span style="color: rgb{tuple(label.color)}">&#9632;</span>&nbsp;{html.escape(label.name)}'
        for label in card.result_labels
    )
    channels = f"{card.modality}: {', '.join(card.channels)}"
    parts, others = _needed(card, models)
    time = duration(card)
    rows = {
        _("Family"): html.escape(card.family),
        _("Input"): html.escape(card.modality if card.channels == (card.modality,) else channels),
        _("Parts"): _listed(parts),
        _("Finds its place with"): _listed(others),
        _("Time and memory"): html.escape(translated(time) if time is not None else ""),
        _("Accuracy"): html.escape(accuracy(card)),
        _("Weights"): html.escape(_weights(card)),
        _("Limits"): html.escape(card.limitations),
        _("* Unverified because not known") if model.unverified else _("Not known"): html.escape(
            " ".join(card.assumptions)
        ),
        _("License"): html.escape(card.license),
        _("Cite"): html.escape(card.citation),
        _("Segments"): labels,
    }
    link = f' <a href="{html.escape(card.homepage)}">{_("Homepage")}</a>' if card.homepage else ""
    body = "".join(f"<p><b>{name}:</b> {text}</p>" for name, text in rows.items() if text)
    return f"<p><b>{html.escape(card.title)}</b></p><p>{html.escape(card.description)}{link}</p>{body}"


def _needed(card: Card, models: Mapping[str, Listed]) -> tuple[list[Listed], list[Listed]]:
    """Return the parts of a model, none for one without, and the models that it needs beside its own weights."""
    cards = _cards(models)
    try:
        own = {part.id for part in own_models(card, cards)}
        needed = [models[one.id] for one in all_models(card, cards) if one.id != card.id]
    except ModelError:  # one is missing, which is reported when it is needed
        return [], []
    return [one for one in needed if one.card.id in own], [one for one in needed if one.card.id not in own]


def _listed(models: Iterable[Listed]) -> str:
    """Return models with the sizes of their own weights and where these are, as lines."""
    lines = []
    for model in models:
        own = megabytes(model.card.weights.size) if model.card.weights.size else ""
        state = stateText(replace(model, size=None))  # that of its row is of all that its download would bring
        facts = ", ".join(filter(None, (own, state)))
        lines.append(f"<br>{html.escape(model.card.title)}: {html.escape(facts)}")
    return "".join(lines)


def _cards(models: Mapping[str, Listed]) -> dict[str, Card]:
    """Return the cards of models by their ids."""
    return {name: model.card for name, model in models.items()}


def accuracy(card: Card, short: bool = False) -> str:
    """Return the measured accuracy in one line, or an empty text; short: without that of each label."""
    measured = card.performance
    if "mean_dice" in measured:
        words = _("Dice {mean:.3f} on {cases} cases")
        if "cross_validation" in measured:
            words = _("Dice {mean:.3f} by cross-validation on {cases} cases")
        stated = words.format(mean=measured["mean_dice"], cases=measured["cases"])
        parts = [
            _("{label} {dice:.2f}").format(label=name, dice=entry["dice"]["mean"])
            for name, entry in measured.get("labels", {}).items()
        ]
        return stated if short else f"{stated} ({', '.join(parts)})"
    percent = measured.get("dice_percent", measured.get("dsc_percent"))
    if percent is None:
        return ""
    mean = percent["mean"] if isinstance(percent, dict) else percent
    return _("Dice {mean:.2f} on {data}, as reported by {who}").format(
        mean=mean / 100,
        data=measured.get("data", _("unnamed data")),
        who=measured.get("reported_by", _("unnamed authors")),
    )
