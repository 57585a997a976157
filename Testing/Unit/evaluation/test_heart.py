"""Ejection fraction and stroke volume of a heart whose volumes are known in closed form."""

from __future__ import annotations

from pathlib import Path

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
    assert heart.diastole is not None and heart.systole is not None and heart.not_found == 0
    assert (heart.diastole.frame, heart.systole.frame, heart.systole.ms) == (1, COUNT // 2 + 1, COUNT // 2 * STEP_MS)
    assert heart.ejection_percent == pytest.approx(100 * (1 - (SYSTOLIC_MM / DIASTOLIC_MM) ** 3), abs=0.5)
    assert heart.stroke_ml == pytest.approx(blood_ml(0) - blood_ml(COUNT // 2), rel=0.01)
    assert heart.mass_g == pytest.approx(DENSITY * MUSCLE_MM3 / 1000, rel=0.02)


def test_chambers_that_nothing_shows_have_no_function(tmp_path: Path) -> None:
    card = write_heart_model(tmp_path / "model")
    assert heart_function(card, [(1, 0.0, {"Left ventricle": 3.0})]) == ()
    assert heart_function(card, [(1, 0.0, {}), (2, 1.0, {"Left ventricle": 3.0})]) == ()
    (empty,) = heart_function(card, [(n, None, {"Left ventricle": 0.0}) for n in (1, 2)])
    assert (empty.frames, empty.not_found) == (2, 2)
    assert empty.ejection_percent is None and empty.stroke_ml is None and empty.mass_g is None


@pytest.mark.parametrize("missed", [0.0, 0.4], ids=["nothing", "a few voxels"])
def test_a_frame_in_which_the_ventricle_was_missed_is_no_end_systole(tmp_path: Path, missed: float) -> None:
    card = write_heart_model(tmp_path / "model")
    course = [150.0, 120.0, 90.0, 70.0, missed, 95.0, 130.0, 149.0]
    muscle = {"Myocardium": 100.0}
    (heart,) = heart_function(card, [(n, None, muscle | {"Left ventricle": ml}) for n, ml in enumerate(course, 1)])
    assert heart.systole is not None and (heart.systole.frame, heart.systole.ml) == (4, 70.0)
    assert heart.stroke_ml == 80.0 and heart.ejection_percent == pytest.approx(100 * 80 / 150)
    assert (heart.frames, heart.not_found, heart.mass_g) == (8, 1, pytest.approx(105.0))


def test_one_frame_that_shows_the_ventricle_is_no_beat(tmp_path: Path) -> None:
    card = write_heart_model(tmp_path / "model")
    (heart,) = heart_function(card, [(n, None, {"Left ventricle": ml}) for n, ml in enumerate((0.0, 120.0, 0.0), 1)])
    assert heart.diastole is heart.ejection_percent is heart.stroke_ml is None and heart.not_found == 2


def test_muscle_that_was_missed_at_end_diastole_weighs_nothing_that_is_known(tmp_path: Path) -> None:
    card = write_heart_model(tmp_path / "model")
    frames = [(1, None, {"Left ventricle": 120.0, "Myocardium": 0.0}), (2, None, {"Left ventricle": 60.0})]
    (heart,) = heart_function(card, frames)
    assert heart.ejection_percent == 50.0 and heart.mass_g is None
