"""Models of published collections, such as TotalSegmentator's: one file a family in `families/`, made by `Catalog/`.

A file holds what its models share (`defaults`) and `cards` with what is their own, in the fields of a card but for

- labels: names by which the authors know them, in the order of their values; null for a value without one
- weights: `url`, `size`, `sha256`, `folder` and `folds` of an archive; left out where a model has `parts`

and `names`, the usual name of a structure, where the authors use another. `not_offered` are models of the family
that LightSeg does not have, with the reasons. The tests check every card as if a user had written it; when the program
runs, they are taken as they are, for there are many.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from .anatomy import look_up
from .card import Card, Label
from .card_file import assembled

FAMILIES_FOLDER = Path(__file__).parent / "families"


@dataclass(frozen=True)
class NotOffered:
    """A model of a family that LightSeg does not have.

    Attributes:
        name: what its authors call it.
        reason: one or two sentences.
        structures: what it would segment, as far as that is published.
    """

    family: str
    name: str
    modality: str
    reason: str
    structures: tuple[str, ...] = ()


@functools.cache
def family_cards() -> tuple[Card, ...]:
    """Return the cards of all families, in the order of their files."""
    return tuple(_card(file, entry) for file in _files() for entry in file["cards"])


@functools.cache
def not_offered() -> tuple[NotOffered, ...]:
    """Return the models of all families that are not offered."""
    return tuple(
        NotOffered(file["family"], **entry | {"structures": tuple(entry.get("structures", ()))})
        for file in _files()
        for entry in file.get("not_offered", ())
    )


@functools.cache
def _files() -> tuple[dict[str, Any], ...]:
    """Return the contents of the families' files."""
    return tuple(json.loads(path.read_text(encoding="utf-8")) for path in sorted(FAMILIES_FOLDER.glob("*.json")))


def _card(file: dict[str, Any], entry: dict[str, Any]) -> Card:
    """Return the card of an entry of a file."""
    fields: dict[str, Any] = {
        "family": file["family"],
        "network": "",
        "network_arguments": {},
        **{name: file[name] for name in ("homepage", "license", "citation")},
        **file["defaults"],
        **entry,
    }
    for name in ("preprocessing", "inference"):
        fields[name] = file["defaults"].get(name, {}) | entry.get(name, {})
    labels = tuple(
        _label(value, name, file["names"].get(name, name))
        for value, name in enumerate(fields["labels"], start=1)
        if name is not None
    )
    if "weights" in fields:
        fields["weights"] = _weights(fields["weights"])
    return assembled(_as_tuples(fields) | {"labels": labels}, FAMILIES_FOLDER)


@functools.cache
def _label(value: int, original: str, name: str) -> Label:
    """Return the label of a structure; many models share one."""
    terminology, color = look_up(original, value)
    if terminology is None:
        terminology, color = look_up(name, value)
    return Label(value, name, color, terminology, None if name == original else original)


def _weights(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the weights of a card from the facts about its archive, under the name by which it is published."""
    known: dict[str, Any] = {name: facts[name] for name in ("size", "sha256") if name in facts}
    archive = {"folder": facts.get("folder", ""), "folds": facts.get("folds", ())}
    file = PurePosixPath(urlsplit(facts["url"]).path).name
    return {"file": file, "sources": [{"kind": "url", "url": facts["url"]}], "archive": archive, **known}


def _as_tuples(value: Any) -> Any:
    """Return a JSON value with its lists as tuples, as a card has them."""
    if isinstance(value, dict):
        return {name: _as_tuples(entry) for name, entry in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
