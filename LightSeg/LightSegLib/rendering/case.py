"""One case of many at a glance: three planes with the outlines of the labels, without VTK and without a screen."""

from __future__ import annotations

from pathlib import Path

from ..imaging.volume import Segmentation, Volume
from .annotations import BACKGROUND, PLANE_COLORS, mark_slice
from .canvas import Canvas
from .slices import PLANES, draw_slices, frame, list_layers
from .strokes import text_mask

SIDE, GAP, STRIP = 320, 8, 4  # pixels


def draw_case(volume: Volume, segmentation: Segmentation, path: str | Path) -> None:
    """Write a PNG: axial, coronal and sagittal cut side by side, each where it crosses most labelled voxels.

    Raises OutputError where the file cannot be written.
    """
    layers = list_layers([segmentation])
    framing = frame(volume, layers, SIDE, SIDE)
    canvas = Canvas(3 * SIDE + 2 * GAP, SIDE + STRIP, BACKGROUND, text_mask)
    pictures = draw_slices(volume, layers, framing, SIDE, SIDE)
    for number, (plane, color, picture) in enumerate(zip(PLANES, PLANE_COLORS, pictures, strict=True)):
        left = number * (SIDE + GAP)
        canvas.rectangle(left, 0, SIDE, STRIP, color)
        canvas.paste(picture, left, STRIP)
        mark_slice(canvas, plane, (left, STRIP), (SIDE, SIDE), framing.mm_per_pixel)
    canvas.save(path)
