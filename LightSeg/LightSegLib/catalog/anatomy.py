"""Standard terms and colors of anatomical structures by their name: `anatomy.json`.

Codes, meanings and recommended colors are those of 3D Slicer's terminology lists ("Segmentation category and type -
DICOM master list", "Anatomic codes - DICOM master list") and, where these lack a structure or a color, those of the
extension TotalSegmentator. The parts of the brain have the codes of DICOM's context groups 7153 and 7140 (PS3.16);
SNOMED CT has none for the ventral diencephalon. The heart's chambers and some parts of the brain have colors of our
own: the lists' look alike.
"""

from __future__ import annotations

import colorsys
import functools
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

from .card import Code, Terminology

Color = tuple[int, int, int]
LETTERS = {"l": "left", "r": "right"}
UNIMPORTANT = ("of", "the")
GOLDEN_RATIO = (5**0.5 - 1) / 2


def look_up(name: str, value: int = 1) -> tuple[Terminology | None, Color]:
    """Return the terms and color of a label by its name: "Right kidney", "kidney_right" and "Kidney R" are the same.

    A name that is not known has no terms, and a color of its own that follows from the label's value.
    """
    key = _key(name)
    known = _structures()
    if key in known:
        return known[key]
    return None, generic_color(value)


def may_have_side(name: str, terminology: Terminology | None) -> bool:
    """Return whether a label can have a side that its name does not state: paired or unknown structures."""
    if set(sides()) & set(_key(name)):
        return False
    return terminology is None or terminology.type.value in _paired_types()


def sides() -> dict[str, Code]:
    """Return the codes of "left" and "right"."""
    return {side: Code(*code) for side, code in _file()["sides"].items()}


def generic_color(value: int) -> Color:
    """Return a color for a label of which nothing is known but its value; neighboring values differ clearly."""
    hue = value * GOLDEN_RATIO % 1  # the golden ratio spreads any number of hues
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.7 - value % 3 * 0.15, 0.95 - value % 2 * 0.15)
    return round(red * 255), round(green * 255), round(blue * 255)


def split_words(text: str) -> list[str]:
    """Return words of a text in lower case, without accents, and in one spelling ("Tumor" is "tumor")."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    spellings = _file()["spellings"]
    found = re.findall(r"[^\W_]+", "".join(letter for letter in plain if not unicodedata.combining(letter)))
    return [spellings.get(word, word) for word in found]


def _key(name: str) -> tuple[str, ...]:
    """Return the important words of a name in alphabetical order."""
    return tuple(sorted(LETTERS.get(word, word) for word in split_words(name) if word not in UNIMPORTANT))


@functools.cache
def _file() -> dict[str, Any]:
    """Return the content of anatomy.json."""
    return dict(json.loads(Path(__file__).with_name("anatomy.json").read_text(encoding="utf-8")))


@functools.cache
def _structures() -> dict[tuple[str, ...], tuple[Terminology, Color]]:
    """Return the terms and color by key, those of one side of paired structures too."""
    result = {}
    for group in _file()["groups"]:
        category = Code(*group["category"])
        for entry in group["structures"]:
            red, green, blue = entry["color"]
            modifiers: dict[str, Code | None] = {"": _code(entry, "modifier")}
            if entry.get("paired"):
                modifiers |= sides()
            for side, modifier in modifiers.items():
                terms = Terminology(category, Code(*entry["type"]), modifier, _code(entry, "region"))
                for name in (entry["name"], *entry["aliases"]):
                    result[_key(f"{side} {name}")] = terms, (red, green, blue)
    return result


@functools.cache
def _paired_types() -> set[str]:
    """Return the codes of the structures of which there are two."""
    structures = [entry for group in _file()["groups"] for entry in group["structures"]]
    return {entry["type"][1] for entry in structures if entry.get("paired")}


def _code(entry: dict[str, Any], name: str) -> Code | None:
    """Return a terminology code of an entry, or None if it has none."""
    return Code(*entry[name]) if name in entry else None
