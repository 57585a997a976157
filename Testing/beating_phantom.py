"""A heart that beats, whose volumes are known in closed form: a ball of blood in a shell of muscle.

The radius of the ball follows a cosine over one beat. The muscle keeps its volume, so that its shell becomes thicker as
the ball shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from LightSegLib.catalog.card import Card, Chamber
from threshold_models import write_threshold_model

COUNT, STEP_MS = 8, 100.0
DIASTOLIC_MM, SYSTOLIC_MM, MUSCLE_MM3 = 22.0, 15.0, 60_000.0
SHAPE, SPACING = (32, 36, 40), 1.75  # [k, j, i], mm; the same along all axes
BACKGROUND, MUSCLE, BLOOD = 100, 200, 300
MUSCLE_LABEL, BLOOD_LABEL = 1, 2
AFFINE = np.diag([-SPACING, -SPACING, SPACING, 1.0])


def radius(frame: int) -> float:
    """Radius of the ball in mm; frame: from 0, the largest first."""
    middle, swing = (DIASTOLIC_MM + SYSTOLIC_MM) / 2, (DIASTOLIC_MM - SYSTOLIC_MM) / 2
    return middle + swing * math.cos(2 * math.pi * frame / COUNT)


def blood_ml(frame: int) -> float:
    return 4 / 3 * math.pi * radius(frame) ** 3 / 1000


def voxels(frame: int, seed: int = 0) -> np.ndarray:
    """Intensities [k, j, i]."""
    axes = [(np.arange(length) - (length - 1) / 2) * SPACING for length in SHAPE]
    k, j, i = np.meshgrid(*axes, indexing="ij")
    distance = np.sqrt(k**2 + j**2 + i**2)
    outer = (radius(frame) ** 3 + MUSCLE_MM3 * 3 / (4 * math.pi)) ** (1 / 3)
    image = np.where(distance < radius(frame), BLOOD, np.where(distance < outer, MUSCLE, BACKGROUND))
    return (image + np.random.default_rng(seed + frame).integers(-20, 21, SHAPE)).astype(np.int16)


def write_beat(path: Path, damaged: int | None = None, phases: Sequence[int] = range(COUNT)) -> Path:
    """A 4D NIfTI file of one beat; damaged: a frame, from 0, of one value; phases: frames of the beat that it has."""
    frames = np.stack([voxels(frame) for frame in phases])
    if damaged is not None:
        frames[damaged] = 7
    image = nib.Nifti1Image(frames.T, AFFINE)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = STEP_MS
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def write_heart_model(folder: Path, **fields: Any) -> Card:
    """A model folder that finds muscle and blood by their intensities."""
    chambers = (Chamber(cavity=BLOOD_LABEL, myocardium=MUSCLE_LABEL),)
    return write_threshold_model(folder, ("Myocardium", "Left ventricle"), (150, 250), chambers=chambers, **fields)
