"""The list beside the pictures of a result: color, name and volume of every label, and how the result came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from .layers import Layer
from .palette import BACKGROUND, BRIGHT, FAINT, RULE, TEXT
from .text import Style, wrap, write

LINE = 24  # pixels
SWATCH, INDENT, NUMBERS = 18, 30, 110  # width of a label's color, of the columns before its name and after it


def draw_legend(layers: Sequence[Layer], provenance: Mapping[str, Any], width: int, height: int) -> Image.Image:
    """Draw the labels with their volumes, as many as fit, and how the result was made."""
    picture = Image.new("RGB", (width, height), BACKGROUND)
    facts = [line for fact in _facts(provenance) for line in wrap(fact, width, 17)]
    facts_top = height - LINE * len(facts) + LINE // 2
    write(picture, "Segments", (0, 18), Style(24, BRIGHT, bold=True))
    write(picture, "ml", (width, 18), Style(20, FAINT), align="right")
    y = 52
    for number, layer in enumerate(layers):
        name = wrap(layer.label.name, width - NUMBERS, 20) or [""]
        if y + LINE * len(name) > facts_top - 120:
            write(picture, f"and {len(layers) - number} more", (INDENT, y), Style(20, FAINT))
            y += 36
            break
        picture.paste(layer.label.color, (0, y - SWATCH // 2, SWATCH, y + SWATCH // 2))
        for line, text in enumerate(name):
            write(picture, text, (INDENT, y + LINE * line), Style(20, TEXT))
        write(picture, f"{layer.volume_ml:.2f}", (width, y), Style(20, BRIGHT), align="right")
        y += LINE * len(name) + 12
    picture.paste(RULE, (0, y - 6, width, y - 5))
    write(picture, "Total", (INDENT, y + 16), Style(20, TEXT, bold=True))
    total = sum(layer.volume_ml for layer in layers)
    write(picture, f"{total:.2f}", (width, y + 16), Style(20, BRIGHT, bold=True), align="right")
    for line, text in enumerate(facts):
        write(picture, text, (0, facts_top + LINE * line), Style(17, FAINT))
    return picture


def _facts(provenance: Mapping[str, Any]) -> list[str]:
    """Return how the result was made, for a reader of the picture."""
    facts = []
    if model := provenance.get("title") or provenance.get("model"):
        facts.append(f"Model: {model} {provenance.get('version', '')}".strip())
    if terms := provenance.get("license") or provenance.get("licence"):
        facts.append(f"License of the model: {terms}")
    if version := provenance.get("lightseg"):
        facts.append(f"Made with LightSeg {version}")
    return facts
