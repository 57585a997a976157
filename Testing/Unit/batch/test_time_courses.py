"""The frames of series over time together: what is computed of them, and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from beating_phantom import write_heart_model
from LightSegLib.batch import report
from LightSegLib.batch.records import DONE, Row
from LightSegLib.batch.settings import Batch, Settings
from LightSegLib.batch.time_courses import course_section, heart_table, time_courses


def frame(number: int, ml: float, image: str, case: str = "") -> Row:
    """The row of a frame with this much blood."""
    name = case or f"cine_frame{number:03d}"
    return Row(name, DONE, "m", "", "", input_sha256=image, ml={"Left ventricle": ml}, series="cine", frame=number)


def test_the_ejection_fraction_is_that_of_the_frames_of_one_image(tmp_path: Path) -> None:
    card = write_heart_model(tmp_path / "model")
    (course,) = time_courses([frame(2, 50, "a"), frame(1, 100, "a")])
    _header, line = heart_table(card, [course])
    assert line[:6] == ("cine", "Left ventricle", 100, 50, 50, 50)


def test_a_frame_without_a_ventricle_is_counted_and_is_no_end_systole(tmp_path: Path) -> None:
    card = write_heart_model(tmp_path / "model")
    (course,) = time_courses([frame(n, ml, "a") for n, ml in enumerate((100, 60, 0), start=1)])
    header, line = heart_table(card, [course])
    row = dict(zip(header, line, strict=True))
    assert (row["ejection_fraction_percent"], row["end_systole_frame"], row["not_found_frames"]) == (40, 2, 1)
    section = "".join(course_section(card, course, {"Left ventricle": (255, 0, 0)}))
    assert "ejection fraction 40.0 %, not found in 1 of 3 frames" in section
    (course,) = time_courses([frame(1, 100, "a"), frame(2, 0, "a")])
    assert list(heart_table(card, [course]))[1] == ("cine", "Left ventricle", *[""] * 9, 2, 0, 1, 0)
    section = "".join(course_section(card, course, {"Left ventricle": (255, 0, 0)}))
    assert "<p>Left ventricle: not found in 1 of 2 frames</p>" in section


def test_a_ventricle_that_leaves_the_stack_of_slices_is_stated(tmp_path: Path) -> None:
    """Its volume is too small in these frames: slices over the base or the apex were not taken."""
    card = write_heart_model(tmp_path / "model")
    whole, cut = frame(1, 100, "a"), replace(frame(2, 40, "a"), cut_off=["Left ventricle"])
    (course,) = time_courses([whole, cut])
    header, line = heart_table(card, [course])
    assert dict(zip(header, line, strict=True))["cut_off_frames"] == 1
    section = "".join(course_section(card, course, {"Left ventricle": (255, 0, 0)}))
    assert "cut off at the border of the image in 1 of 2 frames, so volumes may be too small" in section
    (course,) = time_courses([whole, frame(2, 40, "a")])
    assert "cut off" not in "".join(course_section(card, course, {"Left ventricle": (255, 0, 0)}))


def test_a_page_that_shows_only_the_first_cases_still_has_the_whole_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = write_heart_model(tmp_path / "model")
    rows = [frame(1, 80, "a"), frame(2, 60, "a"), frame(3, 20, "a")]
    monkeypatch.setattr(report, "LARGEST", 2)
    batch = Batch("m", "", tmp_path, Settings(picture=False))
    page = report.write_report(card, None, batch, lambda: rows, (), time_courses(rows)).read_text(encoding="utf-8")
    assert "The first 2 of 3 cases are shown" in page and "ejection fraction 75.0 %" in page


def test_a_curve_of_images_without_times_is_not_called_one_over_time(tmp_path: Path) -> None:
    card = write_heart_model(tmp_path / "model")
    batch = Batch("m", "", tmp_path, Settings(picture=False))
    untimed = [frame(1, 80, "a"), frame(2, 60, "a")]
    timed = [replace(row, time_ms=float(n), time_kind="time") for n, row in enumerate(untimed)]
    for rows, heading, axis in ((untimed, "Volumes by frame", ">Frame<"), (timed, "Volumes over time", "Time (ms)<")):
        page = report.write_report(card, None, batch, lambda rows=rows: rows, (), time_courses(rows))
        text = page.read_text(encoding="utf-8")
        assert f"<h2>{heading}</h2>" in text and axis in text


@pytest.mark.parametrize(
    "second",
    [frame(2, 20, "b"), frame(1, 20, "a", "cine_frame001 (2)")],
    ids=["a frame of another image", "a frame twice"],
)
def test_nothing_is_computed_of_frames_of_several_hearts(tmp_path: Path, second: Row) -> None:
    card = write_heart_model(tmp_path / "model")
    (course,) = time_courses([frame(1, 100, "a"), second])
    assert len(list(heart_table(card, [course]))) == 1  # the header
    section = "".join(course_section(card, course, {"Left ventricle": (255, 0, 0)}))
    assert "of frames of several images, so nothing is computed" in section and "ejection" not in section
