"""The structures that a user wants of a model: labels by their names, or by their values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..core.errors import InputError
from ..core.i18n import tr as _
from .anatomy import singulars, structure_key
from .card import Card, Label
from .sides import SIDES, base_value, possible_labels, side_of


def chosen_labels(card: Card, structures: Iterable[str]) -> tuple[Label, ...]:
    """Return the labels that a user's words name, of all that results of the model may have.

    Args:
        card: of the model.
        structures: names as LightSeg or the authors have them, in upper or lower case, or values; of paired ones also
            the name without a side, and those of totals; none for all.

    Raises:
        InputError: for a word that names none; it lists the closest names.
    """
    labels = possible_labels(card)
    wanted = tuple(structures)
    if not wanted:
        return labels
    by_word: dict[str, tuple[Label, ...]] = {}
    for label in labels:  # the first of a word has it: the model's own, before those of a side
        for word in (label.name, label.original or label.name, str(label.value)):
            by_word.setdefault(word.casefold(), (label,))
    for total in card.totals:
        by_word.setdefault(total.name.casefold(), tuple(label for label in labels if label.value in total.labels))
    chosen: list[Label] = []
    for word in wanted:
        found = by_word.get(word.casefold()) or _both_sides(labels, word)
        if not found:
            names = [name for label in labels for name in (label.name, label.original) if name]
            names += [total.name for total in card.totals]
            raise InputError(
                _(
                    "The model '{title}' has no structure '{word}'. Choose one of the closest names ({closest}), "
                    "or see all with 'lightseg info {model} --labels'."
                ).format(title=card.title, word=word, closest=", ".join(closest_names(word, names)), model=card.id)
            )
        chosen += found
    return tuple(dict.fromkeys(chosen))


def closest_names(word: str, names: Iterable[str]) -> list[str]:
    """Return up to three names that are spelled most like a word; the first ones where none is like it."""
    by_word = {name.casefold(): name for name in names}
    closest = difflib.get_close_matches(word.casefold(), by_word, n=3, cutoff=0.3) or list(by_word)[:3]
    return [by_word[one] for one in closest]


def _both_sides(labels: Iterable[Label], word: str) -> tuple[Label, ...]:
    """Return the left and right labels of the structure that a word names without a side; none without both."""
    keys = {structure_key(f"{side} {one}") for one in (word, *singulars(word.casefold())) for side in SIDES}
    found = tuple(label for label in labels if structure_key(label.name) in keys)
    return found if {side_of(label) for label in found} == set(SIDES) else ()


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
