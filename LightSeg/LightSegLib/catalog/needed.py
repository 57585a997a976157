"""Which other models a model needs: the one that finds its place, and the parts that it consists of.

Each may need others in turn; in a circle they may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..core.errors import ModelError, UnknownModelError
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from .card import Card, ModelPart, RegionFrom
from .lookup import all_cards, card_of
from .sides import labels_of_sides
from .structures import base_values

Cards = Mapping[str, Card]  # all that there are, by id; saves reading them for each model of a list


def place_rule(card: Card, structures: Iterable[str] = (), cards: Cards | None = None) -> RegionFrom | None:
    """Return how a model finds its place; None where it looks everywhere, or the user must show it.

    Args:
        card: of the model.
        structures: that the user chose (see `structures`), whose place a rough model shows if it has all of them.
        cards: all that there are.

    Raises:
        ModelError: if the rough model is not here.
        InputError: for structures that the model does not have.
    """
    rough, structures = card.rough, tuple(structures)
    if rough is None or not structures:
        return card.region_from
    shown = {label.name: label.value for label in _finder(card, rough.model, cards).labels}
    wanted = base_values(card, structures)
    names = [label.name for label in card.labels if label.value in wanted]
    if not shown.keys() >= set(names):
        return None
    values = tuple(sorted(shown[name] for name in names))
    return RegionFrom(rough.model, values, rough.margin_mm, whole_numbers=rough.whole_numbers)


def finder_of(card: Card, structures: Iterable[str] = (), cards: Cards | None = None) -> Card | None:
    """Return the card of the model that finds this one's place; None for a card without one.

    Raises:
        ModelError: if that model is not here, or cannot find a place.
        InputError: for structures that the model does not have.
    """
    rule = place_rule(card, structures, cards)
    if rule is None:
        return None
    _check_no_circle(card, cards)
    finder = _finder(card, rule.model, cards)
    if missing := sorted(set(rule.labels) - {label.value for label in finder.labels}):
        raise ModelError(
            _(
                "The model '{title}' locates its structure with label {value} of the model '{finder}', "
                "which does not have this label. Correct region_from in its card, "
                "or set a region of interest around the structure."
            ).format(title=card.title, value=missing[0], finder=rule.model)
        )
    if finder.region_from is None and finder.roi_mm is not None:
        raise ModelError(
            _(
                "The model '{title}' locates its structure with the model '{finder}', "
                "which needs a region of interest itself. Correct region_from in its card, "
                "or set a region of interest around the structure."
            ).format(title=card.title, finder=rule.model)
        )
    return finder


def parts_of(
    card: Card, structures: Iterable[str] = (), cards: Cards | None = None
) -> tuple[tuple[ModelPart, Card], ...]:
    """Return the parts of a model with their cards, in their order.

    Args:
        card: of the model.
        structures: that the user chose; only the parts that have one of them are given then.
        cards: all that there are.

    Raises:
        ModelError: if a part is not here, or does not fit.
        InputError: for structures that the model does not have.
    """
    if not card.parts:
        return ()
    _check_no_circle(card, cards)
    structures = tuple(structures)
    wanted = _with_steps(card, base_values(card, structures))
    found = []
    for part in card.parts:
        if structures and wanted.isdisjoint(part.labels):
            continue
        try:
            own = _card(part.model, cards)
        except UnknownModelError as error:
            raise ModelError(
                _(
                    "The model '{title}' consists of several models, of which '{part}' is not on this computer. "
                    "Import that model."
                ).format(title=card.title, part=part.model)
            ) from error
        check_part(card, part, own)
        found.append((part, own))
    return tuple(found)


def _with_steps(card: Card, wanted: set[int]) -> set[int]:
    """Return values that are wanted with those that the steps after the network look at to decide on them."""
    seen = set(wanted)
    for step in reversed(card.postprocessing):
        labels = set(step.labels) or {label.value for label in card.labels}
        if seen.isdisjoint(labels):
            continue
        if step.together or step.step == "number_vertebrae":
            seen |= labels
        if card.region_from is None:  # else these are the finder's
            seen |= set(step.reference)
    return seen


def check_part(card: Card, part: ModelPart, own: Card) -> None:
    """Check that a part fits the model that it is of.

    Args:
        card: of the model.
        part: as this card has it.
        own: the part's card.

    Raises:
        ModelError: if it does not.
    """
    if len(own.channels) != len(card.channels):
        raise ModelError(
            _(
                "The model '{title}' takes {count} volumes, but its part '{part}' takes {own}. "
                "Correct parts or channels in its card."
            ).format(title=card.title, count=len(card.channels), part=part.model, own=len(own.channels))
        )
    if own.region_from == card.region_from and own.region_from and any(s.reference for s in own.postprocessing):
        raise ModelError(
            _(
                "The part '{part}' of the model '{title}' has a step that looks at what finds the place, "
                "which is done for all parts at once. Move this step to the card of '{title}'."
            ).format(title=card.title, part=part.model)
        )
    by_side = own.region_from is not None and own.region_from.by_side
    values = {label.value for label in own.labels + (labels_of_sides(own) if by_side else ())}
    used = {value for value, new in enumerate(part.labels, start=1) if new}
    if missing := sorted(used - values):
        raise ModelError(
            _(
                "The model '{title}' uses label {value} of its part '{part}', which does not have this label. "
                "Correct parts in its card."
            ).format(title=card.title, value=missing[0], part=part.model)
        )
    if max(values) > len(part.labels):
        raise ModelError(
            _(
                "The card of '{title}' does not define what label {value} of its part '{part}' becomes. "
                "Correct parts in this card."
            ).format(title=card.title, value=max(values), part=part.model)
        )


def needed_models(card: Card, structures: Iterable[str] = (), cards: Cards | None = None) -> tuple[Card, ...]:
    """Return all models of which a run needs the weights, in the order in which it needs them.

    Args:
        card: of the model.
        structures: that the user chose.
        cards: all that there are.

    Raises:
        ModelError: as `finder_of` and `parts_of`.
        InputError: for structures that the model does not have.
    """
    found: dict[str, Card] = {}
    finder = finder_of(card, structures, cards)
    for other in (finder, *(own for _part, own in parts_of(card, structures, cards))):
        if other is not None:
            found |= {one.id: one for one in needed_models(other, (), cards) if one.id not in found}
    return (*found.values(), *(() if card.parts else (card,)))


def all_models(card: Card, cards: Cards | None = None) -> tuple[Card, ...]:
    """Return all models of which any run of this one may need the weights: its rough model, too.

    Raises:
        ModelError: as `finder_of` and `parts_of`.
    """
    rough = () if card.rough is None else needed_models(_finder(card, card.rough.model, cards), (), cards)
    return tuple({one.id: one for one in (*rough, *needed_models(card, (), cards))}.values())


def own_models(card: Card, cards: Cards | None = None) -> tuple[Card, ...]:
    """Return the models whose weights are this one's: itself, or else its parts without what finds their places.

    Raises:
        ModelError: as `parts_of`.
    """
    parts = (one for _part, own in parts_of(card, (), cards) for one in own_models(own, cards))
    return tuple({one.id: one for one in parts}.values()) if card.parts else (card,)


def size_of(models: Iterable[Card]) -> int | None:
    """Return how many bytes the weights of models have together; None where that of one is not known.

    What several of them have in common counts once.
    """
    sizes = {model.weights.sha256 or model.id: model.weights.size for model in models}.values()
    return None if None in sizes else sum(size or 0 for size in sizes)


def own_size(card: Card, cards: Cards | None = None) -> int | None:
    """Return how many bytes a model's weights have, or those of its parts together; None where that is not known."""
    try:
        return size_of(own_models(card, cards))
    except ModelError:  # a part is not here
        return None


