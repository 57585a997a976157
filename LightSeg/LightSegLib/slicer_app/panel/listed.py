"""The models as the window shows them: each with what of it is on this computer."""

from __future__ import annotations

from dataclasses import dataclass

from ...catalog.card import Card
from ...catalog.lookup import all_cards
from ...catalog.needed import own_size
from ...weights.store import State, WeightStore
from ...weights.verified import is_unverified


@dataclass(frozen=True)
class Listed:
    """A model, and what of it is on this computer.

    Attributes:
        state: where its weights are; of a model with parts, the state of the one that needs the most.
        size: bytes of its weights, of all its parts together; None where that is not known.
        unverified: whether it is to be marked as such.
    """

    card: Card
    state: State
    size: int | None
    unverified: bool


def listedModels() -> dict[str, Listed]:
    """Return all models by id, as they are now."""
    store, cards = WeightStore(), {card.id: card for card in all_cards()}
    return {
        card.id: Listed(card, store.state(card, cards), own_size(card, cards), is_unverified(card))
        for card in cards.values()
    }
