"""Rounded numbers: in a message that compares some, unequal ones look unequal, so that a limit never contradicts it."""

from __future__ import annotations

from typing import Literal

MOST_DIGITS = 17  # significant digits with which any two unequal doubles differ


def distinct(*values: float, digits: int = 2, kind: Literal["f", "g"] = "f") -> tuple[str, ...]:
    """Return numbers as texts with at least so many digits, and with more where unequal ones would look the same.

    Rounding keeps the order of numbers, so texts that differ are in the order of their numbers.

    Args:
        values: that a message compares, such as a figure and its limit.
        digits: after the point ("f") or significant ("g").
        kind: of Python's formats.
    """
    texts: tuple[str, ...] = ()
    for count in range(digits, MOST_DIGITS + 1):
        texts = tuple(f"{value:.{count}{kind}}" for value in values)
        if len(set(texts)) == len(set(values)):
            break
    return texts


def rounded_ml(ml: float) -> float:
    """Return a volume for a table: to the cubic millimeter, or of less than 0.1 ml to three significant digits.

    More digits would be those of the voxel size alone: no model finds a border to a hundredth of a voxel.
    """
    return round(ml, 3) if abs(ml) >= 0.1 else float(f"{ml:.3g}")


def gigabytes(size: int) -> str:
    """Return a size as text, with enough digits to distinguish small sizes."""
    return f"{size / 1e9:.1f} GB" if size >= 999.5e6 else f"{size / 1e6:.0f} MB"


def distinct_sizes(*sizes: int) -> tuple[str, ...]:
    """Return sizes in bytes as texts, with more digits where unequal ones would look the same."""
    texts = tuple(map(gigabytes, sizes))
    if len(set(texts)) == len(set(sizes)):
        return texts
    unit, name, digits = (1e9, "GB", 1) if max(sizes) >= 999.5e6 else (1e6, "MB", 0)
    return tuple(f"{text} {name}" for text in distinct(*(size / unit for size in sizes), digits=digits))
