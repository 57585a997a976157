"""Training curves: at their numbers, with whatever names, and a training goes on without matplotlib."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.core.errors import InputError, OutputError
from LightSegLib.rendering.curves import NO_MATPLOTLIB, draw_curves
from scipy import ndimage

LOG = """epoch,learning_rate,train_loss,validation_dice,validation_dice_Front,validation_dice_Back,seconds
1,0.001,1.0,,,,2
2,0.001,0.5,0.6,0.7,0.5,2
3,0.001,0.0,0.8,0.9,0.7,2
"""


BLUE = (31, 119, 180)  # of matplotlib's first color, "tab:blue"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "training.csv"
    path.write_text(LOG, encoding="utf-8")
    return path


def pixels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[..., :3].astype(float)


def find(picture: np.ndarray, color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of a color."""
    rows, columns = np.nonzero(np.abs(picture - color).max(axis=-1) < 12)
    return rows, columns


def test_the_loss_falls_in_a_straight_line(log: Path, tmp_path: Path) -> None:
    assert draw_curves(log, tmp_path / "curves.png") is None
    picture = pixels(tmp_path / "curves.png")
    assert picture.shape == (800, 1600, 3)
    rows, columns = find(picture[:, :800], BLUE)
    assert np.ptp(columns) > 400 and np.ptp(rows) > 500
    # Losses of 1, 0.5 and 0 in the epochs 1, 2 and 3: as high at the left as it is low at the right.
    slope, start = np.polyfit(columns, rows, 1)
    assert slope == pytest.approx(np.ptp(rows) / np.ptp(columns), rel=0.02)
    assert np.abs(rows - (slope * columns + start)).max() < 5


def test_dice_is_marked_where_it_is_best(log: Path, tmp_path: Path) -> None:
    log.write_text(LOG + "4,0.001,0.0,0.7,0.8,0.6,2\n", encoding="utf-8")
    draw_curves(log, tmp_path / "curves.png")
    dark = pixels(tmp_path / "curves.png").max(axis=-1) < 60
    tall = np.nonzero(dark.sum(axis=0) > 600)[0]  # the left and right edges of both charts
    left, right = tall[np.diff(tall, prepend=0) > 9][2:]
    dot = ndimage.binary_opening(dark, np.ones((8, 8)))  # letters and lines are thinner
    dot[:, :left] = False
    # From half an epoch before the first to half a one after the fourth; the third is the best.
    assert (ndimage.center_of_mass(dot)[1] - left) / (right - left) == pytest.approx(2.5 / 4, abs=0.01)


def test_a_log_that_stops_in_the_middle_of_a_line_is_drawn(log: Path, tmp_path: Path) -> None:
    draw_curves(log, tmp_path / "whole.png")
    log.write_text(LOG + "4,0.0", encoding="utf-8")
    draw_curves(log, tmp_path / "curves.png")
    assert (pixels(tmp_path / "curves.png") == pixels(tmp_path / "whole.png")).all()


@pytest.mark.parametrize("number", [0, 1, 30, 120])
def test_any_number_of_labels_leaves_room_for_the_charts(number: int, tmp_path: Path) -> None:
    names = [f"Rück_$\\frac$_{n}_肝臓" for n in range(number)]
    rows = [["epoch", "train_loss", "validation_dice", *(f"validation_dice_{name}" for name in names)]]
    rows += [[str(n), str(1 - n / 4), str(n / 4), *[str(n / 5)] * number] for n in range(1, 4)]
    log = tmp_path / "training.csv"
    log.write_text("\n".join(map(",".join, rows)), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # they would be between the lines of the training
        draw_curves(log, tmp_path / "curves.png")
    columns = find(pixels(tmp_path / "curves.png"), BLUE)[1]
    assert np.ptp(columns) > 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "training.csv"]


def test_the_first_epoch_alone_is_a_dot(tmp_path: Path) -> None:
    log = tmp_path / "training.csv"
    log.write_text("".join(LOG.splitlines(keepends=True)[:2]), encoding="utf-8")
    draw_curves(log, tmp_path / "curves.png")
    rows, columns = find(pixels(tmp_path / "curves.png"), BLUE)
    assert 20 < len(rows) < 200 and np.ptp(columns) < 12


def test_without_matplotlib_the_remedy_is_named(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert draw_curves(log, tmp_path / "curves.png") == NO_MATPLOTLIB
    assert "pip install matplotlib" in NO_MATPLOTLIB
    assert [path.name for path in tmp_path.iterdir()] == ["training.csv"]


def test_a_folder_that_is_missing_is_named(log: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        draw_curves(log, tmp_path / "nowhere" / "curves.png")


@pytest.mark.parametrize("content", [None, "", "name,size\na,1\n"], ids=["missing", "empty", "another table"])
def test_what_is_not_a_training_log_is_refused(tmp_path: Path, content: str | None) -> None:
    log = tmp_path / "other.csv"
    if content is not None:
        log.write_text(content)
    with pytest.raises(InputError, match=r"other\.csv"):
        draw_curves(log, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
