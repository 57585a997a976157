"""Which frames are one volume: a series over all folders, and within it what differs or shares a position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...core.i18n import Message, joined
from ...core.i18n import tr as _
from ...core.moment import Moment
from . import timeline
from .frames import EXACT_DIGITS, Frame, Study

SAME_DIRECTION = 1e-4  # difference of a component, unless the rounding of its text explains more
SAME_SPACING = 1e-3  # as a share
SAME_PLACE = 1e-3  # mm
SAME_SLICE = 0.1  # of a step between slices: derived slices have their places rounded anew
WIDEST_GAP = 4  # steps between original slices and derived ones of one stack, of which some may be lost
FEW = 0.1  # of the slices of the largest volume: fewer are left over, as the scouts in a series are


@dataclass(frozen=True)
class Stack:
    """Frames that can be one volume, in order of position.

    Attributes:
        what: distinguishes it from the others of its series.
        moment: which frame of its series it is, where that is over time.
        problem: why it is no such frame, although the others are.
        group: number of its frames' group, from 1, where a series has several of other sizes or directions; each
            may be over time.
    """

    frames: tuple[Frame, ...]
    what: str = ""
    moment: Moment | None = None
    problem: str = ""
    group: int = 1

    @property
    def study(self) -> Study:
        """Study and series of the stack."""
        return self.frames[0].study


@dataclass(frozen=True)
class UnusedFrames:
    """Frames of a series that belong to no volume, and why; `reason` completes "FILES ..."."""

    frames: tuple[Frame, ...]
    reason: str

    @property
    def names(self) -> str:
        """Name of the first frame, and how many more there are."""
        first, more = self.frames[0].name, len(self.frames) - 1
        return (
            _("{file} (and {count} more)").format(file=first, count=more) if more else first
        )  # the sentence is about all of them


@dataclass(frozen=True)
class Series:
    """A DICOM series: the volumes it makes, and frames that belong to none.

    Attributes:
        stacks: frames that make one volume each.
        unused: frames that are left over, with the reasons.
    """

    stacks: tuple[Stack, ...]
    unused: tuple[UnusedFrames, ...]

    @property
    def study(self) -> Study:
        """Study and series of the frames."""
        return (self.stacks or self.unused)[0].frames[0].study


def group(frames: Iterable[Frame]) -> list[Series]:
    """Return the series among the frames, those of several folders together, in the order of their first frames."""
    by_uid: dict[tuple[str, str, str], list[Frame]] = {}  # that of a series alone was given to two patients before
    for frame in frames:
        by_uid.setdefault((frame.study.series, frame.study.study, frame.study.patient), []).append(frame)
    return [_divided(members) for members in by_uid.values()]


def slice_normal(frame: Frame) -> np.ndarray:
    """Unit vector [3] across the slice, by the right hand (PS3.3, C.7.6.2.1.1)."""
    normal_vector = np.cross(frame.orientation[:3], frame.orientation[3:])
    return np.asarray(normal_vector / np.linalg.norm(normal_vector))


def slice_positions(frames: Sequence[Frame]) -> np.ndarray:
    """Places [n] of the frames along the normal of the first, in mm."""
    return np.array([frame.position for frame in frames]) @ slice_normal(frames[0])


def _divided(frames: list[Frame]) -> Series:
    """Divide the frames of a series into stacks and unused ones."""
    unused = [
        UnusedFrames(tuple(one for one in frames if one.study.kind == kind), _("is {kind}").format(kind=kind))
        for kind in dict.fromkeys(frame.study.kind for frame in frames if frame.study.kind)
    ]
    colored = tuple(frame for frame in frames if not frame.study.kind and frame.study.colors > 1)
    unused += [UnusedFrames(colored, _("is in color"))] if colored else []
    images = [frame for frame in frames if not frame.study.kind and frame.study.colors == 1]
    if not images:
        return Series((), tuple(unused))
    if any(frame.problem for frame in images):  # where one has no place, that of the others is not a whole
        return Series((Stack(tuple(images)),), tuple(unused))
    groups = _with_derived(_alike(images))
    most = max(map(len, groups))
    whole = [members for members in groups if len(members) >= 2 and len(members) >= FEW * most]
    chosen = _preferred(whole)
    stacks = [
        replace(stack, group=number) for number, members in enumerate(chosen, start=1) for stack in _stacks(members)
    ]
    if len(whole) > 1:
        stacks = [replace(stack, what=", ".join(filter(None, (_look(stack), stack.what)))) for stack in stacks]
    if not whole and len(images) > 1:
        unused.append(UnusedFrames(tuple(images), _("has no two slices with the same size, orientation and spacing")))
        return Series((), tuple(unused))
    for members in groups:
        if members not in chosen:
            unused.append(UnusedFrames(tuple(members), _why(members, (chosen or groups)[0])))
    return Series(tuple(_told_apart(stacks)), tuple(unused))


def _with_derived(groups: list[list[Frame]]) -> list[list[Frame]]:
    """Return the groups, derived slices joined to the original ones with which they are one stack.

    What removes faces or burned-in text rewrites the slices that have some, and marks these alone as derived.
    """
    joined_groups = [list(members) for members in groups if not _is_derived(members)]
    for derived in filter(_is_derived, groups):
        other = next((members for members in joined_groups if _fits(derived[0], members[0], any_origin=True)), None)
        if other is not None and _completes(derived, other):
            other.extend(derived)
        else:
            joined_groups.append(derived)
    return joined_groups


def _completes(derived: Sequence[Frame], original: Sequence[Frame]) -> bool:
    """Return whether derived and original slices that are alike are one stack: at other places, beside the original.

    Where the two alternate, they are one only if even together, as no two stacks that interlock by chance are. Slices
    far beyond the last one are of something else; a slice that is lost where the two meet leaves a gap in the stack.
    """
    along = np.round(slice_positions([*original, *derived]), 3)
    if np.intersect1d(along[: len(original)], along[len(original) :]).size:
        return False
    places, first = np.unique(along, return_index=True)
    if not _mixed(places, [*original, *derived]):
        return True
    steps, of_derived = np.diff(places), first >= len(original)
    between = of_derived[1:] != of_derived[:-1]
    if between.mean() > 0.5 or steps[between].min() < 0.8 * steps[~between].min():
        return False
    return bool(steps[between].max() <= WIDEST_GAP * np.median(steps[~between]))


def _preferred(whole: list[list[Frame]]) -> list[list[Frame]]:
    """Return the groups that make volumes: the original ones, if any, and derived ones beside them.

    A derived one that shows mostly the places of an original again, that has less than half as many slices, or that is
    another cut through them, is left over.
    """
    originals = [members for members in whole if not _is_derived(members)]

    def shows_more(derived: list[Frame]) -> bool:
        beside = [frame for one in originals if _fits(derived[0], one[0], any_origin=True) for frame in one]
        if not beside:
            return False
        places = np.round(slice_positions([*beside, *derived]), 3)
        known, own = np.unique(places[: len(beside)]), np.unique(places[len(beside) :])
        step = np.median(np.diff(known)) if len(known) > 1 else 0.0
        new = np.abs(own[:, None] - known).min(axis=1) > SAME_SLICE * step
        return bool(new.mean() >= 0.5 and len(own) >= len(known) / 2)

    return [members for members in whole if not originals or not _is_derived(members) or shows_more(members)]


def _is_derived(members: Sequence[Frame]) -> bool:
    """Return whether a group is of derived slices alone; to original ones, they were added behind."""
    return members[0].study.origin == "DERIVED"


def _stacks(members: list[Frame]) -> list[Stack]:
    """Return the stacks of frames that are alike; those over time in its order, with their moments."""
    parts = _parted(members)
    over_time = timeline.is_over_time(parts)
    places: dict[float, list[Frame]] = {}
    for frame, place in zip(members, np.round(slice_positions(members), 3).tolist(), strict=True):
        places.setdefault(place, []).append(frame)
    ranked = timeline.by_rank(list(places.values())) if len(places) > 1 and (over_time or len(parts) == 1) else []
    if over_time and (not ranked or all(len(part) == len(places) for part, _what in parts)):
        parts = timeline.in_order(parts)
    elif ranked:
        parts = [(part, f"frame {number}") for number, part in enumerate(ranked, start=1)]
    else:
        return [Stack(tuple(part), what) for part, what in parts]
    most = max(len(part) for part, _what in parts)
    few = _("has fewer slices than other frames of its series ({count}, not {most}). Export the series again.")
    return [
        Stack(tuple(part), what, moment, few.format(count=len(part), most=most) if len(part) < most else "")
        for (part, what), moment in zip(parts, timeline.moments_of([part for part, _what in parts]), strict=True)
    ]


def _alike(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Return groups of frames that can be in one volume.

    They have the same size, direction, spacing, origin and frame of reference.
    """
    groups: list[list[Frame]] = []
    for frame in frames:
        own = next((members for members in reversed(groups) if _fits(frame, members[0])), None)
        if own is None:
            groups.append([frame])
        else:
            own.append(frame)
    return groups


