"""When the frames of an NRRD file are.

By the pairs of Slicer's volume sequences (Slicer's developer guide, "Sequences"), by those of its older multi-volumes,
or by the spacing and unit of the axis (definition of NRRD).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ..core.moment import TIME, TRIGGER, Moment, moments
from .headers import finite

UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1000.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1.0),
    **dict.fromkeys(("us", "usec", "microsecond", "microseconds"), 0.001),
    **dict.fromkeys(("min", "minute", "minutes"), 60000.0),
}


def nrrd_moments(fields: Mapping[str, str], pairs: Mapping[str, str], axis: int, count: int) -> tuple[Moment, ...]:
    """Return the moments of frames along an axis; without times where the file does not state them with their unit.

    Args:
        fields: of the header, by their names without blanks, in small letters.
        pairs: its key/value pairs.
    """
    name = _quoted(fields.get("labels", ""), axis) + pairs.get("MultiVolume.FrameIdentifyingDICOMTagName", "")
    unit = _quoted(fields.get("units", ""), axis) or pairs.get("MultiVolume.FrameIdentifyingDICOMTagUnits", "")
    words = pairs.get(f"axis {axis} index values", pairs.get("MultiVolume.FrameLabels", "")).replace(",", " ").split()
    step = [*map(finite, fields.get("spacings", "").split()), *[math.nan] * axis, math.nan][axis]
    values = [finite(word) for word in words] or [number * step for number in range(count)]
    factor = UNITS.get(unit.strip().lower())
    if factor is None or not all(map(math.isfinite, values)):
        return moments(count)
    return moments(count, [value * factor for value in values], TRIGGER if "trigger" in name.lower() else TIME)


def _quoted(text: str, axis: int) -> str:
    """Return the text in quotes that belongs to an axis, or nothing."""
    return [*re.findall(r'"([^"]*)"', text), *[""] * (axis + 1)][axis]
