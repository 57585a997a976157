"""Two balls in a volume, at known places of the patient, on grids of many directions."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from LightSegLib.catalog.card import Label
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Segmentation, Volume

RED, GREEN = (230, 40, 40), (40, 210, 60)
LABELS = (Label(1, "Ball one", RED), Label(2, "Ball two", GREEN))

# Directions in LPS: straight, as scanners and converters write them, left-handed, and turned about all axes.
TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
TILT = np.array([[1.0, 0.0, 0.0], [0.0, 0.96, -0.28], [0.0, 0.28, 0.96]])
DIRECTIONS = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "sagittal slices": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "left-handed": np.diag([-1.0, 1.0, 1.0]),
    "oblique": TURN @ TILT,
}


def make_balls(
    direction: np.ndarray, one_ras: tuple[float, ...], two_ras: tuple[float, ...]
) -> tuple[Volume, Segmentation]:
    """Two balls of 6 mm radius at RAS positions, on an anisotropic grid around the world's origin.

    Positions of voxels come from SimpleITK, not of the code under test.
    """
    size, spacing = np.array([36, 44, 28]), np.array([2.0, 1.5, 2.5])
    origin = -direction @ (spacing * (size - 1) / 2)
    image = sitk.Image(size.tolist(), sitk.sitkUInt8)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(origin.tolist())
    image.SetDirection(direction.ravel().tolist())
    lps = sitk.GetArrayFromImage(sitk.PhysicalPointSource(sitk.sitkVectorFloat64, *_grid(image)))
    ras = lps * [-1, -1, 1]
    labels = np.zeros(ras.shape[:3], np.uint8)
    labels[np.linalg.norm(ras - one_ras, axis=-1) < 6] = 1
    labels[np.linalg.norm(ras - two_ras, axis=-1) < 6] = 2
    geometry = Geometry(labels.shape, tuple(spacing), tuple(origin), tuple(direction.ravel()))
    voxels = np.random.default_rng(0).normal(100, 5, labels.shape).astype(np.float32)
    return Volume(voxels, geometry, "balls"), Segmentation(labels, geometry, LABELS)


def _grid(image: sitk.Image) -> tuple[object, ...]:
    return image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()


def find_color(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Mean position (x, y) of the pixels that carry an outline of this color."""
    rows, columns = np.nonzero(np.abs(picture - np.array(color)).max(axis=-1) < 12)
    assert len(rows) > 20, "this color is not in the picture"
    return np.array([columns.mean(), rows.mean()])
