"""What of many models a list offers: each task once, in several qualities, and no model that is but a part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .card import Card

QUALITIES = ("normal", "fast", "fastest")  # the best first


def without_parts(cards: Sequence[Card]) -> list[Card]:
    """Return the models without those that are parts of others among them."""
    parts = {part.model for card in cards for part in card.parts}
    return [card for card in cards if card.id not in parts]


def by_task(cards: Iterable[Card]) -> list[tuple[Card, ...]]:
    """Return the models, those of one family and task together with the best first; the tasks keep their order."""
    tasks: dict[tuple[str, str], list[Card]] = {}
    for card in cards:
        tasks.setdefault((card.family, card.task) if card.family and card.task else ("", card.id), []).append(card)
    return [tuple(sorted(own, key=lambda card: QUALITIES.index(card.quality))) for own in tasks.values()]


def proposed(task: Sequence[Card], gpu: bool) -> Card:
    """Return the model of a task to propose: the best one, but without a GPU the fast one where there is one.

    Args:
        task: its models, as `by_task` gives them.
        gpu: whether the computer has a GPU (see `core.system.may_have_gpu`).
    """
    fast = (card for card in task if card.quality == "fast" and not gpu)
    return next(fast, task[0])
