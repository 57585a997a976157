"""Standard terms and colors of anatomical structures by their name: `anatomy.csv`.

The table has a line for each structure, a `Structure`; where its codes are from is in
`Documentation/explanation/terminology.md`.

Names are compared by their important words in any order, so that a line serves for "kidney_left", "Left kidney" and
"Kidney L", and the line "Third rib" for "rib_right_3".
"""

from __future__ import annotations

import colorsys
import csv
import functools
import re
import unicodedata
from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from .terminology import Code, Terminology

Color = tuple[int, int, int]
Key = frozenset[str]

CATEGORIES = {
    "structure": Code("SCT", "123037004", "Anatomical Structure"),
    "tissue": Code("SCT", "85756007", "Tissue"),
    "substance": Code("SCT", "91720002", "Body Substance"),
    "object": Code("SCT", "260787004", "Physical object"),
    "altered": Code("SCT", "49755003", "Morphologically Altered Structure"),
}
SIDE_CODES = {"right": Code("SCT", "24028007", "Right"), "left": Code("SCT", "7771000", "Left")}
MODIFIERS = {"anterior": Code("SCT", "255549009", "Anterior"), "posterior": Code("SCT", "255551008", "Posterior")}

SPELLINGS = {
    "tumour": "tumor",
    "tumours": "tumors",
    "oedema": "edema",
    "oesophagus": "esophagus",
    "haemorrhage": "hemorrhage",  # codespell:ignore haemorrhage
    "grey": "gray",  # codespell:ignore grey
    "mri": "mr",
}
NUMBERS = [
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh"),
    *("eighth", "ninth", "tenth", "eleventh", "twelfth", "thirteenth"),
]
SHORT_FORMS = {word: str(number) for number, word in enumerate(NUMBERS, start=1)}
SHORT_FORMS |= {"1st": "1", "2nd": "2", "3rd": "3"} | {f"{number}th": str(number) for number in range(4, 14)}
SHORT_FORMS |= {
    "l": "left",
    "r": "right",
    "vertebrae": "vertebra",
    "arteries": "artery",
    "ivd": "intervertebral disc",
    # names of organs at risk in radiotherapy, such as Eye_AL and Glnd_Submand_R
    "al": "anterior left",
    "ar": "anterior right",
    "pl": "posterior left",
    "pr": "posterior right",
    "glnd": "gland",
    "submand": "submandibular",
    "opticnrv": "optic nerve",
    "opticchiasm": "optic chiasm",
    "buccalmucosa": "buccal mucosa",
}
LATIN = {  # endings of plurals, English ones too, with those of their singulars
    "s": ("",),
    "ies": ("y",),
    "uses": ("us",),
    "es": ("is",),
    "i": ("us",),
    "ae": ("a",),
    "a": ("um", "on"),
    "ices": ("ex", "ix"),
    "ina": ("en",),
}
PLURALS = {"teeth": ("tooth",), "feet": ("foot",), "femora": ("femur",)}
UNIMPORTANT = frozenset(("of", "the", "in", "and", "entire", "structure", "oar"))
TOOTH_NUMBER = re.compile(r"fdi ?\d+", re.IGNORECASE)  # which repeats the rest of the name
OMITTED = ("muscle", "gland", "bone", "bones")  # last words that are often left out: "parotid", "masseter"
GOLDEN_RATIO = (5**0.5 - 1) / 2


class Structure(NamedTuple):
    """A line of the table, as it is written."""

    name: str
    aliases: str  # separated by "; "
    sides: str  # "pair": there are two; "halves": there is one, of which halves are segmented; or ""
    category: str  # a key of CATEGORIES
    code: str  # "10200004" of SNOMED CT, "DCM:110700" of another scheme
    meaning: str  # where it is not the name
    modifier: str  # a key of MODIFIERS, or ""
    region: str  # the name of another structure, or ""
    color: str  # "dd8265": red, green and blue in hexadecimal digits
    source: str  # a letter: where the code was read

    @property
    def type(self) -> Code:
        """The code of what it is, with its meaning."""
        scheme, _, value = self.code.rpartition(":")
        return Code(scheme or "SCT", value, self.meaning or self.name)

    @property
    def rgb(self) -> Color:
        """The color as numbers of 0 to 255."""
        red, green, blue = bytes.fromhex(self.color)
        return red, green, blue

    def names(self) -> Iterator[str]:
        """Yield all names that it is known by; the shortened one last."""
        yield self.name
        yield from filter(None, self.aliases.split("; "))
        short, _, last = self.name.rpartition(" ")
        if last in OMITTED and short:
            yield short