def _fits(frame: Frame, other: Frame, any_origin: bool = False) -> bool:
    """Return whether two frames can be slices of one volume."""
    return (
        frame.shape == other.shape
        and (any_origin or frame.study.origin == other.study.origin)
        and frame.study.inverted == other.study.inverted
        and _same_reference(frame, other)
        and _same_direction(frame, other)
        and all(abs(x - y) <= SAME_SPACING * y for x, y in zip(frame.spacing, other.spacing, strict=True))
    )


def _same_direction(frame: Frame, other: Frame) -> bool:
    """Return whether two frames have the same orientation within its rounding."""
    digits = min(frame.decimals[1], other.decimals[1])
    rounding = 2 * 10.0**-digits if digits >= EXACT_DIGITS else 0.0
    apart = max(abs(x - y) for x, y in zip(frame.orientation, other.orientation, strict=True))
    return apart <= max(SAME_DIRECTION, rounding)


def _same_reference(frame: Frame, other: Frame) -> bool:
    """Return whether two frames can have the same frame of reference; one that states none fits any."""
    ours, theirs = frame.study.frame_of_reference, other.study.frame_of_reference
    return not ours or not theirs or ours == theirs


def _parted(frames: list[Frame], start: int = 0) -> list[tuple[list[Frame], str]]:
    """Return stacks of frames in order of position.

    Where several share a position or two stacks interlock, they are separated by their traits.
    """
    places = slice_positions(frames)
    order = sorted(range(len(frames)), key=lambda index: places[index])
    ordered = [frames[index] for index in order]
    if np.ptp(places) > SAME_PLACE and _mixed(places[order], ordered):
        names = list(dict.fromkeys(name for frame in frames for name, _value in frame.traits))
        for at, name in enumerate(names[start:], start):
            values: dict[str, list[Frame]] = {}
            for frame in ordered:
                values.setdefault(dict(frame.traits).get(name, ""), []).append(frame)
            if len(values) > 1 and _covers(list(values.values()), places[order]):
                return [
                    (part, ", ".join(filter(None, (f"{name} {value or 'none'}", what))))
                    for value, members in values.items()
                    for part, what in _parted(members, at + 1)
                ]
    return [(ordered, "")]


