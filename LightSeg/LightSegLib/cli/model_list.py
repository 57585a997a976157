"""The command `lightseg models`: all models, or those that fit, grouped by family."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping, Sequence

from ..catalog.anatomy import split_words
from ..catalog.card import Card, Weights
from ..catalog.families import NotOffered, not_offered
from ..catalog.lookup import all_cards, bad_cards
from ..catalog.offers import without_parts
from ..catalog.search import closest_words, found_structures, is_for, search, search_not_offered
from ..core.errors import InputError
from ..core.i18n import joined
from ..core.i18n import tr as _
from ..weights.store import WeightStore
from ..weights.verified import is_unverified, was_verified_here
from .printing import WIDTH, megabytes, say, table

OWN = "Models of no family"
SHOWN = 3  # structures of a model that a search has found
FOOTNOTE = "* unverified: see 'lightseg info MODEL'; 'lightseg verify MODEL' checks the model on this computer."


def list_models(arguments: argparse.Namespace) -> None:
    """Run `lightseg models`."""
    words = [*arguments.words, *arguments.search]
    everything = all_cards()
    cards = search(_of_family(everything, arguments.family), words)
    cards = [card for card in cards if not arguments.modality or is_for(card, arguments.modality)]
    filtered = bool(words or arguments.family or arguments.modality)
    bad = {} if filtered else bad_cards()
    others = _not_offered(words, arguments)
    if not cards and not bad:
        raise _nothing_fits(others, closest_words(everything, words))
    store, known = WeightStore(), {card.id: card for card in everything}
    if arguments.json:
        rows = [_summary(card, store, known) for card in cards]
        rows += [{"id": name, "state": "bad", "reason": reason} for name, reason in bad.items()]
        say(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    shown = cards if arguments.all else without_parts(cards)
    say(_grouped(shown, store, known, words))
    for name, reason in bad.items():
        say(f"{name} cannot be used: {reason}")
    if any(is_unverified(card) for card in shown):
        say(FOOTNOTE)
    if hidden := len(cards) - len(shown):
        say(f"Parts of the models above, not shown: {hidden}; --all lists them, too.")
    for sentence in _reasons(others):
        say(textwrap.fill(f"Not offered: {sentence}", WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _of_family(cards: Sequence[Card], family: str) -> list[Card]:
    """Return the models of a family, in whatever spelling; all of them without one.

    Raises:
        InputError: for one that does not exist.
    """
    families = {card.family for card in cards if card.family}
    named = {name for name in families if _same(name, family)}
    if family and not named:
        raise InputError(
            _("There is no family '{family}'. Choose one of: {families}.").format(
                family=family, families=", ".join(sorted(families))
            )
        )
    return [card for card in cards if not family or card.family in named]


def _same(name: str, other: str) -> bool:
    """Return whether two texts have the same letters and digits."""
    return "".join(split_words(name)) == "".join(split_words(other))


def _not_offered(words: Sequence[str], arguments: argparse.Namespace) -> list[NotOffered]:
    """Return what the families have but LightSeg does not, as far as a user looks for it."""
    found = search_not_offered(words) if words else not_offered() if arguments.family else ()
    return [
        model
        for model in found
        if arguments.modality in ("", model.modality.casefold())
        and (not arguments.family or _same(model.family, arguments.family))
    ]


def _nothing_fits(others: Sequence[NotOffered], closest: Mapping[str, str]) -> InputError:
    """Return the error for a search that found no model."""
    if others:
        return InputError(
            _("No model fits. Not offered: {models} Use other words; 'lightseg models' lists all models.").format(
                models=joined(" ", _reasons(others))
            )
        )
    if closest:
        return InputError(
            _("No model fits. Did you mean {words}? 'lightseg models' lists all models.").format(
                words=", ".join(
                    _("'{closest}' for '{word}'").format(closest=near, word=word) for word, near in closest.items()
                )
            )
        )
    return InputError(_("No model fits. Use fewer or other words; 'lightseg models' lists all models."))


def _reasons(models: Sequence[NotOffered]) -> list[str]:
    """Return which models are not offered, and why, those with the same reason together."""
    names: dict[tuple[str, str], list[str]] = {}
    for model in models:
        names.setdefault((model.family, model.reason), []).append(model.name)
    return [f"{', '.join(own)} ({family}). {reason}" for (family, reason), own in names.items()]


def _grouped(cards: Sequence[Card], store: WeightStore, known: dict[str, Card], words: Sequence[str]) -> str:
    """Return a table with a heading for each family, the families in the order of their first model."""
    groups: dict[str, list[Card]] = {}
    for card in cards:
        groups.setdefault(card.family, []).append(card)
    lines = table(
        [
            ("  ID", "MODALITY", "DOWNLOAD", "STATE", "TIME", "TITLE"),
            *(_row(card, store, known, words) for own in groups.values() for card in own),
        ]
    ).splitlines()
    texts = [lines.pop(0)]
    for family, own in groups.items():
        texts += [f"{family or OWN} ({len(own)})", *lines[: len(own)]]
        del lines[: len(own)]
    return "\n".join(texts)


def _row(card: Card, store: WeightStore, known: dict[str, Card], words: Sequence[str]) -> tuple[str, ...]:
    """Return a model's line of the table."""
    state = store.state(card, known)
    size = None if state in ("bundled", "user") else store.listed_size(card, known)
    found = found_structures(card, words)
    more = f", {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    title = card.title + (f": {', '.join(found[:SHOWN])}{more}" if found else "")
    star = " *" if is_unverified(card) else ""
    return f"  {card.id}", card.modality, megabytes(size) if size else "", state + star, _time(card), title


def _time(card: Card) -> str:
    """Return how long a run takes where it was measured, or else where its authors state it."""
    if card.measured is not None:
        return f"{card.measured.seconds:.0f} s"
    seconds = card.performance.get("published", {}).get("seconds")
    return f"~{seconds / 60:.0f} min" if isinstance(seconds, int | float) else ""


def _summary(card: Card, store: WeightStore, known: dict[str, Card]) -> dict[str, object]:
    """Return the facts about a model that programs may want of a list."""
    return {
        "id": card.id,
        "title": card.title,
        "family": card.family,
        "task": card.task,
        "quality": card.quality,
        "modality": card.modality,
        "state": store.state(card, known),
        "unverified": card.unverified,
        "verified_here": was_verified_here(card),
        "was_run": card.was_run,
        "seconds": None if card.measured is None else card.measured.seconds,
        "memory_mb": None if card.measured is None else card.measured.memory_mb,
        "size": store.listed_size(card, known),
        "checked_by": _checked_by(card.weights),
        "parts": [part.model for part in card.parts],
        "labels": [label.name for label in card.result_labels],
    }


def _checked_by(weights: Weights) -> str:
    """Return what a first download is compared with."""
    if weights.parts or weights.sha256:
        return "sha256"
    return "git_blob" if weights.git_blob else "size" if weights.size else ""
