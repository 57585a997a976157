"""Pictures of synthesized images with their labels: what a training will see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...catalog.anatomy import look_up
from ...core.atomic_io import whole_file
from .generator import IGNORED, Sample
from .settings import Settings

GAP = 4  # pixels


def draw_preview(samples: Sequence[Sample], settings: Settings, path: Path) -> None:
    """Write a PNG: for each sample a row of its middle slices (axial, coronal, sagittal), and beside each the labels.

    Raises OutputError.
    """
    import SimpleITK as sitk

    colors = np.zeros((256, 3), np.float32)
    for label, structure in enumerate(settings.structures, start=1):
        colors[label] = look_up(structure.name, label)[1]
    colors[IGNORED] = 40
    rows = [np.concatenate(_tiles(sample, colors), axis=1) for sample in samples]
    gap = np.zeros((GAP, rows[0].shape[1], 3), np.uint8)
    picture = np.concatenate([part for row in rows for part in (row, gap)])
    image = sitk.GetImageFromArray(picture, isVector=True)
    with whole_file(path) as part:
        sitk.WriteImage(image, str(part))


def _tiles(sample: Sample, colors: np.ndarray) -> list[np.ndarray]:
    """Pictures [height, 3 colors], all of one height, front or top up and the subject's right on the left."""
    image, classes = sample.image.numpy(), sample.classes.numpy()
    middle = [length // 2 for length in image.shape]
    height = max(image.shape)
    tiles = []
    for axis in range(3):
        gray = _upright(np.take(image, middle[axis], axis), axis)
        labels = _upright(np.take(classes, middle[axis], axis), axis)
        shown = np.repeat((np.clip(gray, 0, 1) * 255)[..., None], 3, axis=2)
        painted = np.where((labels > 0)[..., None], 0.4 * shown + 0.6 * colors[labels], shown)
        for tile in (shown, painted):
            above = (height - tile.shape[0]) // 2
            padding = ((above, height - tile.shape[0] - above), (GAP, 0), (0, 0))
            tiles.append(np.pad(tile, padding).astype(np.uint8))
    return tiles


def _upright(slice_: np.ndarray, axis: int) -> np.ndarray:
    """Axial slices have the front at the top already; the others run upwards."""
    return slice_ if axis == 0 else slice_[::-1]
