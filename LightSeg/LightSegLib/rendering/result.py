"""A result on one page: three slices, the surface, and the list of labels with their volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..imaging.volume import Segmentation, Volume
from . import palette
from .framing import frame
from .layers import Layer, list_layers
from .legend import draw_legend
from .marks import caption_slice, mark_slice
from .palette import BACKGROUND, BRIGHT, PANEL, TEXT
from .png import save_png
from .slices import PLANES, draw_slices
from .surface import opengl_works, render_surface
from .text import Style, text_width, wrap, write

NO_OPENGL = "The 3D surface is left out: this machine has no VTK with a working OpenGL library."
NOTHING = "The 3D surface is left out: no voxel is labeled."

SIZE = (1600, 1200)  # pixels, as all below
TITLE_SIZES = (34, 28, 22, 16)
PANEL_SIZE = (584, 536)
PANEL_CORNERS = ((24, 92), (624, 92), (24, 644), (624, 644))
LEGEND_CORNER = (1240, 92)
LEGEND_SIZE = (336, 1088)
STRIP = 4
CROSS, SMOOTH = 124, 4  # side of the picture of the axes; it is drawn this much finer and averaged


def draw_result(
    volume: Volume, result: Segmentation | Sequence[Segmentation], path: str | Path, title: str | None = None
) -> str | None:
    """Write a PNG with axial, coronal and sagittal overlays, the 3D surface and all volumes.

    `result` may be one segmentation or several. Returns a sentence on what the picture lacks, or None.

    `result` may be several segmentations, on grids of their own, for example of both sides. Returns None, or one
    sentence on what the picture lacks.

    Raises:
        OutputError: if the file cannot be written.
    """
    results = [result] if isinstance(result, Segmentation) else list(result)
    layers = list_layers(results)
    whole = Image.new("RGB", SIZE, BACKGROUND)
    title = title or volume.name
    fitting = [size for size in TITLE_SIZES if text_width(title, size, bold=True) <= SIZE[0] - 48]
    write(whole, title, (24, 46), Style(max(fitting, default=min(TITLE_SIZES)), BRIGHT, bold=True))

    framing = frame(volume, layers, *PANEL_SIZE)
    panels = draw_slices(volume, layers, framing, *PANEL_SIZE)
    for plane, panel in zip(PLANES, panels, strict=True):
        caption_slice(panel, plane, framing)
        mark_slice(panel, plane, framing.mm_per_pixel)
    surface, notice = _draw_surface(layers)
    colors = (*palette.PLANES, palette.SURFACE)
    for panel, color, (x, y) in zip((*panels, surface), colors, PANEL_CORNERS, strict=True):
        whole.paste(color, (x, y - STRIP, x + PANEL_SIZE[0], y))
        whole.paste(panel, (x, y))
    whole.paste(draw_legend(layers, results[0].provenance if results else {}, *LEGEND_SIZE), LEGEND_CORNER)
    save_png(whole, path)
    return notice


def _draw_surface(layers: Sequence[Layer]) -> tuple[Image.Image, str | None]:
    """Return the surface with its title and axes, or the words why there is none; these words are returned, too."""
    width, height = PANEL_SIZE
    notice = None
    if not any(layer.box for layer in layers):
        notice = NOTHING
    elif not opengl_works():
        notice = NO_OPENGL
    if notice:
        panel = Image.new("RGB", PANEL_SIZE, PANEL)
        for line, text in enumerate(wrap(notice, width - 160, 20)):
            write(panel, text, (width / 2, height / 2 + 28 * line), Style(20, TEXT), align="center")
    else:
        panel, axes = render_surface(layers, width, height)
        _draw_axes(panel, axes, 0, height - CROSS)
    write(panel, "Surface", (14, 22), Style(22, BRIGHT, bold=True))
    return panel, notice


def _draw_axes(panel: Image.Image, axes: np.ndarray, left: int, top: int) -> None:
    """Lines to the patient's right, front and top as the camera sees them; `axes` [3, 3]: across, up, toward."""
    middle = CROSS / 2
    for direction, letter, color in sorted(
        zip(axes, "RAS", palette.AXES, strict=True), key=lambda item: float(item[0][2])
    ):
        x, y = float(direction[0]), -float(direction[1])
        line = Image.new("L", (CROSS * SMOOTH, CROSS * SMOOTH))
        ends = [(SMOOTH * (middle + length * x), SMOOTH * (middle + length * y)) for length in (0, 36)]
        ImageDraw.Draw(line).line(ends, 255, 3 * SMOOTH)
        panel.paste(color, (left, top), line.reduce(SMOOTH))
        write(
            panel, letter, (left + middle + 50 * x, top + middle + 50 * y), Style(18, color, bold=True), align="center"
        )
