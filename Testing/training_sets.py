"""Labeled images for the tests of training: bright balls in noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.training.options import TrainingOptions

QUICK = TrainingOptions(epochs=4, batch_size=2, patch_size=(16, 16, 16), warmup_epochs=1, validate_every=2, seed=3)


def write(path: Path, voxels: np.ndarray) -> None:
    import SimpleITK as sitk

    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(to_sitk(voxels, Geometry(voxels.shape)), str(path))  # type: ignore[arg-type]


def ball(random: np.random.Generator, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball in noise, its upper half labeled 1 and its lower half 2."""
    k, j, i = np.indices((size, size, size))
    center = random.uniform(size * 0.4, size * 0.6, 3)
    inside = (k - center[0]) ** 2 + (j - center[1]) ** 2 + (i - center[2]) ** 2 < (size * 0.3) ** 2
    image = (inside * 3 + random.normal(size=inside.shape)).astype(np.float32)
    return image, (inside * np.where(k > center[0], 1, 2)).astype(np.uint8)
