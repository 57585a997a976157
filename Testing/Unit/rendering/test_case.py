"""The picture of one case of many: three planes, to scale, without VTK."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from balls import RED, make_balls
from LightSegLib.catalog.card import Label
from LightSegLib.rendering.case import GAP, NAME_LINE, SIDE, STRIP, draw_case
from LightSegLib.rendering.palette import PLANES


def test_the_picture_of_a_case_shows_three_planes_to_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vtkmodules", None)  # the command line has no VTK
    volume, segmentation = make_balls(np.eye(3), (-12, 8, 4), (900, 0, 0))  # the second one is far outside
    path = tmp_path / "case.png"
    draw_case(volume, segmentation, path)
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(int)
    assert picture.shape == (SIDE + STRIP + NAME_LINE, 3 * SIDE + 2 * GAP, 3)
    assert (picture[-NAME_LINE // 2, :5] == RED).all()  # before its name
    shown_mm = 12 * 1.1 + 20  # the view: the ball of 12 mm and what is around it
    for number, color in enumerate(PLANES):
        left = number * (SIDE + GAP)
        assert (picture[:STRIP, left : left + SIDE] == color).all()
        panel = picture[STRIP : STRIP + SIDE, left : left + SIDE]
        rows, columns = np.nonzero(np.abs(panel - RED).max(axis=-1) < 12)
        width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert width == pytest.approx(12 / shown_mm * SIDE, rel=0.15)
        assert height == pytest.approx(width, rel=0.2)  # a ball is round, whatever the spacing


def test_the_names_of_more_structures_than_fit_are_left_out(tmp_path: Path) -> None:
    volume, balls = make_balls(np.eye(3), (-12, 8, 4), (900, 0, 0))
    many = tuple(Label(number, f"Vertebra T{number} of the thoracic spine", RED) for number in range(1, 13))
    draw_case(volume, replace(balls, labels=many), tmp_path / "case.png")
    assert sitk.ReadImage(str(tmp_path / "case.png")).GetSize() == (3 * SIDE + 2 * GAP, SIDE + STRIP)


def test_the_bar_is_as_long_as_it_states(tmp_path: Path) -> None:
    volume, segmentation = make_balls(np.eye(3), (-12, 8, 4), (900, 0, 0))
    path = tmp_path / "case.png"
    draw_case(volume, segmentation, path)
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(int)
    row = picture[STRIP + SIDE - 24 : STRIP + SIDE, :SIDE].min(axis=-1)
    lengths = (row > 225).sum(axis=1)  # of every row near the lower edge
    # The widest of 1, 2, 5, 10, 20 ... mm that takes less than a quarter of what is shown, some 33 mm.
    ball_mm = 12 / ball_width(picture[STRIP : STRIP + SIDE, :SIDE])
    assert lengths.max() * ball_mm == pytest.approx(5, rel=0.15)


def ball_width(panel: np.ndarray) -> int:
    columns = np.nonzero(np.abs(panel - RED).max(axis=-1) < 12)[1]
    return int(np.ptp(columns)) + 1
