"""The few letters and digits that slices carry, drawn as strokes: without VTK there is no font."""

from __future__ import annotations

from functools import cache

import numpy as np

from .canvas import Canvas

Stroke = tuple[tuple[float, float], ...]

# Each glyph lies in a box 6 wide and 10 high, y down; curves are short straight lines.
GLYPHS: dict[str, tuple[Stroke, ...]] = {
    "R": (((0, 10), (0, 0), (3.6, 0), (5, 0.8), (5.4, 2.6), (5, 4.4), (3.6, 5.2), (0, 5.2)), ((3, 5.2), (5.6, 10))),
    "L": (((0, 0), (0, 10), (5.2, 10)),),
    "A": (((0, 10), (3, 0), (6, 10)), ((1.1, 6.4), (4.9, 6.4))),
    "P": (((0, 10), (0, 0), (3.6, 0), (5, 0.8), (5.4, 2.8), (5, 4.8), (3.6, 5.6), (0, 5.6)),),
    "S": (
        (
            *((5.4, 1.6), (4.4, 0.3), (3, 0), (1.4, 0.3), (0.5, 1.4), (0.5, 3), (1.5, 4.3), (4.4, 5.5), (5.4, 6.8)),
            *((5.4, 8.4), (4.5, 9.6), (3, 10), (1.4, 9.7), (0.3, 8.3)),
        ),
    ),
    "I": (((3, 0), (3, 10)),),
    "0": (
        (
            *((3, 0), (1.4, 0.6), (0.6, 2.4), (0.5, 5), (0.6, 7.6), (1.4, 9.4), (3, 10)),
            *((4.6, 9.4), (5.4, 7.6), (5.5, 5), (5.4, 2.4), (4.6, 0.6), (3, 0)),
        ),
    ),
    "1": (((1.4, 2), (3.4, 0), (3.4, 10)),),
    "2": (((0.6, 2.4), (1.2, 0.8), (3, 0), (4.6, 0.6), (5.3, 2.2), (4.8, 4.2), (0.5, 10), (5.5, 10)),),
    "5": (
        ((5, 0), (1.2, 0), (0.8, 4.6), (2.8, 3.8), (4.5, 4.3), (5.4, 6), (5.2, 8.4), (3.8, 9.8), (2, 10), (0.5, 8.8)),
    ),
    "m": (
        ((0, 3.6), (0, 10)),
        ((0, 5.2), (1, 3.8), (2.2, 3.8), (3, 5), (3, 10)),
        ((3, 5.2), (4, 3.8), (5.2, 3.8), (6, 5), (6, 10)),
    ),
    " ": (),
}


@cache
def text_mask(words: str, size: int, bold: bool = False) -> np.ndarray:
    """Coverage [height, width], 0 to 1, of one line of text; KeyError for a letter without a glyph."""
    unit = size * 0.07  # capitals are 0.7 of the size high, as in common fonts
    width = size * (0.125 if bold else 0.085)
    canvas = Canvas(round(len(words) * 8.4 * unit + 2 * width), round(size * 1.1), (0, 0, 0), text_mask)
    for number, letter in enumerate(words):
        left, top = number * 8.4 * unit + 1.2 * unit + width, size * 0.2
        for stroke in GLYPHS[letter]:
            canvas.polyline([(left + x * unit, top + y * unit) for x, y in stroke], (255, 255, 255), width)
    return np.asarray(canvas.pixels[..., 0] / np.float32(255))
