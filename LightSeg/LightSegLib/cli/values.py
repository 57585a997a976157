"""How the words of the command line become values; each function takes one word for argparse's `type`."""

from __future__ import annotations

import argparse
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError
from ..inference.options import LARGEST_OVERLAP, InferenceOptions, check_device

if TYPE_CHECKING:
    from ..imaging.roi import RegionOfInterest


def roi(text: str) -> RegionOfInterest | Path:
    """Return the region of interest of six numbers R1,A1,S1,R2,A2,S2 in mm, or the path of a file.

    Raises:
        argparse.ArgumentTypeError: for any other text.
    """
    from ..imaging.roi import RegionOfInterest

    try:
        r1, a1, s1, r2, a2, s2 = (float(part) for part in text.split(","))
        if not all(map(math.isfinite, (r1, a1, s1, r2, a2, s2))):
            raise ValueError
    except ValueError:
        if text.strip() and os.path.isfile(text):  # noqa: PTH113 (also asked of names that no path can have)
            return Path(text)
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither six numbers R,A,S,R,A,S in mm, joined by commas, nor a file"
        ) from None
    return RegionOfInterest.from_ras(r1, a1, s1, r2, a2, s2)


def path(text: str) -> str:
    """Return the path of a file or folder as it is.

    Raises:
        argparse.ArgumentTypeError: for an empty one, which would be the current folder.
    """
    return _filled(text, "path")


def fold(text: str) -> str:
    """Return which part of how many is set aside, as it is.

    Raises:
        argparse.ArgumentTypeError: for an empty text, with which none would be.
    """
    return _filled(text, "part")


def count(text: str) -> int:
    """Return a positive integer.

    Raises:
        argparse.ArgumentTypeError: for any other text.
    """
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return int(text)


def size(text: str) -> tuple[int, int, int]:
    """Return a size in voxels, k,j,i.

    Raises:
        argparse.ArgumentTypeError: for any other text.
    """
    try:
        k, j, i = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not three whole numbers K,J,I, joined by commas") from None
    return k, j, i


def counts(text: str) -> tuple[int, ...]:
    """Return positive integers that are joined by commas.

    Raises:
        argparse.ArgumentTypeError: for any other text.
    """
    if not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers above 0, joined by commas")
    return tuple(int(part) for part in text.split(","))


def axes(text: str) -> tuple[int, ...]:
    """Return array axes that are joined by commas.

    Raises:
        argparse.ArgumentTypeError: for any other text.
    """
    if not re.fullmatch(r"([0-2](,[0-2])*)?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of the axes 0, 1 and 2, joined by commas")
    return tuple(int(part) for part in text.split(",") if part)


def names(text: str) -> tuple[str, ...]:
    """Return names that are joined by commas.

    Raises:
        argparse.ArgumentTypeError: where there is none.
    """
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' has no name of a structure")
    return found


def overlap(text: str) -> float:
    """Return an overlap of tiles, 0 to below 1.

    Raises:
        argparse.ArgumentTypeError: for any other text.
    """
    try:
        share = float(text)
        InferenceOptions(tile_overlap=share)
    except (ValueError, InputError):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to {LARGEST_OVERLAP}") from None
    return share


def orientation(text: str) -> str:
    """Return an orientation such as "RAS".

    Raises:
        argparse.ArgumentTypeError: for any other text.
    """
    try:
        InferenceOptions(orientation=text)
    except InputError:
        raise argparse.ArgumentTypeError(f"'{text}' is not input, nor three letters such as LPS, RAS, PIR") from None
    return text


def device(text: str) -> str:
    """Return the name of a device.

    Raises:
        argparse.ArgumentTypeError: for any other text.
    """
    try:
        check_device(text)
    except InputError:
        raise argparse.ArgumentTypeError(f"'{text}' is not one of auto, cpu, cuda, cuda:N and mps") from None
    return text


def _filled(text: str, what: str) -> str:
    """Return `text`, of which a message says what it is where it is empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"the {what} is empty, perhaps since a variable of the shell is not set")
    return text
