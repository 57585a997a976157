"""A CT that looks like a body to a program: air around it, fat and muscle, organs of their own brightness, a table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

FAT, MUSCLE = 1, 2  # labels; the table is as bright as fat and counts as it
NOISE = 12  # HU, standard deviation everywhere but in air

# An ellipsoid each: HU, then center and radii along k, j, i, as fractions of half the image. Their brightness
# distinguishes them apart, so that the networks of the benchmark, which are not trained, find them.
ORGANS = (
    (-640, (0.45, -0.05, -0.30), (0.45, 0.30, 0.17)),
    (-500, (0.45, -0.05, 0.30), (0.45, 0.30, 0.17)),
    (-370, (-0.55, -0.10, 0.00), (0.22, 0.12, 0.26)),
    (-230, (-0.20, -0.20, -0.05), (0.14, 0.10, 0.12)),
    (170, (-0.10, -0.05, -0.32), (0.22, 0.26, 0.20)),
    (270, (-0.10, 0.05, 0.36), (0.16, 0.14, 0.12)),
    (370, (-0.35, 0.18, -0.24), (0.14, 0.10, 0.09)),
    (470, (-0.35, 0.18, 0.24), (0.14, 0.10, 0.09)),
    (570, (0.42, -0.08, 0.02), (0.18, 0.18, 0.11)),
    (680, (-0.05, 0.30, 0.00), (1.20, 0.08, 0.08)),
    (820, (-0.85, 0.10, -0.36), (0.25, 0.14, 0.12)),
    (980, (-0.85, 0.10, 0.36), (0.25, 0.14, 0.12)),
)
BRIGHTNESS = (-1024, -100, 45, *(organ[0] for organ in ORGANS))  # HU of the labels 0 (air), 1, 2, ...


def phantom(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """The CT in HU, int16 [k, j, i]."""
    random, brightness = np.random.default_rng(seed), np.array(BRIGHTNESS)
    voxels = np.empty(shape, np.int16)
    z, y, x = (np.linspace(-1, 1, length) for length in shape)
    y, x = y[:, None], x[None, :]
    for k, height in enumerate(z):
        plane, size = np.zeros(shape[1:], np.uint8), 1 - 0.08 * height**2
        distance = (x / (0.72 * size)) ** 2 + (y / (0.50 * size)) ** 2
        plane[distance < 1] = FAT
        plane[distance < 0.85] = MUSCLE
        plane[(np.abs(y - 0.62) < 0.03) & (np.abs(x) < 0.8)] = FAT  # the table
        for label, (_, center, radii) in enumerate(ORGANS, start=MUSCLE + 1):
            rest = 1 - ((height - center[0]) / radii[0]) ** 2
            plane[((y - center[1]) / radii[1]) ** 2 + ((x - center[2]) / radii[2]) ** 2 < rest] = label
        noise = np.where(plane > 0, random.normal(0, NOISE, plane.shape), 0)
        voxels[k] = np.rint(brightness[plane] + noise)
    return voxels


def write_phantom(path: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    """Write it as an image file; shape in array order [k, j, i], spacing in mm in the order i, j, k."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(phantom(shape))
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path), True, 1)


if __name__ == "__main__":
    path, *numbers = sys.argv[1:]
    write_phantom(Path(path), *map(tuple, (map(int, numbers[:3]), map(float, numbers[3:]))))
