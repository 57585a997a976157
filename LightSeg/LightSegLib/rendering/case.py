"""One case of many at a glance: three planes with the outlines of the labels, without VTK and without a screen."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..imaging.volume import Segmentation, Volume
from . import palette
from .framing import frame
from .layers import list_layers
from .marks import mark_slice
from .png import save_png
from .slices import PLANES, draw_slices

SIDE, GAP, STRIP = 320, 8, 4  # pixels


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
    save_png(whole, path)