def _mixed(places: np.ndarray, frames: Sequence[Frame]) -> bool:
    """Return whether sorted positions belong to more than one stack.

    Some coincide, are uneven, or are closer than the slices are thick.
    """
    steps = np.diff(places)
    thickness = max((frame.thickness or 0 for frame in frames), default=0)
    uneven = steps.max() > 1.2 * np.median(steps) or steps.min() < 0.8 * np.median(steps)
    return bool(steps.min() <= SAME_PLACE or uneven or np.median(steps) < 0.6 * thickness)


def _covers(parts: Sequence[Sequence[Frame]], places: np.ndarray) -> bool:
    """Return whether each part is a stack over most of the places, so that they are volumes and not pieces of one.

    Parts that share no place are volumes only where the slices of each are closer than twice their thickness: the
    passes of an interleaved acquisition are not.
    """
    own = [np.unique(np.round(np.sort(slice_positions(part)), 3)) for part in parts]
    if any(len(part) < 2 or np.ptp(part) < np.ptp(places) / 2 for part in own):
        return False
    if len(np.unique(np.round(places, 3))) < sum(map(len, own)):
        return True
    thick = [frame.thickness for part in parts for frame in part if frame.thickness]
    return bool(thick) and all(np.median(np.diff(part)) < 1.2 * max(thick) for part in own)


def _look(stack: Stack) -> str:
    """Return size, spacing and direction of a stack as text, and that it is derived where it is."""
    frame = stack.frames[0]
    spacing = " x ".join(f"{step:g}" for step in frame.spacing)
    normal_vector = "xyz"[int(np.abs(slice_normal(frame)).argmax())]
    derived = ", derived" if all(one.study.origin == "DERIVED" for one in stack.frames) else ""
    return f"{frame.shape[1]} x {frame.shape[0]} at {spacing} mm across {normal_vector}{derived}"


def _told_apart(stacks: Sequence[Stack]) -> list[Stack]:
    """Return the stacks with unique names; a second one of a name gets a number."""
    seen: Counter[str] = Counter()
    found = []
    for stack in stacks:
        seen[stack.what] += 1
        again = f"{stack.what} ({seen[stack.what]})".strip()
        found.append(stack if seen[stack.what] == 1 else replace(stack, what=again))
    return found


def _why(members: Sequence[Frame], main: Sequence[Frame]) -> str:
    """Return why frames are left over that are not alike the main ones."""
    frame, other = members[0], main[0]
    differs: list[tuple[Message, Callable[[Frame], object]]] = [
        (_("size"), lambda one: one.shape),
        (_("origin (derived)"), lambda one: one.study.origin),
        (_("photometric interpretation"), lambda one: one.study.inverted),
    ]
    differences = [word for word, of in differs if of(frame) != of(other)]
    if not _same_reference(frame, other):
        differences.append(_("frame of reference"))
    if not _same_direction(frame, other):
        differences.append(_("orientation"))
    if any(abs(x - y) > SAME_SPACING * y for x, y in zip(frame.spacing, other.spacing, strict=True)):
        differences.append(_("pixel spacing"))
    if not differences:
        return _("is a single slice")
    return _("differs from the rest of its series in {differences}").format(differences=joined(", ", differences))
