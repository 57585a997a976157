"""Which slices of a DICOM series are at the same moment, and when that is.

Times are those of PS3.3: Trigger Time (C.8.4), Frame Reference Time (C.8.9.4), Temporal Position Time Offset
(C.7.6.16.2.28), Temporal Position Identifier and Temporal Resolution (C.7.6.16.2.2 and C.8.3.1), Acquisition Time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...core.moment import TIME, TRIGGER, Moment, moments
from .attributes import text
from .frames import Frame, number

# Names of what a slice states about time, the most exact first.
TRIGGER_TIME, REFERENCE, OFFSET, RESOLUTION, ACQUIRED = "trigger", "reference", "offset", "resolution", "acquired"
KINDS = (TRIGGER_TIME, REFERENCE, OFFSET, RESOLUTION, ACQUIRED)
# Traits whose values are in the order of time.
ACQUISITION = "acquisition"
TRAITS = ("time point", "trigger time", "time", ACQUISITION)
TAGS = ("AcquisitionTime", "AcquisitionDateTime", "TemporalResolution")


def times_of(data: Any) -> tuple[tuple[str, float], ...]:
    """Return what the data set of one slice states about its time, by KINDS in ms."""
    position, step = number(text(data, "TemporalPositionIdentifier")), number(text(data, "TemporalResolution"))
    acquired = clock(text(data, "AcquisitionDateTime")[8:] or text(data, "AcquisitionTime"))
    return stated(
        {
            TRIGGER_TIME: number(text(data, "TriggerTime")),
            REFERENCE: number(text(data, "FrameReferenceTime")),
            RESOLUTION: (position - 1) * step if position is not None and step else None,
            ACQUIRED: acquired,
        }
    )


def stated(times: dict[str, float | None]) -> tuple[tuple[str, float], ...]:
    """Return the times that are known."""
    return tuple((kind, value) for kind, value in times.items() if value is not None)


def clock(text: str) -> float | None:
    """Return ms since midnight of DICOM's HHMMSS.FFFFFF, with whatever follows it; None for anything else."""
    digits, _, rest = text.strip().partition(".")
    digits, fraction = digits.partition("+")[0].partition("-")[0], rest.partition("+")[0].partition("-")[0]
    if len(digits) != 6 or not digits.isdigit() or not (fraction.isdigit() or not fraction):
        return None
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    return ((hours * 60 + minutes) * 60 + seconds + float(f"0.{fraction or 0}")) * 1000


def is_over_time(parts: Sequence[tuple[list[Frame], str]]) -> bool:
    """Return whether parts of a series, each with its distinguishing trait and value, are its frames over time."""
    named = [_trait(what) for _part, what in parts]
    if len(parts) < 2 or not all(name in TRAITS and value is not None for name, value in named):
        return False
    # Acquisitions may be anything; they are over time where they state when they were.
    return named[0][0] != ACQUISITION or moments_of([part for part, _what in in_order(parts)])[0].ms is not None


def in_order(parts: Sequence[tuple[list[Frame], str]]) -> list[tuple[list[Frame], str]]:
    """Return the parts in the order of time."""
    return sorted(parts, key=lambda part: _trait(part[1])[1] or 0.0)


def by_rank(places: Sequence[Sequence[Frame]]) -> list[list[Frame]]:
    """Return frames over time of which slices have times of their own, as in cine images of one heart beat a slice.

    The first slice of each place, then the second, and so on.

    Args:
        places: the slices at each place.

    Returns:
        Nothing, unless all places have as many slices and one kind of time distinguishes these.
    """
    counts = {len(same) for same in places}
    if len(counts) != 1 or counts == {1}:
        return []
    for kind in KINDS:
        ordered = []
        for same in places:
            times = [dict(frame.times).get(kind) for frame in same]
            if None in times or len(set(times)) < len(times):
                break
            ordered.append(sorted(same, key=lambda frame: dict(frame.times)[kind]))
        else:
            return [list(slices) for slices in zip(*ordered, strict=True)]
    return []


def moments_of(frames: Sequence[Sequence[Frame]]) -> tuple[Moment, ...]:
    """Return when frames over time are, each of them slices, in their order.

    It is the mean of the trigger times, else the first of the slices' other times; acquisition times count from that of
    the first frame.
    """
    for kind in KINDS:
        own = [[dict(one.times).get(kind) for one in slices] for slices in frames]
        if any(value is None for values in own for value in values):
            continue
        known = [[value for value in values if value is not None] for values in own]
        ms = [sum(values) / len(values) if kind == TRIGGER_TIME else min(values) for values in known]
        if kind == ACQUIRED:
            ms = [value - ms[0] for value in ms]
        found = moments(len(frames), ms, TRIGGER if kind == TRIGGER_TIME else TIME)
        if found[0].ms is not None:
            return found
    return moments(len(frames))


def _trait(what: str) -> tuple[str, float | None]:
    """Return the name and the value of a part's trait."""
    name, _, value = what.rpartition(" ")
    return name, number(value)
