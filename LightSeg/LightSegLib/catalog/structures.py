"""The structures that a user wants of a model: labels by their names, or by their values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..core.errors import InputError
from ..core.i18n import tr as _
from .card import Card, Label
from .sides import base_value, possible_labels


def chosen_labels(card: Card, structures: Iterable[str]) -> tuple[Label, ...]:
    """Return the labels that a user's words name, of all that results of the model may have.

    Args:
        card: of the model.
        structures: names as LightSeg or the authors have them, in upper or lower case, or values; none for all.

    Raises:
        InputError: for a word that names none; it lists the closest names.
    """
    labels = possible_labels(card)
    wanted = tuple(structures)
    if not wanted:
        return labels
    by_word: dict[str, Label] = {}
    for label in labels:  # the first of a word has it: the model's own, before those of a side
        for word in (label.name, label.original or label.name, str(label.value)):
            by_word.setdefault(word.casefold(), label)
    for word in wanted:
        if word.casefold() not in by_word:
            names = {label.name.casefold(): label.name for label in labels}
            names |= {label.original.casefold(): label.original for label in labels if label.original}
            closest = difflib.get_close_matches(word.casefold(), names, n=3, cutoff=0.3) or list(names)[:3]
            raise InputError(
                _(
                    "The model '{title}' has no structure '{word}'. Choose one of the closest names ({closest}), "
                    "or see all with 'lightseg info {model}'."
                ).format(title=card.title, word=word, closest=", ".join(names[one] for one in closest), model=card.id)
            )
    return tuple(dict.fromkeys(by_word[word.casefold()] for word in wanted))


def base_values(card: Card, structures: Iterable[str]) -> set[int]:
    """Return the values, in the model's own labels, of the structures that a user wants; of all, if none are named."""
    return {base_value(card, label.value) for label in chosen_labels(card, structures)}


def wanted_labels(card: Card, labels: Iterable[Label], structures: Iterable[str]) -> tuple[Label, ...]:
    """Return those labels of a result that a user wants: all sides of what has none in the user's words.

    Args:
        card: of the model.
        labels: of the result, of whose side some may not be known.
        structures: see `chosen_labels`.

    Raises:
        InputError: for structures that the model does not have.
    """
    chosen = chosen_labels(card, structures)

    def is_wanted(label: Label) -> bool:
        base = base_value(card, label.value)
        return any(
            one.name == label.name
            or (one in card.labels and one.value == base)  # of any side
            or (label in card.labels and base_value(card, one.value) == base)  # its side is not known
            for one in chosen
        )

    return tuple(label for label in labels if is_wanted(label))
