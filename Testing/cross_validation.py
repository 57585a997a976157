"""Join the quality of the parts of a cross-validation, and print it as JSON, as a card states it under `performance`.

    python Testing/cross_validation.py PART PART ...

Each PART is a folder that `lightseg train --fold K/N` has written. Mean and standard deviation are those over all
cases, computed from those of each part, which its card has to four digits. Every case must have every label; whether
that is so is not in the cards.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "LightSeg"))

from LightSegLib.catalog.card import Card  # noqa: E402
from LightSegLib.catalog.card_file import read_card  # noqa: E402
from LightSegLib.catalog.lookup import CARD_NAME  # noqa: E402
from LightSegLib.core.errors import LightSegError  # noqa: E402

MEANS = ("dice", "mirrored_dice")


def joined_performance(cards: Sequence[Card]) -> dict[str, Any]:
    """Return `performance` of a card over the validation cases of all parts.

    Raises:
        SystemExit: for anything but all parts of one cross-validation, and for labels that a part lacks or has missed
            in a case, which has no distance then.
    """
    commands = [_without_part(card.training.get("command", "")) for card in cards]
    parts_of = {part.partition("/")[2] for _rest, part in commands}
    count = int(parts_of.pop() or 0) if len(parts_of) == 1 else 0
    if not count or sorted(part for _rest, part in commands) != sorted(f"{n}/{count}" for n in range(1, count + 1)):
        sys.exit("These are not all parts of one cross-validation. Give the folder of each part once.")
    if len({rest for rest, _part in commands}) > 1:
        sys.exit("These parts were trained with different options. Give the parts of one cross-validation.")
    measured = [case for card in cards for case in card.training["validation_cases"]]
    trained = [{*card.training["trained_on"], *card.training["validation_cases"]} for card in cards]
    if len(measured) > len({*measured}) or any(cases != {*measured} for cases in trained):
        sys.exit("These parts were trained on different cases. Train those again that were made before a change.")
    parts = [card.performance for card in cards]
    names = list(parts[0]["labels"])
    if any({*part["labels"]} != {*names} or any(own["missed"] for own in part["labels"].values()) for part in parts):
        sys.exit("A part lacks a label or has missed one in a case. Evaluate the cases one by one instead.")
    counts = [part["cases"] for part in parts]
    labels = {
        name: {
            measure: _of_all([part["labels"][name][measure] for part in parts], counts)
            for measure in parts[0]["labels"][name]
            if measure != "missed"
        }
        | {"missed": 0}
        for name in names
    }
    means = {
        f"mean_{measure}": round(sum(own[measure]["mean"] for own in labels.values()) / len(labels), 4)
        for measure in MEANS
    }
    return {"cross_validation": count, "cases": sum(counts), **means, "labels": labels}


def _without_part(command: str) -> tuple[str, str]:
    """Return the recorded command of a training without where it went and which part it set aside, and that part."""
    words = shlex.split(command)
    named = {flag: words.index(flag) for flag in ("--out", "--fold") if flag in words}
    part = words[named["--fold"] + 1] if "--fold" in named else ""
    left_out = {place + step for place in named.values() for step in (0, 1)}
    return shlex.join(word for place, word in enumerate(words) if place not in left_out), part


def _of_all(parts: Sequence[Mapping[str, float]], counts: Sequence[int]) -> dict[str, float]:
    """Return `mean` and, where the parts have one, `std` over the cases of all parts, `counts` of them in each."""
    total = sum(counts)
    mean = sum(part["mean"] * count for part, count in zip(parts, counts, strict=True)) / total
    found = {"mean": round(mean, 4)}
    if "std" in parts[0]:
        squares = sum(
            (part["std"] ** 2 + (part["mean"] - mean) ** 2) * count for part, count in zip(parts, counts, strict=True)
        )
        found["std"] = round(math.sqrt(squares / total), 4)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", type=Path, metavar="PART")
    try:
        read = [read_card(folder / CARD_NAME) for folder in parser.parse_args().parts]
    except LightSegError as error:
        sys.exit(f"A part is a folder that `lightseg train --fold K/N` has written, and one is not. {error}")
    print(json.dumps(joined_performance(read), indent=2))
