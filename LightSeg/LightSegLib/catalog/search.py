"""Cards found by the words of a user."""

from __future__ import annotations

from collections.abc import Sequence

from .anatomy import split_words
from .card import Card, Label

OF_ALL = {"segmentation", "segment", "model", "models"}  # words that do not distinguish models


def search(cards: Sequence[Card], words: str | Sequence[str]) -> list[Card]:
    """Return the cards that fit all words, or beginnings of words, best first; all of them without words.

    Looked for in title, structures, modality, channels, id and description, whatever the case, accents and spelling.
    """
    found_words = split_words(words if isinstance(words, str) else " ".join(words))
    wanted = [word for word in found_words if word not in OF_ALL] or found_words
    ranked = [(rank, card) for card in cards if (rank := _rank(card, wanted)) is not None]
    return [card for _, card in sorted(ranked, key=lambda entry: entry[0])]


def _rank(card: Card, wanted: Sequence[str]) -> int | None:
    """Return how far down the texts of a card, the most specific first, the words are found; None if one is not."""
    structures = [name for label in card.labels for name in (label.name, _meaning(label))]
    texts = (card.title, " ".join(structures), f"{card.modality} {' '.join(card.channels)}", card.id, card.description)
    parts = [split_words(text) for text in texts]
    ranks = []
    for word in wanted:
        found = [n for n, part in enumerate(parts) if any(entry.startswith(word) for entry in part)]
        if not found:
            return None
        ranks.append(found[0])
    return sum(ranks)


def _meaning(label: Label) -> str:
    """Return the meaning of a label's terminology type, or nothing."""
    return label.terminology.type.meaning if label.terminology else ""
