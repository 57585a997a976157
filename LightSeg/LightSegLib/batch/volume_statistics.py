"""The volumes of one label over a cohort: which are unusual, and their histogram as a drawing (SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.plain_text import for_page

FEWEST = 5  # cases: quartiles of fewer say nothing about what is usual
FENCE = 1.5  # interquartile ranges
RULE = "below the first or above the third quartile by more than 1.5 times the distance between them (Tukey's fences)"
WIDTH, HEIGHT, MARGIN, BASE = 420, 190, 14, 150  # of the drawing, in pixels; BASE: where the bars start


@dataclass(frozen=True)
class UsualRange:
    """The usual range of a label's volume in ml.

    Attributes:
        low: the fences between which a volume is usual; None with too few cases.
        high: the fences between which a volume is usual; None with too few cases.
    """

    median: float
    low: float | None
    high: float | None

    def unusual(self, ml: float) -> str:
        """Return "low" or "high" for an unusual volume in ml, else an empty text."""
        if self.low is None or self.high is None:
            return ""
        return "low" if ml < self.low else "high" if ml > self.high else ""


def usual_range(ml: np.ndarray) -> UsualRange:
    """Return the usual range of at least one volume.

    Source: J. W. Tukey, Exploratory Data Analysis (1977); quartiles are interpolated linearly.
    """
    first, median, third = (float(value) for value in np.percentile(ml, (25, 50, 75)))
    if len(ml) < FEWEST:
        return UsualRange(median, None, None)
    return UsualRange(median, first - FENCE * (third - first), third + FENCE * (third - first))


def histogram(ml: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts [n] and edges [n + 1] of 5 to 40 bins, more where there are more cases."""
    return np.histogram(ml, bins=int(np.clip(2 * np.sqrt(len(ml)), 5, 40)))


def draw_histogram(name: str, ml: np.ndarray, usual: UsualRange, color: Sequence[int]) -> str:
    """SVG: a bar for each bin, lines at median and fences, a dot for each unusual case."""
    counts, edges = histogram(ml)

    def x(value: float) -> float:
        return MARGIN + (value - edges[0]) / (edges[-1] - edges[0]) * (WIDTH - 2 * MARGIN)

    unusual = [value for value in ml.tolist() if usual.unusual(value)]
    summary = f"{name}: {_counted(len(ml), 'case')}, {edges[0]:.2f} to {edges[-1]:.2f} ml, median {usual.median:.2f} ml"
    summary += f", {_counted(len(unusual), 'outlier')}" if usual.low is not None else ""
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{for_page(summary)}">']
    for count, left, right in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        height = count / counts.max() * (BASE - 26)
        parts.append(
            f'<rect x="{x(left) + 0.5:.1f}" y="{BASE - height:.1f}" width="{x(right) - x(left) - 1:.1f}" '
            f'height="{height:.1f}" fill="rgb{tuple(color)}" data-count="{count}">'
            f"<title>{left:.3f} to {right:.3f} ml: {_counted(count, 'case')}</title></rect>"
        )
    parts.append(f'<path class="axis" d="M{MARGIN} {BASE}H{WIDTH - MARGIN}"/>')
    for css, value in (("median", usual.median), ("fence", usual.low), ("fence", usual.high)):
        if value is not None and edges[0] <= value <= edges[-1]:
            parts.append(f'<path class="{css}" d="M{x(value):.1f} {18 if css == "median" else 30}V{BASE}"/>')
    parts += [f'<circle cx="{x(value):.1f}" cy="{BASE + 9}" r="3.5"/>' for value in unusual]
    # the highest bar's count, away from the median
    most, side = (MARGIN, "start") if x(usual.median) > WIDTH / 2 else (WIDTH - MARGIN, "end")
    middle = min(max(x(usual.median), 60), WIDTH - 60)
    parts += [
        f'<text x="{middle:.1f}" y="12" text-anchor="middle">median {usual.median:.2f} ml</text>',
        f'<text x="{MARGIN}" y="{HEIGHT - 8}">{edges[0]:.2f}</text>',
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 8}" text-anchor="end">{edges[-1]:.2f} ml</text>',
        f'<text x="{most}" y="24" text-anchor="{side}">{counts.max()} cases</text>',
        "</svg>",
    ]
    return "".join(parts)


def _counted(count: int, word: str) -> str:
    """Return a number with what it counts."""
    return f"{count} {word}{'' if count == 1 else 's'}"
