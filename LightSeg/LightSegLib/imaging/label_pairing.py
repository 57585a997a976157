"""Which labels of two files are of one structure: those of one name, else those of one value."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..catalog.anatomy import is_anatomy, structure_key
from ..core.i18n import Message
from ..core.i18n import tr as _
from .label_sides import Side, by_name, joined_notice, sides_to_join, with_joined
from .volume import LARGEST_LABEL


@dataclass(frozen=True)
class Pairing:
    """How the labels of two files are compared.

    Attributes:
        first: values of the first file that are compared, with those that they get.
        second: the same of the second file.
        names: of all values that are compared.
        notices: what a user should know about that.
    """

    first: Mapping[int, int]
    second: Mapping[int, int]
    names: Mapping[int, str]
    notices: tuple[Message, ...]


def paired(first: Side, second: Side) -> Pairing:
    """Return how the labels of a prediction and of an expert are compared.

    Labels of one name are compared, whatever their values; left and right as one, where the other file names the
    structure without a side. Others are by their value, where the two files do not name it after structures that both
    have, or after two parts of the body. Of contours only those that have a counterpart are compared: sets of them
    hold the outline of the body and targets, which overlap all else.
    """
    sided, sided_expert = sides_to_join(first, second), sides_to_join(second, first)
    notices = [joined_notice(name) for _left, name in (*sided.values(), *sided_expert.values())]
    first, second = with_joined(first, sided), with_joined(second, sided_expert)
    same = same_names(first.names, second.names)
    kept, others = first.values, second.values
    if first.is_contours:
        kept &= frozenset(same.values()) if same else second.values | second.names.keys()
    if second.is_contours:
        others &= same.keys() if same else first.values | first.names.keys()
    named = {value: name for value, name in first.names.items() if value in kept or not first.is_contours}
    meant = set(same.values())  # by names: another label of such a value gets one of its own
    unlike = {
        value: (named[value], second.names[value])
        for value in sorted(others & named.keys() & second.names.keys() - same.keys() - meant)
    }
    apart = {value: names for value, names in unlike.items() if all(map(is_anatomy, names))}
    apart = {value: (one, other) for value, (one, other) in apart.items() if not _alike(one, other)}
    if first.is_contours or second.is_contours:  # these have no counterpart, and are left out
        kept -= apart.keys() if first.is_contours else frozenset()
        others -= apart.keys() if second.is_contours else frozenset()
        named = {value: name for value, name in named.items() if value in kept or not first.is_contours}
        unlike = {value: names for value, names in unlike.items() if value not in apart}
        apart = {}
    used = kept | named.keys() | meant | others
    free = (value for value in itertools.count(1) if value not in used)
    values = {
        value: same.get(value) or (next(free) if value in meant or value in apart else value)
        for value in sorted(others)
    }
    names = {values[value]: second.names[value] for value in others if value in second.names} | named
    names |= {new: f"label {value}" for value, new in values.items() if new not in used and value not in second.names}
    notices += [
        _by_value(value, one, other)
        for value, (one, other) in unlike.items()
        if value not in apart and not _alike(one, other)
    ]
    if apart:
        notices.append(_not_by_value(apart))
    for side, compared in ((first, kept), (second, others)):
        if left_out := side.values - compared:
            notices.append(_left_out([side.names.get(value, str(value)) for value in sorted(left_out)]))
    for side, wanted in ((first, meant), (second, same.keys())):
        if side.is_contours and (empty := sorted(wanted - side.values)):
            notices.append(_without_contours([side.names[value] for value in empty]))
    return Pairing(
        {value: value for value in kept} | {right: left for right, (left, _name) in sided.items() if left in kept},
        values | {right: values[left] for right, (left, _name) in sided_expert.items() if left in values},
        names,
        tuple(notices),
    )


def same_names(first: Mapping[int, str], second: Mapping[int, str]) -> dict[int, int]:
    """Return the values of `second` whose names `first` has, too, with the values there.

    Names are compared as they are written, then as names of structures ("Left kidney" is "kidney_l"). One that a file
    gives to several values decides nothing.
    """
    found: dict[int, int] = {}
    for key in (_written, structure_key):
        here = by_name({value: name for value, name in first.items() if value not in found.values()}, key)
        there = by_name({value: name for value, name in second.items() if value not in found}, key)
        found |= {there[one]: here[one] for one in there.keys() & here.keys()}
    return found


def values_of(labels: np.ndarray) -> frozenset[int]:
    """Return the values above 0 of labels [k, j, i]."""
    seen = np.zeros(LARGEST_LABEL + 1, bool)
    for part in labels:
        seen[part.astype(np.intp)] = True
    return frozenset(np.flatnonzero(seen).tolist()) - {0}


def renumbered(labels: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    """Return labels [k, j, i] with other values; those that `values` does not have become background."""
    table = np.zeros(LARGEST_LABEL + 1, np.uint16)
    for value, other in values.items():
        table[value] = other
    found = np.empty(labels.shape, np.uint16)
    for part, new in zip(labels, found, strict=True):  # a slice at a time, since an index takes 8 bytes a voxel
        new[...] = table[part.astype(np.intp)]
    return found


def _written(name: str) -> Hashable:
    """Return a name as it is compared with others, in whatever case."""
    return name.strip().casefold()


def _alike(name: str, other: str) -> bool:
    """Return whether two names are those of one structure."""
    return _written(name) == _written(other) or structure_key(name) == structure_key(other)


def _by_value(value: int, name: str, other: str) -> Message:
    """Return the notice about labels of different names that are compared."""
    return _(
        "Label {value} is '{name}' in the prediction and '{other}' in the expert's file. "
        "They were compared because they have the same value: check that they are one structure."
    ).format(value=value, name=name, other=other)


def _not_by_value(apart: Mapping[int, tuple[str, str]]) -> Message:
    """Return the notice about labels of one value, which are two structures."""
    each = _("{value} is '{name}' in the prediction and '{other}' in the expert's file")
    return _(
        "Labels of one value that are two structures were not compared: {list}. "
        "If they are one structure, give it the same name in both files."
    ).format(list="; ".join(each.format(value=value, name=one, other=two) for value, (one, two) in apart.items()))


def _without_contours(names: Iterable[str]) -> Message:
    """Return the notice about structures of a file with contours that have none."""
    return _(
        "Structures without closed contours count as empty: {names}. "
        "If one was not drawn, remove it from the set of structures."
    ).format(names=", ".join(names))


def _left_out(names: Iterable[str]) -> Message:
    """Return the notice about contours that are compared with nothing."""
    return _(
        "Contours without a label of the same structure in the other file were not compared: {names}. "
        "If one should be, give it the same name in both files."
    ).format(names=", ".join(names))
