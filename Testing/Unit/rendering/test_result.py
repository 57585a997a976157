"""The page of a result: what is on it, and its text where it lacks the surface."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from balls import DIRECTIONS, GREEN, LABELS, RED, find_color, make_balls
from LightSegLib.core.errors import OutputError
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.rendering import notes, palette, result, surface
from LightSegLib.rendering.notes import LINE, MOST_LINES


@pytest.fixture(autouse=True)
def fresh_answer() -> Iterator[None]:
    """Each test asks anew whether OpenGL works."""
    surface._vtk_renders.cache_clear()
    yield
    surface._vtk_renders.cache_clear()


@pytest.fixture
def no_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose VTK ends the process when it renders."""
    monkeypatch.delenv("LIGHTSEG_OPENGL", raising=False)
    monkeypatch.setattr(surface, "PROBE", "import os; os.abort()")


def coronal_panels(path: Path, count: int) -> list[np.ndarray]:
    """The coronal slices of the rows of a page, one after the other."""
    page = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(float)
    width, height = result.PANEL_SIZE
    left, row = result.MARGIN + width + result.GAP, result.ROW_HEIGHT + result.GAP  # without notes between the rows
    tops = [result.TITLE_HEIGHT + number * row + result.STRIP for number in range(count)]
    return [page[top : top + height, left : left + width] for top in tops]


def test_each_of_two_results_has_a_row_that_is_cut_where_it_is(tmp_path: Path, no_opengl: None) -> None:
    volume, segmentation = make_balls(np.eye(3), (-18, 12, 3), (14, -8, 3))
    sides = [
        Segmentation(np.where(segmentation.voxels == label.value, label.value, 0), volume.geometry, (label,))
        for label in LABELS
    ]
    result.draw_result(volume, sides, tmp_path / "both.png")
    above, below = coronal_panels(tmp_path / "both.png", 2)
    for panel, own, other in ((above, RED, GREEN), (below, GREEN, RED)):
        find_color(panel, own)
        with pytest.raises(AssertionError, match="not in the picture"):
            find_color(panel, other)


def test_a_detail_shows_where_the_whole_is_cut(tmp_path: Path, no_opengl: None) -> None:
    volume, detail = make_balls(np.eye(3), (900, 0, 0), (14, -8, 3))
    voxels = np.ones(volume.geometry.shape, np.uint8)
    voxels[:, 24:30] = 2  # 4 to 12 mm behind the middle
    whole = Segmentation(voxels, volume.geometry, LABELS)
    result.draw_result(volume, [whole, detail], tmp_path / "both.png")
    above, _ = coronal_panels(tmp_path / "both.png", 2)
    find_color(above, GREEN)
    with pytest.raises(AssertionError, match="not in the picture"):
        find_color(above, RED)


def test_the_slices_are_axial_coronal_and_sagittal_and_the_labels_fill_them(tmp_path: Path, no_opengl: None) -> None:
    volume, segmentation = make_balls(np.eye(3), (-18, 12, 3), (14, -8, 3))
    result.draw_result(volume, segmentation, tmp_path / "page.png")
    page = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "page.png"))).astype(float)
    (width, height), top = result.PANEL_SIZE, result.TITLE_HEIGHT + result.STRIP
    axial, *_ = (page[top : top + height, left : left + width] for left in range(result.MARGIN, result.WIDTH, width))
    red, green = find_color(axial, RED), find_color(axial, GREEN)
    shown_mm = 44 * 1.1 + 20  # the balls of 12 mm are 32 mm apart from right to left, and a rim is around them
    assert (green - red) * shown_mm / width == pytest.approx([-32, 20], abs=1.5)
    for plane, color in enumerate(palette.PLANES):
        left = result.MARGIN + plane * (width + result.GAP)
        assert (page[result.TITLE_HEIGHT, left : left + width] == color).all()


def test_notices_are_below_the_pictures_and_of_many_it_is_said_how_many_more_there_are(
    tmp_path: Path, no_opengl: None
) -> None:
    volume, segmentation = make_balls(np.eye(3), (-18, 12, 3), (14, -8, 3))
    rows = {}
    for count in (0, 1, 3, 30, 40):
        notices = [f"The image is damaged in place {n}." for n in range(count)]
        warned = replace(segmentation, provenance={"notices": notices})
        result.draw_result(volume, warned, tmp_path / "page.png")
        page = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "page.png"))).astype(int)
        below = page[result.TITLE_HEIGHT + result.ROW_HEIGHT :]
        yellow = np.abs(below - palette.LETTER).max(axis=-1) < 20
        rows[count] = (len(below) - result.GAP) // LINE
        assert yellow.any() == bool(count)
    assert rows == {0: 0, 1: 1, 3: 3, 30: MOST_LINES + 1, 40: MOST_LINES + 1}


def test_a_notice_that_does_not_fit_ends_with_dots(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(notes, "write", lambda _picture, line, *_others: lines.append(line))
    notices = [" ".join(f"word{number}" for number in range(500)), "The image is damaged."]
    notes.draw_notes({"notices": notices}, 800)
    assert len(lines) == MOST_LINES + 1 and lines[MOST_LINES - 1].endswith("...") and lines[-1] == "and 1 more notice"
    assert notices[0].startswith(" ".join(lines[:MOST_LINES]).rstrip("."))
    lines.clear()
    notes.draw_notes({"notices": notices[1:]}, 800)
    assert lines == ["The image is damaged."]


def test_without_opengl_the_slices_remain_and_the_loss_is_named(tmp_path: Path, no_opengl: None) -> None:
    volume, segmentation = make_balls(DIRECTIONS["oblique"], (-18, 12, 3), (14, -8, 3))
    path = tmp_path / "result.png"
    assert result.draw_result(volume, segmentation, path, "Two balls") == result.NO_OPENGL
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert picture.shape == (result.TITLE_HEIGHT + result.ROW_HEIGHT + result.GAP, result.WIDTH, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["result.png"]


def test_an_empty_result_is_drawn_and_reports_it(tmp_path: Path) -> None:
    volume, segmentation = make_balls(np.eye(3), (900, 0, 0), (900, 0, 0))
    notice = result.draw_result(volume, segmentation, tmp_path / "empty.png")
    assert notice == "The 3D surface is left out: no voxel is labeled."


def test_a_folder_that_is_missing_is_named_and_nothing_is_left(tmp_path: Path, no_opengl: None) -> None:
    volume, segmentation = make_balls(np.eye(3), (-18, 12, 3), (14, -8, 3))
    with pytest.raises(OutputError, match="nowhere"):
        result.draw_result(volume, segmentation, tmp_path / "nowhere" / "result.png")
    assert list(tmp_path.iterdir()) == []
