"""What it takes to read a slice right: its position, the sides of the patient and a scale bar."""

from __future__ import annotations

from PIL import ImageDraw
from PIL.Image import Image

from .framing import Framing
from .palette import BRIGHT, LETTER, PANEL
from .slices import Plane
from .text import Style, write

BAR_MM = (1, 2, 5, 10, 20, 50, 100, 200)


def mark_slice(picture: Image, plane: Plane, mm_per_pixel: float) -> None:
    """Orientation letters and a scale bar on the picture of a slice."""
    width, height = picture.size
    left, right, top, bottom = plane.letters
    for letter, x, y in (
        (left, 24.0, height / 2),
        (right, width - 24.0, height / 2),
        (top, width / 2, 22.0),
        (bottom, width / 2, height - 22.0),
    ):
        write(picture, letter, (x, y), Style(24, LETTER, bold=True, halo=PANEL), align="center")
    bar_mm = max(mm for mm in BAR_MM if mm / mm_per_pixel < width / 4 or mm == BAR_MM[0])
    end, y = width - 16, height - 19
    start = round(end - bar_mm / mm_per_pixel)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((start - 2, y - 2, end + 1, y + 3), PANEL)
    draw.rectangle((start, y, end - 1, y + 1), BRIGHT)
    write(picture, f"{bar_mm} mm", (end, y - 17), Style(18, BRIGHT, halo=PANEL), align="right")


def caption_slice(picture: Image, plane: Plane, framing: Framing) -> None:
    """Name of the plane and where it cuts the patient, for example "I 17.5 mm"."""
    position = framing.focus[plane.normal]
    letter = ("RL", "AP", "SI")[plane.normal][0 if position >= 0 else 1]
    write(picture, plane.name, (14, 22), Style(22, BRIGHT, bold=True, halo=PANEL))
    write(picture, f"{letter} {abs(position):.1f} mm", (14, 50), Style(18, BRIGHT, halo=PANEL))
