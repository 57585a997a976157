"""Images of imaginary bodies: soft shapes of several intensities, with noise, on any grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def tissue(shape: Sequence[int], spacing: Sequence[float], seed: int) -> np.ndarray:
    """Smooth intensities [k, j, i] around 0 with deviation 1, of structures some centimeters wide, and a little noise.

    spacing: of the axes i, j, k in mm.
    """
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=tuple(shape))
    voxels = np.zeros(tuple(shape))
    for width in (12.0, 5.0):
        smooth = ndimage.gaussian_filter(noise, [width / mm for mm in spacing[::-1]])
        voxels += smooth / smooth.std()
    return voxels / voxels.std() + 0.05 * rng.normal(size=tuple(shape))


def ellipsoid(shape: Sequence[int], size: float = 0.9) -> np.ndarray:
    """Mask [k, j, i] of an ellipsoid whose axes are `size` of the image's."""
    lines = np.ogrid[tuple(slice(-1, 1, complex(0, length)) for length in shape)]
    k, j, i = (line**2 for line in lines)
    return k + j + i < size**2


def hounsfield(shape: Sequence[int], spacing: Sequence[float], seed: int = 0) -> np.ndarray:
    """A CT [k, j, i]: a body of about 0 to 200 HU in air."""
    voxels = np.where(ellipsoid(shape), 80 + 60 * tissue(shape, spacing, seed), -1000)
    return np.clip(np.rint(voxels), -1024, 3071).astype(np.int16)


def magnetic_resonance(shape: Sequence[int], spacing: Sequence[float], seed: int = 0, size: float = 0.9) -> np.ndarray:
    """An MR [k, j, i]: a body of positive intensities, exactly 0 around it."""
    voxels = np.where(ellipsoid(shape, size), 400 + 90 * tissue(shape, spacing, seed), 0)
    return np.clip(np.rint(voxels), 0, 4095).astype(np.int16)


def write(
    path: Path,
    voxels: np.ndarray,
    spacing: Sequence[float],
    origin: Sequence[float] = (-31.5, 12.25, 104.0),
    direction: Sequence[float] = LPS,
) -> Path:
    """Write voxels [k, j, i] with the geometry of their axes i, j, k in mm."""
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(tuple(spacing))
    image.SetOrigin(tuple(origin))
    image.SetDirection(tuple(direction))
    sitk.WriteImage(image, str(path), True)
    return path
