"""Pictures of synthesized images with their labels: what a training will see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...catalog.anatomy import look_up
from ...rendering.palette import BRIGHT, PANEL
from ...rendering.png import save_png
from ...rendering.text import Style, write
from .generator import IGNORED, Sample
from .settings import Settings

GAP = 4  # pixels
SIDE = 240  # pixels that the longest side of a tile has at least
FILL = 0.6  # opacity of the labels


def draw_preview(samples: Sequence[Sample], settings: Settings, path: Path) -> None:
    """Write a PNG: for each sample a row of its middle slices (axial, coronal, sagittal), and beside each the labels.

    Voxels are squares, since what the training sees is on show.

    Raises:
        OutputError: if the file or folder cannot be written.
    """
    colors = np.zeros((256, 3), np.uint8)
    for label, structure in enumerate(settings.structures, start=1):
        colors[label] = look_up(structure.name, label)[1]
    colors[IGNORED] = 40
    rows = [_tiles(sample, colors) for sample in samples]
    width = sum(tile.width + GAP for tile in rows[0]) - GAP
    height = max(tile.height for tile in rows[0])
    picture = Image.new("RGB", (width, len(rows) * (height + GAP) - GAP))
    for row, (sample, tiles) in enumerate(zip(samples, rows, strict=True)):
        left, top = 0, row * (height + GAP)
        for tile in tiles:
            picture.paste(tile, (left, top + (height - tile.height) // 2))
            left += tile.width + GAP
        write(picture, sample.kind, (8, top + 14), Style(18, BRIGHT, halo=PANEL))
    save_png(picture, path)


def _tiles(sample: Sample, colors: np.ndarray) -> list[Image.Image]:
    """Return the slices without and with labels, front or top up and the subject's right on the left."""
    image, classes = sample.image.numpy(), sample.classes.numpy()
    scale = -(-SIDE // max(image.shape))
    tiles = []
    for axis, length in enumerate(image.shape):
        gray = _upright(np.take(image, length // 2, axis), axis)
        labels = _upright(np.take(classes, length // 2, axis), axis)
        plain = Image.fromarray((np.clip(gray, 0, 1) * 255).astype(np.uint8)).convert("RGB")
        painted = Image.blend(plain, Image.fromarray(colors[labels]), FILL)
        painted = Image.composite(painted, plain, Image.fromarray(np.uint8(255) * (labels > 0)))
        size = (scale * plain.width, scale * plain.height)
        tiles += [tile.resize(size, Image.Resampling.NEAREST) for tile in (plain, painted)]
    return tiles


def _upright(slice_: np.ndarray, axis: int) -> np.ndarray:
    """Axial slices have the front at the top already; the others run upwards."""
    return slice_ if axis == 0 else slice_[::-1]
