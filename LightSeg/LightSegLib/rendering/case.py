"""One case of many at a glance: three planes with the outlines of the labels, without VTK and without a screen.

Below them are the names of the structures, where they are few enough to fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..imaging.volume import Segmentation, Volume
from . import palette
from .framing import frame
from .layers import list_layers
from .legend import Entry, list_entries
from .marks import mark_slice
from .png import save_png
from .slices import PLANES, draw_slices
from .text import Style, text_width, write

SIDE, GAP, STRIP = 320, 8, 4  # pixels
NAME_LINE, NAME_SIZE = 24, 16


def draw_case(volume: Volume, segmentation: Segmentation, path: str | Path) -> None:
    """Write a PNG: axial, coronal and sagittal cut side by side, each where it crosses most labeled voxels.

    Raises:
        OutputError: if the file cannot be written.
    """
    layers = list_layers([segmentation])
    framing = frame(volume, layers, SIDE, SIDE)
    whole = Image.new("RGB", (3 * SIDE + 2 * GAP, SIDE + STRIP), palette.BACKGROUND)
    pictures = draw_slices(volume, layers, framing, SIDE, SIDE)
    for number, (plane, color, picture) in enumerate(zip(PLANES, palette.PLANES, pictures, strict=True)):
        left = number * (SIDE + GAP)
        mark_slice(picture, plane, framing.mm_per_pixel)
        whole.paste(color, (left, 0, left + SIDE, STRIP))
        whole.paste(picture, (left, STRIP))
    save_png(_with_names(whole, list_entries(layers)), path)


def _with_names(picture: Image.Image, entries: Sequence[Entry]) -> Image.Image:
    """Return a picture with a line below it that has the name and color of each structure, if all of them fit."""
    widths = [NAME_LINE + text_width(entry.name, NAME_SIZE) + NAME_LINE for entry in entries]
    if sum(widths) > picture.width:
        return picture
    named = Image.new("RGB", (picture.width, picture.height + NAME_LINE), palette.BACKGROUND)
    named.paste(picture)
    left, middle = 0, picture.height + NAME_LINE // 2
    for entry, width in zip(entries, widths, strict=True):
        named.paste(entry.color, (left, middle - NAME_SIZE // 2, left + NAME_SIZE, middle + NAME_SIZE // 2))
        write(named, entry.name, (left + NAME_LINE, middle), Style(NAME_SIZE, palette.TEXT))
        left += round(width)
    return named
