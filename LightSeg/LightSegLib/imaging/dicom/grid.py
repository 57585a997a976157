"""The positions of a stack's slices, and their grid: regular, to be straightened, or with slices missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...core.errors import InputError
from ...core.i18n import Message, joined
from ...core.i18n import tr as _
from .frames import EXACT_DIGITS, Frame, check_usable
from .series import SAME_PLACE, Stack, slice_normal, slice_positions

EXACT = 0.005  # of a step: how far a slice may be from its even position ...
FARTHEST = 0.008  # ... and the most of that in mm, unless rounding explains more
LARGEST_ROUNDING = 0.1  # of a step or a voxel: what the rounding of a text may explain at most
WIDE = 1.5  # times the steps next to it: a step in which slices are missing
SHORT_RUN = 5  # wide steps in a row that may be gaps side by side
WHOLE = 0.1  # how far a step may be from a whole number of others
LISTED = 3  # places in a message


@dataclass(frozen=True)
class Grid:
    """The positions of a stack of slices, and the regular grid they are on, if any.

    Attributes:
        places: for each slice [n, 3] the mm (LPS) of its first voxel, in order along the normal.
        frames: those at each place; more than one where a place is doubled.
        axes: unit vectors [3, 3] along a row, down a column and across, as columns. spacing (mm) along them, and
            origin, of the volume where the slices are evenly above one another.
        even: whether they do.
        steps: the smallest and the largest, in mm.
        tilt: mm by which slices are moved aside, at most.
        gaps: (below, above) in mm where slices are missing.
    """

    frames: tuple[tuple[Frame, ...], ...]
    places: np.ndarray
    axes: np.ndarray
    spacing: tuple[float, float, float]
    origin: np.ndarray
    even: bool
    steps: tuple[float, float]
    tilt: float
    gaps: tuple[tuple[float, float], ...]


def grid_of(stack: Stack, name: str, allow_gaps: bool) -> Grid:
    """Return the grid of the frames.

    Args:
        name: of the series, for messages.

    Raises:
        InputError: for frames without a place, for a single slice, for slices that all are at one place, and where
            slices are missing, unless allow_gaps.
    """
    check_usable(stack.frames)
    along = slice_positions(stack.frames)
    order = np.argsort(along, kind="stable")
    frames, along = [stack.frames[index] for index in order], along[order]
    if len(frames) < 2:
        raise InputError(
            _("{name} contains a single slice, {slice}. Choose a series with at least two slices.").format(
                name=name, slice=frames[0].name
            )
        )
    if np.diff(along).max() <= SAME_PLACE:
        raise InputError(
            _(
                "All {count} slices of {name} have the same position, {position}: they are a time series, "
                "or their positions were lost. Choose a series of slices at different positions."
            ).format(count=len(frames), name=name, position=_place(frames[0]))
        )
    starts = np.flatnonzero(np.append(True, np.diff(along) > SAME_PLACE))
    ends = [*starts[1:], len(frames)]
    doubled = tuple(tuple(frames[start:end]) for start, end in zip(starts, ends, strict=True))
    firsts = [same[0] for same in doubled]
    positions, along = np.array([frame.position for frame in firsts], float), along[starts]
    axes = _axes(firsts[0])
    aside = (positions - positions[0]) @ axes[:, :2]
    tilt = float(np.hypot(*np.ptp(aside, axis=0)))
    upright = _upright(firsts, aside)
    fitted = _evenly(along, _rounding(firsts, axes[:, 2]))
    gaps = () if fitted is not None else tuple(_gaps(firsts, along))
    if gaps and not allow_gaps:
        raise InputError(_missing(name, gaps, firsts, along))
    spacing = firsts[0].spacing[1], firsts[0].spacing[0]
    steps = np.diff(along)
    start, step = fitted if fitted is not None else (along[0], float(np.median(steps)))
    origin = positions[0] + (start - along[0]) * axes[:, 2]
    if upright and np.any(aside):
        origin = origin + axes[:, :2] @ ((aside.min(axis=0) + aside.max(axis=0)) / 2)
    return Grid(
        frames=doubled,
        places=positions,
        axes=axes,
        spacing=(*spacing, step),
        origin=origin,
        even=upright and fitted is not None,
        steps=(float(steps.min()), float(steps.max())),
        tilt=tilt,
        gaps=gaps,
    )


def _axes(frame: Frame) -> np.ndarray:
    """Unit vectors along a row, down a column and across, as columns: those that are stated, made perpendicular."""
    normal_vector = slice_normal(frame)
    row = np.array(frame.orientation[:3]) / np.linalg.norm(frame.orientation[:3])
    column = np.array(frame.orientation[3:]) / np.linalg.norm(frame.orientation[3:])
    if abs(row @ column) > 1e-12:
        column = np.cross(normal_vector, row)
    return np.stack([row, column, normal_vector], axis=1)


def _rounding(frames: Sequence[Frame], axis: np.ndarray) -> float:
    """Return how far the texts of the positions may move a slice along an axis, in mm: half of their last digit."""
    last = 0.5 * 10.0 ** -max(frame.decimals[0] for frame in frames)
    return float(last * np.abs(axis).sum())


def _evenly(along: np.ndarray, rounding: float) -> tuple[float, float] | None:
    """Return the first place and step of even slices, as far as rounding explains; None where they are not even."""
    count = len(along)
    step = np.ptp(along) / (count - 1)
    number = np.arange(count)
    if np.abs(along[0] + number * step - along).max() <= min(EXACT * step, FARTHEST):
        return float(along[0]), float(step)
    slope, start = np.polyfit(number, along, 1)
    allowed = min(1.2 * rounding + 1e-6, LARGEST_ROUNDING * slope)
    return (float(start), float(slope)) if np.abs(start + number * slope - along).max() <= allowed else None


def _upright(frames: Sequence[Frame], aside: np.ndarray) -> bool:
    """Return whether the slices are exactly above one another, within the rounding of positions and directions."""
    height = np.linalg.norm(np.subtract(frames[-1].position, frames[0].position))
    digits = max(frame.decimals[1] for frame in frames)
    turned = height * 10.0**-digits if digits >= EXACT_DIGITS else 0.0
    rounding = 2 * _rounding(frames, np.ones(3) / np.sqrt(3)) + turned
    allowed = max(
        min(rounding, LARGEST_ROUNDING * min(frames[0].spacing)), min(FARTHEST, 0.01 * min(frames[0].spacing))
    )
    return bool(np.ptp(aside, axis=0).max() <= allowed)


def _gaps(frames: Sequence[Frame], along: np.ndarray) -> list[tuple[float, float]]:
    """Between which places slices are missing.

    A step is far wider than those next to it, or numbers skip it, or it is one of a short run of wide ones.
    """
    steps = np.diff(along)
    usual = float(np.median(steps))
    runs = _short_runs(steps / usual)
    found = []
    for at, step in enumerate(steps):
        beside = [steps[index] for index in (at - 1, at + 1) if 0 <= index < len(steps)]
        if len(beside) == 1:  # at an end, where a single narrow step beside it would make it wide
            beside = list(steps[1:3] if at == 0 else steps[-3:-1])
        lower, upper = frames[at].instance, frames[at + 1].instance
        skipped = abs(upper - lower) if lower is not None and upper is not None else 1
        times = step / usual
        numbered = skipped >= 2 and times >= WIDE and abs(times - skipped) <= WHOLE * skipped
        if numbered or at in runs or (beside and step > WIDE * max(beside)):
            found.append((float(along[at]), float(along[at + 1])))
    return found


def _short_runs(times: np.ndarray) -> set[int]:
    """Return the numbers of neighboring wide steps, each in units of the usual one, between which slices are missing.

    They are whole multiples of the usual step, with at least as many usual ones on both sides: slices that are taken
    farther apart in a part of the body are so for longer, or to the end.
    """
    whole = np.round(times)
    kinds = np.where(np.abs(times - whole) > WHOLE * whole, -1, np.minimum(whole, 2)).astype(int)  # 1 usual, 2 wide
    ends = np.flatnonzero(np.diff(kinds)) + 1
    runs = list(zip([0, *ends], [*ends, len(kinds)], strict=True))
    found: set[int] = set()
    for before, (start, end), after in zip(runs, runs[1:], runs[2:], strict=False):
        around = [kinds[low] == 1 and high - low >= end - start for low, high in (before, after)]
        if kinds[start] == 2 and end - start <= SHORT_RUN and all(around):
            found.update(range(start, end))
    return found


def _missing(name: str, gaps: Sequence[tuple[float, float]], frames: Sequence[Frame], along: np.ndarray) -> Message:
    """Return the message about gaps between slices."""
    steps = np.diff(along)
    parts: list[Message] = []
    for low, _high in gaps[:LISTED]:
        at = int(np.searchsorted(along, low - SAME_PLACE / 2))
        below, above = frames[at], frames[at + 1]
        gap = _("{step:.3g} mm between {below} at {place} and {above} at {other}")
        parts.append(
            gap.format(step=steps[at], below=below.name, place=_place(below), above=above.name, other=_place(above))
        )
    if len(gaps) > LISTED:
        parts.append(_("and more (number of gaps: {count})").format(count=len(gaps)))
    return _(
        "{series} has missing slices: the distances between its slices are {low:.3g} to {high:.3g} mm, "
        "with {gaps}. Export the whole series again, or interpolate the gaps with --allow-gaps."
    ).format(series=name, low=steps.min(), high=steps.max(), gaps=joined("; ", parts))


def _place(frame: Frame) -> str:
    """Return the position of a frame as text."""
    return f"({', '.join(f'{value:g}' for value in frame.position)})"
