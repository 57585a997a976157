"""Cards found by the words of a user."""

from __future__ import annotations

import difflib
import functools
import itertools
from collections.abc import Sequence

from .anatomy import singulars, split_words
from .card import Card, Label
from .families import NotOffered, not_offered

OF_ALL = {"segmentation", "segment", "model", "models"}  # words that do not distinguish models


def search(cards: Sequence[Card], words: str | Sequence[str]) -> list[Card]:
    """Return the cards that fit all words, or beginnings of words, best first; all of them without words.

    Looked for in title, structures, modality, channels, id, family, task and description, whatever the case, accents
    and spelling.
    """
    wanted = _wanted(words)
    ranked = [(rank, card) for card in cards if (rank := _rank(_texts(card), wanted)) is not None]
    return [card for _, card in sorted(ranked, key=lambda entry: entry[0])]


def is_for(card: Card, modality: str) -> bool:
    """Return whether a model is for images of a modality, or its title names that modality, too."""
    return modality.casefold() == card.modality.casefold() or modality.casefold() in split_words(card.title)


def found_structures(card: Card, words: str | Sequence[str]) -> list[str]:
    """Return the names of a model's structures in which most of the words are found, where not all of them are."""
    wanted = _wanted(words)
    found = {}
    for label in card.result_labels:
        texts = (label.name, label.original or "", _meaning(label))
        found[label.name] = sum(any(_begins(text, word) for text in texts) for word in wanted)
    most = max(found.values(), default=0)
    names = [name for name, count in found.items() if count == most > 0]
    return names if len(names) < len(found) else []


def closest_words(cards: Sequence[Card], words: str | Sequence[str]) -> dict[str, str]:
    """Return those words that no card has, each with the word of the cards' texts that is spelled most like it."""
    known = {word for card in cards for part in _texts(card) for text in part for word in split_words(text)}
    unknown = [word for word in _wanted(words) if all(_rank(_texts(card), [word]) is None for card in cards)]
    near = {word: difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.8) for word in unknown}
    return {word: found[0] for word, found in near.items() if found}


def search_not_offered(words: str | Sequence[str]) -> list[NotOffered]:
    """Return what the families have but LightSeg does not, where it fits all words; nothing without words."""
    wanted = _wanted(words)
    return [
        model
        for model in not_offered()
        if wanted and _rank([(model.name, model.family, model.modality, *model.structures)], wanted) is not None
    ]


def _wanted(words: str | Sequence[str]) -> list[str]:
    """Return the words that a user looks for."""
    found = split_words(words if isinstance(words, str) else " ".join(words))
    return [word for word in found if word not in OF_ALL] or found


def _texts(card: Card) -> list[tuple[str, ...]]:
    """Return the texts of a card, the most specific first."""
    structures = tuple(
        text for label in card.result_labels for text in (label.name, label.original or "", _meaning(label))
    )
    image = (card.modality, *card.channels)
    return [(card.title,), structures, image, (card.id, card.family, card.task), (card.description,)]


def _rank(texts: Sequence[tuple[str, ...]], wanted: Sequence[str]) -> int | None:
    """Return how far down the texts the words are found; None if one is not."""
    ranks = []
    for word in wanted:
        found = (n for n, part in enumerate(texts) if any(_begins(text, word) for text in part))
        rank = next(found, None)
        if rank is None:
            return None
        ranks.append(rank)
    return sum(ranks)


def _begins(text: str, word: str) -> bool:
    """Return whether a word of the text begins with this one, or is its singular or its plural."""
    plain = _plain(text)
    return f" {word}" in plain or any(f" {form} " in plain for form in singulars(word))


@functools.lru_cache(maxsize=20_000)
def _plain(text: str) -> str:
    """Return the words of a text, what their singulars may be, and two written as one ("brainstem"), between spaces.

    Models of a family have most of their texts in common.
    """
    words = split_words(text)
    forms = [form for word in words for form in (word, *singulars(word))]
    return "".join(f" {form} " for form in (*forms, *map("".join, itertools.pairwise(words))))


def _meaning(label: Label) -> str:
    """Return the meaning of a label's terminology type, or nothing."""
    return label.terminology.type.meaning if label.terminology else ""
