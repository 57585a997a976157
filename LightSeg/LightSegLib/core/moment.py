"""Which frame of a series over time a volume is."""

from __future__ import annotations

from dataclasses import dataclass

TIME = "time"
TRIGGER = "trigger"  # since the R wave of the heart


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
