"""An image at coarser resolutions, and elsewhere: means of voxels, whose order of computation is fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...imaging.geometry import Geometry, to_sitk

PERCENTILES = (0.5, 99.8)  # of intensities that become 0 and 1

Level = tuple[np.ndarray, Geometry]  # an image [k, j, i] and its geometry


def unit(voxels: np.ndarray) -> np.ndarray:
    """Return the intensities with the range between two percentiles as 0 to 1, float32."""
    sample = np.sort(voxels[tuple(slice(None, None, 1 + length // 96) for length in voxels.shape)], axis=None)
    low, high = (float(sample[round(p / 100 * (sample.size - 1))]) for p in PERCENTILES)
    scaled = voxels.astype(np.float32)
    scaled -= low
    scaled /= max(high - low, 1e-6)
    return np.clip(scaled, 0, 1, out=scaled)


def averaged(image: np.ndarray, geometry: Geometry, mm: float | Sequence[float]) -> Level:
    """Return the image averaged to voxels of about `mm`, of all axes or each of k, j, i, along those that are finer."""
    new = [
        max(1, round(n * s / size)) if s < size else n
        for n, s, size in zip(geometry.shape, geometry.spacing[::-1], np.broadcast_to(mm, 3), strict=True)
    ]
    for axis, length in enumerate(new):
        image = _means(image, axis, length)
    scale = np.array(geometry.shape[::-1]) / np.array(new[::-1])
    to_old = np.diag([*scale, 1.0])
    to_old[:3, 3] = (scale - 1) / 2
    k, j, i = new
    return image, Geometry.from_index_to_world(geometry.index_to_world @ to_old, (k, j, i))


def _means(image: np.ndarray, axis: int, new: int) -> np.ndarray:
    """Means along an axis over `new` parts of equal length, voxels at their borders by their shares."""
    old = image.shape[axis]
    if new == old:
        return image
    edges = np.arange(new + 1) * old / new
    first = np.floor(edges[:-1] + 1e-9).astype(int)
    total: Any = 0
    for step in range(math.ceil(old / new) + 1):
        covered = np.minimum(edges[1:], first + step + 1) - np.maximum(edges[:-1], first + step)
        share = (np.maximum(covered, 0) * new / old).astype(np.float32)
        if share.any():
            along = share.reshape([-1 if a == axis else 1 for a in range(3)])
            total = total + along * np.take(image, np.minimum(first + step, old - 1), axis)
    return np.asarray(total)


def upright(level: Level, mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image on a grid along L, P, S: voxels and where they are known, [k, j, i], and LPS of the first."""
    import SimpleITK as sitk

    image, geometry = level
    k, j, i = geometry.shape
    corners = np.array([[x, y, z, 1] for x in (-0.5, i - 0.5) for y in (-0.5, j - 0.5) for z in (-0.5, k - 0.5)])
    world = (geometry.index_to_world @ corners.T)[:3].T
    low, high = world.min(axis=0), world.max(axis=0)
    size = [max(1, round(float(length) / mm)) for length in high - low]
    origin = (low + high) / 2 - mm * (np.array(size) - 1) / 2
    grid = (size, sitk.Transform(), sitk.sitkLinear, origin.tolist(), [mm] * 3, np.eye(3).ravel().tolist())
    smooth = averaged(image, geometry, mm)
    known = sitk.Resample(to_sitk(np.ones(smooth[0].shape, np.float32), smooth[1]), *grid, 0.0)
    return (
        sitk.GetArrayFromImage(sitk.Resample(as_itk(smooth), *grid, 0.0)),
        sitk.GetArrayFromImage(known) > 0.5,
        origin,
    )


def moved(level: Level, grid: Level, matrix: np.ndarray) -> np.ndarray:
    """Return an image interpolated on the grid of another, to which `matrix` goes from there; -1 outside."""
    import SimpleITK as sitk

    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    moved = sitk.Resample(as_itk(level), as_itk(grid), transform, sitk.sitkLinear, -1.0, sitk.sitkFloat32)
    return sitk.GetArrayFromImage(moved)


def as_itk(level: Level) -> Any:
    """Return a level as a SimpleITK image."""
    return to_sitk(level[0], level[1])
