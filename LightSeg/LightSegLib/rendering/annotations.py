"""What stands around and on the pictures of a result: names, positions, letters, scale bars and the legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .canvas import Canvas, Color
from .slices import Framing, Layer, Plane

BACKGROUND: Color = (24, 26, 31)
PANEL: Color = (0, 0, 0)
BRIGHT: Color = (240, 242, 245)
TEXT: Color = (200, 205, 212)
FAINT: Color = (128, 135, 146)
RULE: Color = (58, 62, 70)
LETTER: Color = (255, 214, 92)
PLANE_COLORS: tuple[Color, ...] = ((243, 74, 51), (110, 176, 75), (237, 213, 76))  # as Slicer's slice views
SURFACE_COLOR: Color = (116, 112, 196)

SIZE = (1600, 1200)
PANEL_SIZE = (584, 536)
PANEL_CORNERS = ((24, 92), (624, 92), (24, 644), (624, 644))
LEGEND_LEFT, LEGEND_RIGHT = 1240, 1576


def annotate_slice(canvas: Canvas, plane: Plane, color: Color, corner: tuple[int, int], framing: Framing) -> None:
    """Name, position, orientation letters and a scale bar on a slice."""
    x, y = corner
    canvas.rectangle(x, y - 4, PANEL_SIZE[0], 4, color)
    position = framing.focus[plane.normal]
    letter = ("RL", "AP", "SI")[plane.normal][0 if position >= 0 else 1]
    canvas.text(plane.name, x + 14, y + 22, 22, BRIGHT, bold=True, halo=PANEL)
    canvas.text(f"{letter} {abs(position):.1f} mm", x + 14, y + 50, 18, BRIGHT, halo=PANEL)
    mark_slice(canvas, plane, corner, PANEL_SIZE, framing.mm_per_pixel)


def mark_slice(
    canvas: Canvas, plane: Plane, corner: tuple[int, int], size: tuple[int, int], mm_per_pixel: float
) -> None:
    """Orientation letters and a scale bar on a slice: what it takes to read it right."""
    (x, y), (width, height) = corner, size
    left, right, top, bottom = plane.letters
    for words, at_x, at_y in (
        (left, x + 24, y + height / 2),
        (right, x + width - 24, y + height / 2),
        (top, x + width / 2, y + 22),
        (bottom, x + width / 2, y + height - 22),
    ):
        canvas.text(words, at_x, at_y, 24, LETTER, bold=True, align="center", halo=PANEL)
    bar_mm = max(mm for mm in (1, 2, 5, 10, 20, 50, 100, 200) if mm / mm_per_pixel < width / 4 or mm == 1)
    end = x + width - 16
    start = end - bar_mm / mm_per_pixel
    for bar_color, thickness in ((PANEL, 5.0), (BRIGHT, 2.5)):
        canvas.polyline([(start, y + height - 18), (end, y + height - 18)], bar_color, thickness)
    canvas.text(f"{bar_mm} mm", end, y + height - 36, 18, BRIGHT, align="right", halo=PANEL)


def draw_legend(canvas: Canvas, layers: Sequence[Layer], provenance: Mapping[str, Any]) -> None:
    """Name, colour and volume of every label, the sum, and below how the result came about."""
    y = PANEL_CORNERS[0][1] + 18
    canvas.text("Segments", LEGEND_LEFT, y, 24, BRIGHT, bold=True)
    canvas.text("ml", LEGEND_RIGHT, y, 20, FAINT, align="right")
    y += 34
    facts = _facts(provenance)
    wrapped = [words for fact in facts for words in canvas.wrapped(fact, LEGEND_RIGHT - LEGEND_LEFT, 17)]
    facts_top = PANEL_CORNERS[3][1] + PANEL_SIZE[1] - 24 * len(wrapped) + 12
    for number, layer in enumerate(layers):
        name = canvas.wrapped(layer.label.name, LEGEND_RIGHT - LEGEND_LEFT - 110, 20) or [""]
        if y + 24 * len(name) > facts_top - 120:
            canvas.text(f"and {len(layers) - number} more", LEGEND_LEFT + 30, y, 20, FAINT)
            y += 36
            break
        canvas.rectangle(LEGEND_LEFT, y - 9, 18, 18, layer.label.color)
        for line, words in enumerate(name):
            canvas.text(words, LEGEND_LEFT + 30, y + 24 * line, 20, TEXT)
        canvas.text(f"{layer.volume_ml:.2f}", LEGEND_RIGHT, y, 20, BRIGHT, align="right")
        y += 24 * len(name) + 12
    canvas.rectangle(LEGEND_LEFT, y - 6, LEGEND_RIGHT - LEGEND_LEFT, 1, RULE)
    canvas.text("Total", LEGEND_LEFT + 30, y + 16, 20, TEXT, bold=True)
    total = sum(layer.volume_ml for layer in layers)
    canvas.text(f"{total:.2f}", LEGEND_RIGHT, y + 16, 20, BRIGHT, bold=True, align="right")

    for number, words in enumerate(wrapped):
        canvas.text(words, LEGEND_LEFT, facts_top + 24 * number, 17, FAINT)


def _facts(provenance: Mapping[str, Any]) -> list[str]:
    """What a reader of the picture should know about its making."""
    facts = []
    if model := provenance.get("title") or provenance.get("model"):
        facts.append(f"Model: {model} {provenance.get('version', '')}".strip())
    if licence := provenance.get("licence"):
        facts.append(f"Licence of the model: {licence}")
    if version := provenance.get("lightseg"):
        facts.append(f"Made with LightSeg {version}")
    return facts


def draw_axes_cross(canvas: Canvas, axes: np.ndarray, x: float, y: float) -> None:
    """Arrows to the patient's right, front and top as the camera sees them; `axes` [3, 3]: across, up, towards."""
    for direction, letter, color in sorted(
        zip(axes, "RAS", ((226, 92, 80), (104, 190, 96), (96, 148, 240)), strict=True), key=lambda item: item[0][2]
    ):
        end = (x + 36 * direction[0], y - 36 * direction[1])
        canvas.polyline([(x, y), end], color, 3)
        canvas.text(letter, x + 50 * direction[0], y - 50 * direction[1], 18, color, bold=True, align="center")
