"""The list beside the pictures of a result: color, name and volume of every label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from .layers import Layer
from .palette import BACKGROUND, BRIGHT, FAINT, TEXT, Color
from .text import Style, wrap, write

TOP = 48  # pixels, as all below: where the first label is
INDENT, NUMBER = 28, 66  # widths of the columns before the names, and of each column of volumes
LINES = ((34, 20), (26, 18), (20, 15))  # height of a line and size of its text: the first with which all fits
SIDES = ("Left ", "Right ")


@dataclass(frozen=True)
class Entry:
    """A line of the list: a label, or one of the left and its counterpart of the right; volumes in ml."""

    name: str
    color: Color
    layers: tuple[Layer, ...]

    @property
    def volumes(self) -> tuple[float, ...]:
        """Volume of each side in ml."""
        return tuple(layer.volume_ml for layer in self.layers)


def list_entries(layers: Sequence[Layer]) -> list[Entry]:
    """Return the lines for labels in their order; "Left X" and "Right X" of the same color are one line, "X"."""
    right = {(layer.label.name, layer.label.color): layer for layer in layers}
    entries, listed = [], set()
    for layer in layers:
        label = layer.label
        if label.name in listed:
            continue
        rest = label.name.removeprefix(SIDES[0])
        other = right.get((SIDES[1] + rest, label.color)) if rest != label.name else None
        if other is None:
            entries.append(Entry(label.name, label.color, (layer,)))
        else:
            listed.add(other.label.name)
            entries.append(Entry(rest[:1].upper() + rest[1:], label.color, (layer, other)))
    return entries


def draw_legend(layers: Sequence[Layer], width: int, height: int) -> Image.Image:
    """Draw the labels with their volumes, as many as fit."""
    picture = Image.new("RGB", (width, height), BACKGROUND)
    entries = list_entries(layers)
    columns = max((len(entry.volumes) for entry in entries), default=1)
    write(picture, "Segments", (0, 16), Style(22, BRIGHT, bold=True))
    for column, head in enumerate(("ml",) if columns == 1 else ("R, ml", "L, ml")):
        write(picture, head, (width - NUMBER * column, 16), Style(16, FAINT), align="right")
    for line, size in LINES:
        names = [wrap(entry.name, width - INDENT - NUMBER * columns, size) or [""] for entry in entries]
        if TOP + line * sum(map(len, names)) <= height:
            break
    y = TOP
    for number, (entry, name) in enumerate(zip(entries, names, strict=True)):
        last = number == len(entries) - 1
        if y + line * (len(name) + (not last)) > height + line // 2:
            write(picture, f"and {len(entries) - number} more", (INDENT, y), Style(size, FAINT))
            break
        picture.paste(entry.color, (0, y - size // 2, size, y + size // 2))
        for place, text in enumerate(name):
            write(picture, text, (INDENT, y + line * place), Style(size, TEXT))
        middle = (columns - len(entry.volumes)) / 2  # what is of no side is between the columns
        for column, volume in enumerate(reversed(entry.volumes)):
            edge = width - round(NUMBER * (column + middle))
            write(picture, f"{volume:.2f}", (edge, y), Style(size, BRIGHT), align="right")
        y += line * len(name)
    return picture
