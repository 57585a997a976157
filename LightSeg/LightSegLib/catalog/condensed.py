"""Many names in few words: "Rib 1 to 12 (left, right)" for 24 of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

SIDE = re.compile(r"\b(left|right) ", re.IGNORECASE)
NUMBERED = re.compile(r"(.*?)(\d+)")


def condensed(names: Iterable[str]) -> list[str]:
    """Return names with both sides of a structure, and numbers, joined, each in the place of its first one.

    Args:
        names: of structures, as cards have them: "Left rib 1", "Vertebra C7".
    """
    by_base: dict[str, list[str]] = {}
    for name in names:
        base = SIDE.sub("", name)
        by_base.setdefault(base[:1].upper() + base[1:], []).append(name)
    numbers: dict[tuple[str, bool], list[int]] = {}  # of what is called so, with or without sides
    for base, own in by_base.items():
        paired = len(own) > 1
        text = base if paired else own[0]
        stem, number = match.groups() if (match := NUMBERED.fullmatch(text)) else (text, "")
        numbers.setdefault((stem, paired), []).extend([int(number)] if number else [])
    return [stem + _series(stem, own) + " (left, right)" * paired for (stem, paired), own in numbers.items()]


def _series(stem: str, numbers: list[int]) -> str:
    """Return numbers in words: "1 to 12", after a stem such as "Vertebra L" as "1 to L5"."""
    numbers = sorted(set(numbers))
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {stem.rpartition(' ')[2]}{numbers[-1]}"
    return ", ".join(map(str, numbers))
