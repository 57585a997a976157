"""Words on a picture, whatever fonts a machine has."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache

from PIL import ImageDraw, ImageFont
from PIL.Image import Image

from .palette import Color

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# The first that the machine has is taken. Pillow's own font comes last: it has neither accents nor a bold form.
FONTS = {
    False: ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf", "arial.ttf", "Helvetica.ttc"),
    True: ("DejaVuSans-Bold.ttf", "LiberationSans-Bold.ttf", "NotoSans-Bold.ttf", "arialbd.ttf", "Arial Bold.ttf"),
}
ANCHORS = {"left": "lm", "center": "mm", "right": "rm"}
HALO = 2  # pixels


@dataclass(frozen=True)
class Style:
    """How letters look: size in pixels, and halo, the color of a rim that keeps them readable on an image."""

    size: int
    color: Color
    bold: bool = False
    halo: Color | None = None


def write(picture: Image, text: str, place: tuple[float, float], style: Style, align: str = "left") -> None:
    """Write one line; `place` (x, y) is the middle of its height and its left end, center or right end by `align`."""
    x, y = place
    font, encoding = _font(style.size, style.bold)
    text = _writable(text, encoding)
    draw = ImageDraw.Draw(picture)
    if isinstance(font, ImageFont.FreeTypeFont):
        rim = 0 if style.halo is None else HALO
        draw.text(place, text, style.color, font, anchor=ANCHORS[align], stroke_width=rim, stroke_fill=style.halo)
        return
    _, _, width, height = draw.textbbox((0, 0), text, font)
    left = x - width * {"left": 0.0, "center": 0.5, "right": 1.0}[align]
    draw.text((round(left), round(y - height / 2)), text, style.color, font)


def text_width(text: str, size: int, bold: bool = False) -> float:
    """Return pixels that `text` takes on one line."""
    font, encoding = _font(size, bold)
    left, _, right, _ = font.getbbox(_writable(text, encoding))
    return right - left


def shortened(text: str, width: float, size: int, bold: bool = False) -> str:
    """Return `text`, or as much of its beginning as fits into `width` pixels with three dots."""
    if text_width(text, size, bold) <= width:
        return text
    length = len(text)
    while length and text_width(f"{text[:length]}...", size, bold) > width:
        length -= 1
    return f"{text[:length].rstrip()}..."


def wrap(text: str, width: float, size: int) -> list[str]:
    """`text` broken into lines of at most `width` pixels; only a longer word is broken itself."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and text_width(lines[-1] + letter, size) > width:
                lines.append("")
            lines[-1] += letter
    return lines


@cache
def _font(size: int, bold: bool) -> tuple[Font, str]:
    """Return a font and the encoding of what it can write."""
    for name in FONTS[bold]:
        try:
            return ImageFont.truetype(name, size), "utf-8"
        except (OSError, ImportError):  # not on this machine, or a Pillow without FreeType
            continue
    try:
        return ImageFont.load_default(size), "ascii"
    except (ImportError, TypeError):  # without FreeType, or before Pillow 10.1: letters of one size
        return ImageFont.load_default(), "latin-1"


def _writable(text: str, encoding: str) -> str:
    """Return a text as one line; letters that the encoding lacks lose their accent or become question marks."""
    letters = []
    for letter in unicodedata.normalize("NFC", " ".join(text.split())):
        if not letter.encode(encoding, "ignore"):
            letter = unicodedata.normalize("NFKD", letter).encode(encoding, "ignore").decode(encoding) or "?"
        letters.append(letter)
    return "".join(letters)
