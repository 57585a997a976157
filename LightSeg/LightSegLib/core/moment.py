"""Which frame of a series over time a volume is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from .i18n import Message, joined
from .i18n import tr as _

TIME = "time"
TRIGGER = "trigger"  # since the R wave of the heart
Remark = TypeVar("Remark")


@dataclass(frozen=True)
class Moment:
    """One frame among those of its series.

    Attributes:
        number: from 1, in order of time, as Slicer's sequence browser counts.
        count: frames of the series.
        ms: when, in milliseconds; None where the source does not state it.
        kind: what `ms` counts from, TIME or TRIGGER.
    """

    number: int
    count: int
    ms: float | None = None
    kind: str = TIME


def frame_name(series: str, moment: Moment) -> str:
    """Return the name of a frame, such that frames sort by their names."""
    return f"{series}_frame{moment.number:0{max(3, len(str(moment.count)))}d}"


def ms_text(ms: float) -> str:
    """Return a time in ms as text, with all its digits up to the third decimal and never with an exponent."""
    return f"{ms:.3f}".rstrip("0").rstrip(".")


def moments(count: int, ms: list[float] | None = None, kind: str = TIME) -> tuple[Moment, ...]:
    """Return the moments of `count` frames; of times that do not increase none is stated."""
    increasing = ms is not None and len(ms) == count and all(a < b for a, b in zip(ms, ms[1:], strict=False))
    stated = [round(value, 3) for value in ms] if ms is not None and increasing else [None] * count
    return tuple(Moment(number, count, value, kind) for number, value in enumerate(stated, start=1))


def numbers_text(numbers: Iterable[int]) -> Message:
    """Return numbers of frames, in their order, as text: "1 to 28, 30"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return joined(
        ", ",
        (one[0] if len(one) == 1 else _("{first} to {last}").format(first=one[0], last=one[-1]) for one in runs),
    )


def grouped(remarks: Iterable[tuple[int, Remark]]) -> list[tuple[str, list[int], Remark]]:
    """Return remarks on frames, each once with the frames that it is on.

    Args:
        remarks: numbers of frames with a text, or an error, each.

    Returns:
        For each the text, in which "Frame 3" is "Each frame" where it is on several; the frames; and the first one's.
    """
    found: dict[str, tuple[list[int], Remark]] = {}
    for number, remark in remarks:
        of_any = re.sub(rf"\bFrame {number}\b", "Each frame", str(remark))
        found.setdefault(of_any, ([], remark))[0].append(number)
    return [
        (of_any if len(numbers) > 1 else str(remark), numbers, remark) for of_any, (numbers, remark) in found.items()
    ]