def _finder(card: Card, model: str, cards: Cards | None) -> Card:
    """Return the card of a model that another one finds its place with."""
    try:
        return _card(model, cards)
    except UnknownModelError as error:
        raise ModelError(
            _(
                "The model '{title}' locates its structure with the model '{finder}', "
                "which is not on this computer. Import that model, "
                "or set a region of interest around the structure."
            ).format(title=card.title, finder=model)
        ) from error


def _card(model: str, cards: Cards | None) -> Card:
    """Return the card of an id."""
    return cards[model] if cards is not None and model in cards else card_of(model)


def _check_no_circle(card: Card, cards: Cards | None) -> None:
    """Check that no model needs itself, over whatever others.

    Raises:
        ModelError: if one does; it names them.
    """
    known = {one.id: one for one in all_cards()} if cards is None else cards

    def follow(one: Card, above: tuple[str, ...]) -> Message | None:
        if one.id in above:
            return joined(_(" needs "), [f"'{name}'" for name in (*above, one.id)])
        others = [part.model for part in one.parts]
        others += [rule.model for rule in (one.region_from, one.rough) if rule is not None]
        circles = (follow(known[name], (*above, one.id)) for name in others if name in known)
        return next((circle for circle in circles if circle), None)

    if circle := follow(card, ()):
        raise ModelError(
            _(
                "These models need each other in a circle: {circle}. Correct parts, region_from or rough in a card."
            ).format(circle=circle)
        )
