"""What is known about a model, in three lines and on a page."""

from __future__ import annotations

import html

from slicer.i18n import tr as _

from ...catalog.card import Card
from ...weights.download import ROOM
from ...weights.store import State, WeightStore
from .formatting import megabytes


def shortFacts(card: Card, state: State) -> list[str]:
    """Return three lines: what is segmented, in what, how exact and where the weights are."""
    names = ", ".join(label.name for label in card.result_labels)
    channels = ", ".join(card.channels)
    taken = channels if card.modality in card.channels else f"{card.modality}, {channels}"
    if card.roi_mm:
        taken = _("{image}; a region of {size} mm").format(image=taken, size=millimeters(card.roi_mm))
    measured = accuracy(card, short=True)
    third = "; ".join(part for part in (measured, _("weights: {state}").format(state=stateText(card, state))) if part)
    return [
        _("Segments: {names}").format(names=names),
        _("Input: {image}").format(image=taken),
        third[:1].upper() + third[1:],
    ]


def millimeters(size: tuple[float, ...]) -> str:
    """Return lengths of a box: "35 x 50 x 40"."""
    return " x ".join(f"{side:.0f}" for side in size)


def downloadSize(card: Card) -> str:
    """Return the size of a download, and of an archive the disk that it needs until it is unpacked."""
    size = card.weights.size
    if card.weights.archive is None or not size:
        return megabytes(size)
    return _("{size}, and {needed} of the disk until it is unpacked").format(
        size=megabytes(size), needed=megabytes(ROOM * size)
    )


def _weights(card: Card) -> str:
    """Return the size of the weights file, and whether nothing else is known of it; empty where that is not."""
    size = megabytes(card.weights.size) if card.weights.size else ""
    if not size or card.weights.sha256 or card.weights.git_blob or not card.weights.sources:
        return size
    return _("{size} (size only: no hash is published)").format(size=size)


def storedBytes(model: str, card: Card | None) -> int:
    """Return the size on disk of a downloaded or imported model."""
    size = sum(entry.size for entry in WeightStore().entries() if entry.model == model)
    if card is not None and WeightStore().state(card) == "user" and card.folder is not None:
        size += sum(path.stat().st_size for path in card.folder.rglob("*") if path.is_file())
    return size


def stateText(card: Card, state: State) -> str:
    """Return the state of a card's weights as text; a star marks an unverified model."""
    words = {
        "bundled": _("bundled"),
        "user": _("imported"),
        "downloaded": _("downloaded"),
        "available": _("{size} to download").format(size=megabytes(card.weights.size))
        if card.weights.size
        else _("to download"),
        "manual": _("file needed"),
        "missing": _("missing"),
    }
    return _("{state} *").format(state=words[state]) if card.unverified else words[state]


def details(card: Card) -> str:
    """Return a model as a small page."""
    labels = " ".join(
        f'<span style="color: rgb{tuple(label.color)}">&#9632;</span>&nbsp;{html.escape(label.name)}'
        for label in card.result_labels
    )
    channels = f"{card.modality}: {', '.join(card.channels)}"
    rows = {
        _("Segments"): labels,
        _("Input"): html.escape(card.modality if card.channels == (card.modality,) else channels),
        _("Accuracy"): html.escape(accuracy(card)),
        _("Weights"): html.escape(_weights(card)),
        _("Limits"): html.escape(card.limitations),
        _("* Unverified because not known"): html.escape(" ".join(card.assumptions)),
        _("License"): html.escape(card.license),
        _("Cite"): html.escape(card.citation),
    }
    link = f' <a href="{html.escape(card.homepage)}">{_("Homepage")}</a>' if card.homepage else ""
    body = "".join(f"<p><b>{name}:</b> {text}</p>" for name, text in rows.items() if text)
    return f"<p><b>{html.escape(card.title)}</b></p><p>{html.escape(card.description)}{link}</p>{body}"


def accuracy(card: Card, short: bool = False) -> str:
    """Return the measured accuracy in one line, or an empty text; short: without that of each label."""
    measured = card.performance
    if "mean_dice" in measured:
        mean, cases = measured["mean_dice"], measured["cases"]
        if short:
            return _("Dice {mean:.2f} on {cases} cases").format(mean=mean, cases=cases)
        parts = [
            _("{label} {dice:.2f}").format(label=name, dice=entry["dice"]["mean"])
            for name, entry in measured.get("labels", {}).items()
        ]
        return _("Dice {mean:.2f} on {cases} cases ({parts})").format(mean=mean, cases=cases, parts=", ".join(parts))
    percent = measured.get("dice_percent", measured.get("dsc_percent"))
    if percent is None:
        return ""
    mean = percent["mean"] if isinstance(percent, dict) else percent
    return _("Dice {mean:.2f} on {data}, as reported by {who}").format(
        mean=mean / 100,
        data=measured.get("data", _("unnamed data")),
        who=measured.get("reported_by", _("unnamed authors")),
    )
