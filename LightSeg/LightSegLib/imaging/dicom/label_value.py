"""A label's value in a DICOM segmentation, whose segments are numbered from 1 on whatever values a model gives."""

from __future__ import annotations

import re

PATTERN = re.compile(r"LightSeg label (\d{1,5})")


def described_value(value: int) -> str:
    """Return the description of the segment of a label."""
    return f"LightSeg label {value}"


def value_of(description: str, number: int) -> int:
    """Return the label value of a segment: the one that LightSeg described, or else its number."""
    found = PATTERN.fullmatch(description.strip())
    return int(found[1]) if found else number
