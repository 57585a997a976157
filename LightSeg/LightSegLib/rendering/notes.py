"""The lines below the pictures of a result: what to know of it, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from .palette import BACKGROUND, FAINT, LETTER, Color
from .text import Style, shortened, wrap, write

LINE, SIZE = 22, 16  # height of a line and size of its text in pixels
MOST_LINES = 8  # of notices


def draw_notes(provenance: Mapping[str, Any], width: int) -> Image.Image:
    """Draw the notices of a result, as many as fit, and in a last line the model, its license and the program.

    The first notice ends with dots where it does not fit.
    """
    notices: list[str] = []
    left_out = 0
    for notice in provenance.get("notices", ()):
        wrapped = wrap(str(notice), width, SIZE)
        if left_out or (notices and len(notices) + len(wrapped) > MOST_LINES):
            left_out += 1
        else:
            notices += wrapped[: MOST_LINES - 1]
            if last := " ".join(wrapped[MOST_LINES - 1 : MOST_LINES + 1]):
                notices.append(shortened(last, width, SIZE))
    lines: list[tuple[str, Color]] = [(line, LETTER) for line in notices]
    if left_out:
        lines.append((f"and {left_out} more {'notice' if left_out == 1 else 'notices'}", LETTER))
    lines += [(line, FAINT) for line in wrap("    ".join(_facts(provenance)), width, SIZE)]
    picture = Image.new("RGB", (width, LINE * len(lines)), BACKGROUND)
    for number, (line, color) in enumerate(lines):
        write(picture, line, (0, LINE * number + LINE // 2), Style(SIZE, color))
    return picture


def _facts(provenance: Mapping[str, Any]) -> list[str]:
    """Return how the result was made, for a reader of the picture."""
    facts = []
    if model := provenance.get("title") or provenance.get("model"):
        facts.append(f"Model: {model} {provenance.get('version', '')}".strip())
    if terms := provenance.get("license") or provenance.get("licence"):
        facts.append(f"License of the model: {terms.partition(' (')[0]}")
    if version := provenance.get("lightseg"):
        facts.append(f"Made with LightSeg {version}")
    return [f"{fact}." for fact in facts]
