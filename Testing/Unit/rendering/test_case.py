"""The picture of one case of many: three planes, to scale, without VTK."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from balls import RED, make_balls
from LightSegLib.rendering.case import GAP, SIDE, STRIP, draw_case
from LightSegLib.rendering.palette import PLANES


def test_the_picture_of_a_case_shows_three_planes_to_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vtkmodules", None)  # the command line has no VTK
    volume, segmentation = make_balls(np.eye(3), (-12, 8, 4), (900, 0, 0))  # the second one is far outside
    path = tmp_path / "case.png"
    draw_case(volume, segmentation, path)
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(int)
    assert picture.shape == (SIDE + STRIP, 3 * SIDE + 2 * GAP, 3)
    shown_mm = 12 * 1.6 + 20  # the view: 1.6 times the ball of 12 mm and a rim
    for number, color in enumerate(PLANES):
        left = number * (SIDE + GAP)
        assert (picture[:STRIP, left : left + SIDE] == color).all()
        panel = picture[STRIP:, left : left + SIDE]
        rows, columns = np.nonzero(np.abs(panel - RED).max(axis=-1) < 12)
        width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert width == pytest.approx(12 / shown_mm * SIDE, rel=0.15)
        assert height == pytest.approx(width, rel=0.2)  # a ball is round, whatever the spacing


def test_the_bar_is_as_long_as_it_states(tmp_path: Path) -> None:
    volume, segmentation = make_balls(np.eye(3), (-12, 8, 4), (900, 0, 0))
    path = tmp_path / "case.png"
    draw_case(volume, segmentation, path)
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(int)
    row = picture[-24:, :SIDE].min(axis=-1)
    lengths = (row > 225).sum(axis=1)  # of every row near the lower edge
    # The widest of 1, 2, 5, 10, 20 ... mm that takes less than a quarter of what is shown, some 38 mm.
    ball_mm = 12 / ball_width(picture[STRIP:, :SIDE])
    assert lengths.max() * ball_mm == pytest.approx(5, rel=0.15)


def ball_width(panel: np.ndarray) -> int:
    columns = np.nonzero(np.abs(panel - RED).max(axis=-1) < 12)[1]
    return int(np.ptp(columns)) + 1
