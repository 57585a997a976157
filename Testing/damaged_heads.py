"""Damage to images of heads, as scanners, patients and errors of export do it; and changes that do no harm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume

BALL = 28.0  # mm, radius of what stands for a large tumor
ASIDE, UP = 32.0, 12.0  # mm from the middle of the brain
CHILD = 0.6  # size of a head
NOISE = 1.0  # standard deviation, as a share of what is bright
STEPS, STEP_MM = 24, 10.0  # movements during a scan, and their standard deviation
SEED = 3


def damaged(volume: Volume, middle: np.ndarray) -> Iterator[tuple[str, Volume]]:
    """Yield what a model should warn of, with its name.

    Args:
        volume: a head.
        middle: of its brain, LPS mm.
    """
    bright = float(np.percentile(volume.voxels, 98))
    yield "strong motion", moved(volume)
    beside = middle + np.array([ASIDE, 0.0, UP])
    for name, value in (("dark ball", 0.0), ("bright ball", 1.5 * bright)):
        yield name, with_ball(volume, beside, BALL, value)
    smaller = tuple(CHILD * mm for mm in volume.geometry.spacing)
    yield "head of 60 %", replace(volume, geometry=replace(volume.geometry, spacing=smaller))
    random = np.random.default_rng(SEED)
    real, imaginary = random.normal(0, NOISE * bright, (2, *volume.voxels.shape))
    yield "strong noise", replace(volume, voxels=np.hypot(volume.voxels + real, imaginary).astype(np.float32))
    x = places(volume.geometry)[0]
    yield "half missing", replace(volume, voxels=np.where(x > middle[0], volume.voxels, volume.voxels.min()))


def harmless(volume: Volume) -> Iterator[tuple[str, Volume]]:
    """Yield what a model should take without a warning, with its name."""
    inside = volume.voxels > np.percentile(volume.voxels, 20)
    inverted = np.where(inside, float(volume.voxels.max()) - volume.voxels.astype(np.float32), 0)
    yield "inverted", replace(volume, voxels=inverted)


def moved(volume: Volume, steps: int = STEPS, mm: float = STEP_MM) -> Volume:
    """Return the image of a head that moved while lines of k-space were measured, one after the other along j.

    Each movement shifts all lines that follow by a random way in the plane of i and j: their phases change with the
    frequency.
    """
    random = np.random.default_rng(SEED)
    length = volume.voxels.shape[1]
    starts = np.sort(random.choice(length, steps, replace=False))
    ways = random.normal(0, mm, (steps + 1, 2)) / volume.geometry.spacing[1::-1]  # voxels along j, i
    frequency = np.fft.fftfreq(length)
    moment = np.argsort(np.argsort(frequency))  # of each line: the most negative frequency is measured first
    shift = ways[np.searchsorted(starts, moment, side="right")]
    shift = shift - shift[0]  # where the head is while the middle is measured, the image shows it
    phase = shift[:, :1] * frequency[:, None] + shift[:, 1:] * np.fft.fftfreq(volume.voxels.shape[2])
    factor = np.exp(-2j * np.pi * phase)
    voxels = [np.abs(np.fft.ifft2(np.fft.fft2(plane) * factor)) for plane in volume.voxels.astype(np.float32)]
    return replace(volume, voxels=np.stack(voxels).astype(np.float32))


def with_ball(volume: Volume, center: np.ndarray, radius: float, value: float) -> Volume:
    """Return the image with a ball of one intensity; center in LPS mm, radius in mm."""
    away = sum((place - c) ** 2 for place, c in zip(places(volume.geometry), center, strict=True))
    return replace(volume, voxels=np.where(away <= radius**2, np.float32(value), volume.voxels))


def places(geometry: Geometry) -> list[np.ndarray]:
    """Return x, y, z in LPS mm of every voxel [k, j, i]."""
    k, j, i = np.ogrid[tuple(slice(length) for length in geometry.shape)]
    matrix = geometry.index_to_world
    return [row[0] * i + row[1] * j + row[2] * k + row[3] for row in matrix[:3]]


def middle_of(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the middle of a mask, LPS mm."""
    return np.array([float(np.mean(place[mask])) for place in places(geometry)])
