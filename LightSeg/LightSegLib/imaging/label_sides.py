"""Left and right, where one of two files names them and the other one names the structure without a side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..catalog.anatomy import structure_key
from ..catalog.sides import SIDES
from ..core.i18n import Message
from ..core.i18n import tr as _

STRAY = 0.05  # of what a label has in common with one side, that it may have with the other


@dataclass(frozen=True)
class Side:
    """What one of two files has.

    Attributes:
        values: of its labels.
        names: of values, where the file or its model states them.
        is_contours: whether these are contours, which are numbered as they were drawn and may overlap.
    """

    values: frozenset[int]
    names: Mapping[int, str]
    is_contours: bool = False

    @property
    def is_mask(self) -> bool:
        """Whether it has a single label, and nothing states of which structure."""
        return len(self.values) == 1 and not self.names

    def called(self, structure: str) -> Side:
        """Return it with its label under this name, if it has one or none and no names."""
        if self.names or len(self.values) > 1:
            return self
        return replace(self, names={next(iter(self.values), 1): structure})


def sides_to_join(own: Side, other: Side) -> dict[int, tuple[int, str]]:
    """Return the values of right sides whose structure the other file names without a side only.

    Each is with the value of the left side, which it gets, and the name. It takes both sides: where a file names one
    alone, it is not known whether the other file has that one. Where the other file has a side, too, as sets of
    contours have the lungs beside each of them, sides are compared with sides.
    """
    here, there = by_name(own.names, structure_key), set(map(structure_key, other.names.values()))
    found = {}
    for name in other.names.values():
        if here.get(structure_key(name)) in own.values or not there.isdisjoint(sided_keys(name)):
            continue
        left, right = map(here.get, sided_keys(name))
        if left and right and left != right:
            found[right] = left, name
    return found


def sided_keys(name: str) -> list[Hashable]:
    """Return the keys of the left and the right side of a structure (see `structure_key`)."""
    return [structure_key(f"{side} {name}") for side in SIDES]


def with_joined(side: Side, joined: Mapping[int, tuple[int, str]]) -> Side:
    """Return a file's labels with right sides joined to the left ones, under the name without a side."""
    if not joined:
        return side
    values = frozenset(joined[value][0] if value in joined else value for value in side.values)
    new = dict(joined.values())
    keys = set(map(structure_key, new.values()))
    names = {
        value: name for value, name in side.names.items() if value not in joined and structure_key(name) not in keys
    }
    return replace(side, values=values, names=names | new)


def on_one_side(own: Side, other: Side, labels: np.ndarray, others: np.ndarray) -> tuple[Side, list[Message]]:
    """Return a file's labels, those without a side with that on which they are, where it is one alone.

    That of a crop around one hippocampus is compared with that hippocampus, not with both; what the other file has on
    the other side remains without a counterpart.

    Args:
        own: a file that may name structures without a side.
        other: the other file.
        labels: of the first file [k, j, i].
        others: of the other file, on the same grid.
    """
    names, notices = dict(own.names), []
    values = by_name(own.names, structure_key)
    for right, (left, name) in sides_to_join(other, own).items():
        value = values.get(structure_key(name))
        if value is None or not {left, right} <= other.values:  # else a side may have been missed there
            continue
        common = np.bincount(others[labels == value], minlength=max(left, right) + 1)
        less, more = sorted((left, right), key=lambda one: int(common[one]))
        if common[less] <= STRAY * common[more] > 0:
            names[value] = other.names[more]
            notices.append(
                _("'{name}' has no side in one of the files and was compared with '{sided}', where it is.").format(
                    name=name, sided=other.names[more]
                )
            )
    return replace(own, names=names), notices


def by_name(names: Mapping[int, str], key: Callable[[str], Hashable]) -> dict[Hashable, int]:
    """Return the values by the keys of their names, where one value alone has it."""
    keys = {value: key(name) for value, name in names.items()}
    often = Counter(keys.values())
    return {one: value for value, one in keys.items() if often[one] == 1}


def joined_notice(name: str) -> Message:
    """Return the notice about two sides that are compared as one."""
    return _(
        "Left and right of '{name}' were compared as one, because one of the files names it without a side. "
        "Check that this shows both sides."
    ).format(name=name)
