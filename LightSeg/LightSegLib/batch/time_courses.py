"""The frames of series over time together: their curve as a drawing (SVG), and what the heart does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..catalog.card import Card
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.moment import TRIGGER, ms_text
from ..core.plain_text import for_page
from ..evaluation.heart import HeartFunction, Phase, heart_function
from .records import DONE, Row

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BASE = 520, 240, 52, 12, 14, 196  # of the drawing, in pixels
LARGEST_SERIES = 5000  # frames of a curve
HEADER = (
    "series",
    "chamber",
    "end_diastolic_ml",
    "end_systolic_ml",
    "stroke_volume_ml",
    "ejection_fraction_percent",
    "myocardial_mass_g",
    "end_diastole_frame",
    "end_diastole_ms",
    "end_systole_frame",
    "end_systole_ms",
    "frames",
    "failed_frames",
    "not_found_frames",
    "cut_off_frames",
)


@dataclass
class TimeCourse:
    """The frames of one series.

    Attributes:
        frames: number, ms and volumes in ml by label, of each frame that is done, in order.
        failed: how many have no result.
        images: what identifies the images of which the frames are.
        cut_off: in how many frames each label reaches the border of the image, by name.
    """

    series: str
    kind: str = ""
    frames: list[tuple[int, float | None, Mapping[str, float]]] = field(default_factory=list)
    failed: int = 0
    images: set[str] = field(default_factory=set)
    cut_off: Counter[str] = field(default_factory=Counter)

    @property
    def is_mixed(self) -> bool:
        """Whether the frames are of several images, so that nothing follows from them together."""
        numbers = [number for number, _ms, _ml in self.frames]
        return len(self.images) > 1 or len(set(numbers)) < len(numbers)

    def heart(self, card: Card) -> tuple[HeartFunction, ...]:
        """Return the function of the chambers that a card names; none of frames of several images."""
        return () if self.is_mixed else heart_function(card, self.frames)

    @property
    def has_times(self) -> bool:
        """Whether the time of every frame is known."""
        return all(ms is not None for _number, ms, _ml in self.frames)

    @property
    def axis(self) -> str:
        """What the frames are drawn over."""
        if not self.has_times:
            return _("Frame")
        return _("Trigger time (ms)") if self.kind == TRIGGER else _("Time (ms)")


def time_courses(rows: Iterable[Row]) -> list[TimeCourse]:
    """Return the series over time among the rows, by name, with their frames in order."""
    found: dict[str, TimeCourse] = {}
    for row in rows:
        if not row.series or row.frame is None:
            continue
        course = found.setdefault(row.series, TimeCourse(row.series))
        if row.status != DONE or row.ml is None:
            course.failed += 1
        else:
            course.kind = row.time_kind or course.kind
            course.images.add(row.image_id)
            course.frames.append((row.frame, row.time_ms, row.ml))
            course.cut_off.update(row.cut_off or ())
    for course in found.values():
        course.frames.sort(key=lambda frame: frame[0])
    return [found[name] for name in sorted(found)]


def heart_table(card: Card, courses: Iterable[TimeCourse]) -> Iterator[Sequence[object]]:
    """Yield the header and a line for each chamber of each series."""
    yield HEADER
    for course in courses:
        for one in course.heart(card):
            both = [phase for phase in (one.diastole, one.systole) if phase is not None]
            ml: list[float | None] = [phase.ml for phase in both] or [None, None]
            phases = [value for phase in both for value in (phase.frame, phase.ms)] or [None] * 4
            numbers = (*ml, one.stroke_ml, one.ejection_percent, one.mass_g)
            line = [*("" if value is None else round(value, 3) for value in numbers)]
            line += ["" if value is None else value for value in phases]
            counts = (len(course.frames), course.failed, one.not_found, course.cut_off[one.name])
            yield (course.series, one.name, *line, *counts)


def course_section(card: Card, course: TimeCourse, colors: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield the part of a page on one series: the curve, and the function of the heart."""
    yield f"<section><h3>{for_page(course.series)}</h3>"
    if course.is_mixed:
        yield f"<p>{for_page(mixed_text(course))}</p></section>"
        return
    if course.failed:
        yield f"<p>{course.failed} of {course.failed + len(course.frames)} frames failed and are not in the curve.</p>"
    if len(course.frames) > 1:
        yield draw_course(course, colors)
    yield from (f"<p>{for_page(heart_text(one, course))}</p>" for one in course.heart(card))
    yield "</section>"


