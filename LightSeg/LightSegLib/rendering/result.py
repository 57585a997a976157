"""Results on one page: three slices, the surface, and the list of labels with their volumes, a row for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..imaging.volume import Segmentation, Volume
from . import palette
from .covers import find_covers
from .framing import frame, index_to_ras
from .layers import Layer, list_layers
from .legend import draw_legend
from .marks import caption_slice, mark_slice
from .notes import draw_notes
from .palette import BACKGROUND, BRIGHT, PANEL, TEXT
from .png import save_png
from .slices import PLANES, draw_slices
from .surface import opengl_works, render_surface
from .text import Style, shortened, text_width, wrap, write

NO_OPENGL = "The 3D surface is left out: this machine has no VTK with a working OpenGL library."
NOTHING = "The 3D surface is left out: no voxel is labeled."

MARGIN, GAP, STRIP = 24, 16, 4  # pixels, as all below
TITLE_HEIGHT = 84
TITLE_SIZES = (34, 28, 22, 16)
PANEL_SIZE = (440, 440)
LEGEND_WIDTH = 396
ROW_HEIGHT = STRIP + PANEL_SIZE[1] + GAP // 2  # without the notes below
WIDTH = 2 * MARGIN + 4 * (PANEL_SIZE[0] + GAP) + LEGEND_WIDTH
CROSS, SMOOTH = 124, 4  # side of the picture of the axes; it is drawn this much finer and averaged


def draw_result(
    volume: Volume,
    result: Segmentation | Sequence[Segmentation],
    path: str | Path,
    title: str | None = None,
) -> str | None:
    """Write a PNG with a row for each result: three slices, the 3D surface, all volumes, and below its notices.

    Where the last result is a detail of others, all are cut where most of it is seen. The surface leaves out what
    would hide most of it (see `covers`), and names that.

    Args:
        volume: what was segmented.
        result: one segmentation or several, on grids of their own.
        path: of the PNG.
        title: the volume's name where none is given.

    Returns:
        None, or one sentence on what the picture lacks.

    Raises:
        OutputError: if the file cannot be written.
    """
    results = [result] if isinstance(result, Segmentation) else list(result)
    width, height = PANEL_SIZE
    notes = [draw_notes(one.provenance, WIDTH - 2 * MARGIN) for one in results]
    heights = [ROW_HEIGHT + one.height + GAP for one in notes]
    whole = Image.new("RGB", (WIDTH, TITLE_HEIGHT + sum(heights)), BACKGROUND)
    title = title or volume.name
    fitting = [size for size in TITLE_SIZES if text_width(title, size, bold=True) <= WIDTH - 2 * MARGIN]
    size = max(fitting, default=min(TITLE_SIZES))
    title = shortened(title, WIDTH - 2 * MARGIN, size, bold=True)
    write(whole, title, (MARGIN, TITLE_HEIGHT // 2), Style(size, BRIGHT, bold=True))

    detail = frame(volume, list_layers(results[-1:]), width, height)
    notices = []
    for number, segmentation in enumerate(results):
        layers = list_layers([segmentation])
        framing = frame(volume, layers, width, height)
        if _is_labeled(segmentation, detail.focus):
            framing = replace(framing, focus=detail.focus)
        surface, notice = _draw_surface(layers)
        notices.append(notice)
        slices = draw_slices(volume, layers, framing, width, height)
        for plane, panel in zip(PLANES, slices, strict=True):
            caption_slice(panel, plane, framing)
            mark_slice(panel, plane, framing.mm_per_pixel)
        x, y = MARGIN, TITLE_HEIGHT + sum(heights[:number])
        for panel, color in zip((*slices, surface), (*palette.PLANES, palette.SURFACE), strict=True):
            whole.paste(color, (x, y, x + width, y + STRIP))
            whole.paste(panel, (x, y + STRIP))
            x += width + GAP
        whole.paste(draw_legend(layers, LEGEND_WIDTH, height), (x, y + STRIP))
        whole.paste(notes[number], (MARGIN, y + ROW_HEIGHT))
    save_png(whole, path)
    return next(filter(None, notices), None)


def _is_labeled(segmentation: Segmentation, place: np.ndarray) -> bool:
    """Return whether a place, RAS in mm [3], has a label."""
    i, j, k = np.rint(np.linalg.inv(index_to_ras(segmentation.geometry)) @ [*place, 1])[:3].astype(int)
    inside = all(0 <= at < length for at, length in zip((k, j, i), segmentation.voxels.shape, strict=True))
    return inside and bool(segmentation.voxels[k, j, i])


def _draw_surface(layers: Sequence[Layer]) -> tuple[Image.Image, str | None]:
    """Return the surface with its title and axes, or the words why there is none; these words are returned, too."""
    width, height = PANEL_SIZE
    notice = None
    covers = find_covers(layers)
    covered = {layer.label.value for entry in covers for layer in entry.layers}
    layers = [layer for layer in layers if layer.label.value not in covered]
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
        hidden = f"without {', '.join(entry.name for entry in covers)}" if covers else ""
        for line, text in enumerate(wrap(hidden, width - 28, 15)):
            write(panel, text, (14, 50 + 20 * line), Style(15, TEXT))
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
