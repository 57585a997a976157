"""Ejection fraction and stroke volume of a heart whose volumes are known in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from beating_phantom import (
    COUNT,
    DIASTOLIC_MM,
    MUSCLE_MM3,
    SPACING,
    STEP_MS,
    SYSTOLIC_MM,
    blood_ml,
    voxels,
    write_heart_model,
)
from LightSegLib.evaluation.heart import DENSITY, heart_function


def measured(frame: int) -> dict[str, float]:
    image = voxels(frame)
    voxel = SPACING**3 / 1000
    muscle = ((image > 150) & (image < 250)).sum() * voxel
    return {"Myocardium": float(muscle), "Left ventricle": float((image > 250).sum() * voxel)}


def test_a_beat_has_the_ejection_fraction_of_its_radii(tmp_path: Path) -> None:
    card = write_heart_model(tmp_path / "model")
    (heart,) = heart_function(card, [(n + 1, n * STEP_MS, measured(n)) for n in range(COUNT)])
    assert (heart.diastole.frame, heart.systole.frame, heart.systole.ms) == (1, COUNT // 2 + 1, COUNT // 2 * STEP_MS)
    assert heart.ejection_percent == pytest.approx(100 * (1 - (SYSTOLIC_MM / DIASTOLIC_MM) ** 3), abs=0.5)
    assert heart.stroke_ml == pytest.approx(blood_ml(0) - blood_ml(COUNT // 2), rel=0.01)
    assert heart.mass_g == pytest.approx(DENSITY * MUSCLE_MM3 / 1000, rel=0.02)


def test_chambers_that_nothing_shows_have_no_function(tmp_path: Path) -> None:
    card = write_heart_model(tmp_path / "model")
    assert heart_function(card, [(1, 0.0, {"Left ventricle": 3.0})]) == ()
    assert heart_function(card, [(1, 0.0, {}), (2, 1.0, {"Left ventricle": 3.0})]) == ()
    (empty,) = heart_function(card, [(n, None, {"Left ventricle": 0.0}) for n in (1, 2)])
    assert empty.ejection_percent is None and empty.mass_g is None
    assert np.isclose(empty.stroke_ml, 0)