def mixed_text(course: TimeCourse) -> Message:
    """Return why nothing is computed of the frames of several images."""
    return _(
        "The results of {series} are of frames of several images, so nothing is computed of them together. "
        "Segment the image again, or each image into a folder of its own."
    ).format(series=course.series)


def heart_text(one: HeartFunction, course: TimeCourse) -> str:
    """Return the function of a chamber as one line, with how many frames do not count in it or are incomplete."""
    parts: list[str] = []
    if one.diastole is not None and one.systole is not None:
        parts.append(
            _("end-diastole {diastole}, end-systole {systole}, stroke volume {stroke:.1f} ml").format(
                diastole=_phase(one.diastole), systole=_phase(one.systole), stroke=one.stroke_ml
            )
        )
        parts.append(_("ejection fraction {percent:.1f} %").format(percent=one.ejection_percent))
    if one.mass_g is not None:
        parts.append(_("myocardial mass {mass:.1f} g").format(mass=one.mass_g))
    if one.not_found:
        parts.append(_("not found in {count} of {frames} frames").format(count=one.not_found, frames=one.frames))
    if cut_off := course.cut_off[one.name]:
        at_border = _("cut off at the border of the image in {count} of {frames} frames, so volumes may be too small")
        parts.append(at_border.format(count=cut_off, frames=one.frames))
    if course.failed:
        count = course.failed + len(course.frames)
        parts.append(_("from {frames} of {count} frames").format(frames=one.frames, count=count))
    return _("{chamber}: {function}").format(chamber=one.name, function=", ".join(parts))


def _phase(phase: Phase) -> str:
    """Return a phase as text."""
    if phase.ms is None:
        return _("{ml:.1f} ml (frame {frame})").format(ml=phase.ml, frame=phase.frame)
    return _("{ml:.1f} ml (frame {frame}, {ms} ms)").format(ml=phase.ml, frame=phase.frame, ms=ms_text(phase.ms))


def draw_course(course: TimeCourse, colors: Mapping[str, Sequence[int]]) -> str:
    """SVG: the volume of every label in ml over the time in ms, or over the frames where it is not known.

    Args:
        course: of two frames and more.
        colors: of the labels to draw.
    """
    step = -(-len(course.frames) // LARGEST_SERIES)
    frames = course.frames[::step]
    x_of = [float(number if ms is None or not course.has_times else ms) for number, ms, _ml in frames]
    names = [name for name in colors if any(name in ml for _number, _ms, ml in frames)]
    highest = max((ml.get(name, 0.0) for _number, _ms, ml in frames for name in names), default=0.0) or 1.0

    def place(x: float, y: float) -> str:
        across = LEFT + (x - x_of[0]) / (x_of[-1] - x_of[0]) * (WIDTH - LEFT - RIGHT)
        return f"{across:.1f} {BASE - y / highest * (BASE - TOP):.1f}"

    summary = f"{course.series}: volumes of {', '.join(names)} over {len(course.frames)} frames"
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{for_page(summary)}">']
    parts.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{BASE}H{WIDTH - RIGHT}"/>')
    for name in names:
        color = f"rgb{tuple(colors[name])}"
        points = [(x, ml[name], number) for x, (number, _ms, ml) in zip(x_of, frames, strict=True) if name in ml]
        line = "L".join(place(x, y) for x, y, _number in points)
        parts.append(f'<path class="course" fill="none" stroke="{color}" stroke-width="2" d="M{line}">')
        parts.append(f"<title>{for_page(name)}</title></path>")
        for x, y, number in points if len(points) <= 100 else ():
            across, down = place(x, y).split()
            label = f"{name}, frame {number}, {ms_text(x)}{' ms' if course.has_times else ''}: {y:.3f} ml"
            parts.append(f'<rect x="{float(across) - 2:.1f}" y="{float(down) - 2:.1f}" width="4" height="4" ')
            parts.append(f'fill="{color}"><title>{for_page(label)}</title></rect>')
    parts += [
        f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{highest:.4g}</text>',
        f'<text x="{LEFT - 6}" y="{BASE}" text-anchor="end">0 ml</text>',
        f'<text x="{LEFT}" y="{BASE + 16}">{ms_text(x_of[0])}</text>',
        f'<text x="{WIDTH - RIGHT}" y="{BASE + 16}" text-anchor="end">{ms_text(x_of[-1])}</text>',
        f'<text x="{(LEFT + WIDTH) // 2}" y="{BASE + 34}" text-anchor="middle">{for_page(course.axis)}</text>',
        "</svg>",
    ]
    return "".join(parts)
