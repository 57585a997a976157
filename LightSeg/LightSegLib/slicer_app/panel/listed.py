"""The models as the window shows them: each with what of it is on this computer."""

from __future__ import annotations

from dataclasses import dataclass

from ...catalog.card import Card
from ...catalog.lookup import all_cards
from ...catalog.needed import Cards
from ...weights.store import State, WeightStore
from ...weights.verified import is_unverified


@dataclass(frozen=True)
class Listed:
    """A model, and what of it is on this computer.

    Attributes:
        state: where its weights are; of a model with parts, the state of the one that needs the most.
        size: bytes, see `WeightStore.listed_size`; None where that is not known.
        unverified: whether it is to be marked as such.
    """

    card: Card
    state: State
    size: int | None
    unverified: bool


def listedModels() -> dict[str, Listed]:
    """Return all models by id, as they are now."""
    store, cards = WeightStore(), {card.id: card for card in all_cards()}
    return {model: _listed(card, store, cards) for model, card in cards.items()}


def _listed(card: Card, store: WeightStore, cards: Cards) -> Listed:
    """Return a model with its state and size."""
    return Listed(card, store.state(card, cards), store.listed_size(card, cards), is_unverified(card))
