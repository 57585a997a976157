"""Left and right in the labels of a model: added to those that lack it, and read from those that have it."""

from __future__ import annotations

from dataclasses import replace

from .anatomy import SIDE_CODES, split_words, with_side
from .card import Card, Label

SIDES = ("left", "right")  # in the order of their values


def side_of(label: Label) -> str | None:
    """Return "left" or "right" by the label's terms, else by its name; None for a label of neither."""
    terms = label.terminology
    codes = {code.value: side for side, code in SIDE_CODES.items()}
    for code in () if terms is None else (terms.modifier, terms.region_modifier):
        if code is not None and code.value in codes:
            return codes[code.value]
    named = [side for side in SIDES if side in split_words(label.name)]
    return named[0] if len(named) == 1 else None


def sided(label: Label, side: str | None) -> Label:
    """Return the label with its side in name and terms; unchanged without a side, or if it has one already."""
    if side is None or side_of(label) is not None:
        return label
    name = label.name[0].lower() + label.name[1:] if label.name[1:2].islower() else label.name
    terms = label.terminology and with_side(label.terminology, SIDE_CODES[side])
    return replace(label, name=f"{side.capitalize()} {name}", terminology=terms)


def value_shift(card: Card, side: str | None) -> int:
    """Return what is added to the value of a label where its side is known, so that no value means two things."""
    return 0 if side is None else (card.classes - 1) * (1 + SIDES.index(side))


def labels_of_sides(card: Card) -> tuple[Label, ...]:
    """Return the labels of a result whose sides were found, the left ones first."""
    return tuple(
        replace(sided(label, side), value=label.value + value_shift(card, side))
        for side in SIDES
        for label in card.result_labels
    )


def right_step(card: Card) -> int:
    """Return what is added to the value of a label of both sides for its right side; the left one keeps it."""
    return next(step for step in (100, 1000, 10_000) if step >= card.classes)


def split_labels(card: Card) -> tuple[Label, ...]:
    """Return the labels of a result in which the card's paired labels were split, each followed by its right side."""
    labels: list[Label] = []
    for label in card.result_labels:
        if label.value in card.inference.paired:
            right = replace(sided(label, "right"), value=label.value + right_step(card))
            labels += [sided(label, "left"), right]
        else:
            labels.append(label)
    return tuple(labels)


def base_value(card: Card, value: int) -> int:
    """Return the value that a label has in the card, whichever side was added to it."""
    own = {label.value for label in card.labels}
    shifts = [right_step(card)] if card.inference.paired else []
    if card.region_from is not None and card.region_from.by_side:
        shifts += [value_shift(card, side) for side in SIDES]
    return next((base for shift in (0, *shifts) if (base := value - shift) in own), value)


def possible_labels(card: Card) -> tuple[Label, ...]:
    """Return all labels that results of the model may have: its own, and where it finds its places by side, those."""
    by_side = card.region_from is not None and card.region_from.by_side
    split = tuple(label for label in split_labels(card) if label not in card.labels)
    return card.result_labels + split + (labels_of_sides(card) if by_side else ())