def look_up(name: str, value: int = 1) -> tuple[Terminology | None, Color]:
    """Return the terms and color of a label by its name: "Right kidney", "kidney_right" and "Kidney R" are the same.

    A name that is not known has no terms, and a color of its own that follows from the label's value.
    """
    found = _found(name)
    if found is None:
        return None, generic_color(value)
    line, side = found
    return (with_side(_terms(line), SIDE_CODES[side]) if side else _terms(line)), line.rgb


def structure_key(name: str) -> Hashable:
    """Return what the names of one structure have in common: its line and side, else the important words.

    It is not the terms: parts of a tumor may have the same ones.
    """
    return _found(name) or _key(name) or name.casefold()


def is_anatomy(name: str) -> bool:
    """Return whether a name is of a part of the body; of a tumor or a lesion each author has another one."""
    found = _found(name)
    return found is not None and found[0].category != "altered"


def may_have_side(name: str, terminology: Terminology | None) -> bool:
    """Return whether a label can have a side that its name does not state: paired or unknown structures."""
    if SIDE_CODES.keys() & _key(name):
        return False
    return terminology is None or (terminology.type, terminology.region) in _paired()


def with_side(terms: Terminology, side: Code) -> Terminology:
    """Return the terms with a side.

    It goes to the anatomic region where there is one (a cyst in the left kidney), else to the type; where the type
    has a modifier already, the type becomes the region.
    """
    if terms.region is None and terms.modifier is None:
        return replace(terms, modifier=side)
    return replace(terms, region=terms.region or terms.type, region_modifier=side)


def generic_color(value: int) -> Color:
    """Return a color for a label of which nothing is known but its value; neighboring values differ clearly."""
    hue = value * GOLDEN_RATIO % 1  # the golden ratio spreads any number of hues
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.7 - value % 3 * 0.15, 0.95 - value % 2 * 0.15)
    return round(red * 255), round(green * 255), round(blue * 255)


def split_words(text: str) -> list[str]:
    """Return words of a text in lower case, without accents, and in one spelling ("Tumor" is "tumor")."""
    plain = text.casefold()
    if not plain.isascii():
        letters = unicodedata.normalize("NFKD", plain)
        plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return [SPELLINGS.get(word, word) for word in re.findall(r"[^\W_]+", plain)]


def singulars(word: str) -> tuple[str, ...]:
    """Return what the singular of a word may be: "kidney" of "kidneys", "hippocampus" of "hippocampi".

    A word that is none, such as "pancreas", gives forms that no text has.
    """
    irregular = PLURALS.get(word, ())
    return irregular + tuple(
        word.removesuffix(plural) + singular
        for plural, forms in LATIN.items()
        if word.endswith(plural) and len(word) > len(plural) + 3
        for singular in forms
    )


@functools.cache
def structures() -> tuple[Structure, ...]:
    """Return the lines of anatomy.csv."""
    with Path(__file__).with_name("anatomy.csv").open(encoding="utf-8", newline="") as file:
        return tuple(map(Structure._make, csv.reader(file)))[1:]


def _found(name: str) -> tuple[Structure, str] | None:
    """Return the line of the table for a name, and the side that this adds to it, a key of SIDE_CODES or nothing."""
    key = _key(name)
    if (line := _lines().get(key)) is not None:
        return line, ""
    side = key & SIDE_CODES.keys()
    line = _lines().get(key - side)
    if line is not None and line.sides and len(side) == 1:
        return line, next(iter(side))
    return None


def _key(name: str) -> Key:
    """Return the important words of a name, each in its full form and without the s of a plural."""
    words = split_words(TOOTH_NUMBER.sub("", name))
    full = [part for word in words for part in SHORT_FORMS.get(word, word).split()]
    return frozenset(word.rstrip("s") for word in full if word not in UNIMPORTANT)


@functools.cache
def _lines() -> dict[Key, Structure]:
    """Return the lines of the table by the keys of their names."""
    lines: dict[Key, Structure] = {}
    for line in structures():
        for name in line.names():
            lines.setdefault(_key(name), line)
    return lines


def _terms(line: Structure) -> Terminology:
    """Return the terms of a line of the table, without a side."""
    region = _lines()[_key(line.region)].type if line.region else None
    return Terminology(CATEGORIES[line.category], line.type, MODIFIERS.get(line.modifier), region)


@functools.cache
def _paired() -> set[tuple[Code, Code | None]]:
    """Return type and region of the structures of which there are two."""
    terms = [_terms(line) for line in structures() if line.sides == "pair"]
    return {(term.type, term.region) for term in terms}
