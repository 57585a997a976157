"""What the weights that a training starts from were trained on: the runs before it, by their model cards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..catalog.card import Card
from ..catalog.card_file import read_card
from ..catalog.lookup import CARD_NAME, all_cards

EARLIER = "earlier_runs"  # in the training facts of a card: those of the runs before, the first one first
IMAGES = "images"


def card_of(weights: Path, digest: str) -> Card | None:
    """Return the card of the model that a weights file is of; None where neither it nor the catalog has one.

    Args:
        weights: the file, beside which its card may be; after the file was replaced, this is the card of another one.
        digest: its SHA-256, by which a card of the catalog is found, too.
    """
    beside = weights.with_name(CARD_NAME)
    cards = ([read_card(beside)] if beside.is_file() else []) + all_cards()
    return next((one for one in cards if one.weights.sha256 == digest), None)


def earlier_runs(weights: Path, digest: str) -> list[dict[str, Any]]:
    """Return the facts of all runs that led to a weights file, the first one first; none where no card states them.

    Args:
        weights: the file, as `card_of` takes it.
        digest: its SHA-256.
    """
    card = card_of(weights, digest)
    if card is None or not card.training:
        return []
    *before, last = runs_of(card.training)
    return [*before, last | {"weights_sha256": digest}]


def runs_of(training: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs that the training facts of a card state: those before, and the one that ended in its weights."""
    before = training.get(EARLIER)
    own = {name: value for name, value in training.items() if name != EARLIER}
    return [*(run for run in (before if isinstance(before, list) else []) if isinstance(run, dict)), own]


def seen(earlier: Iterable[dict[str, Any]], name: str, validation: Iterable[str]) -> list[str]:
    """Return what a training sets aside for validation although a run that led to its first weights has seen it.

    Args:
        earlier: the facts of these runs.
        name: of the training fact that lists what a run was trained on.
        validation: what is set aside.
    """
    lists = [run.get(name) for run in earlier]
    known = {str(one) for listed in lists if isinstance(listed, list) for one in listed}
    return sorted(known & set(validation))


def with_earlier(training: dict[str, Any], initial_sha256: str, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the training facts of a run with those of the runs before it, and the images of all of them together."""
    if not initial_sha256:
        return training
    facts = {"initial_weights_sha256": initial_sha256, **training}
    if earlier:
        if (images := images_of([*earlier, training])) is not None:
            facts["images_of_all_runs"] = images
        facts[EARLIER] = earlier
    return facts


def images_of(runs: Iterable[dict[str, Any]]) -> int | None:
    """Return the number of images of all these runs; None where one of them does not state its own."""
    counts = [run.get(IMAGES) for run in runs]
    known = [count for count in counts if isinstance(count, int)]
    return sum(known) if len(known) == len(counts) else None
