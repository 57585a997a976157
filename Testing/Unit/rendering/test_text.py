"""Words on pictures: they are there, where they should be, with every font that a machine may have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from balls import make_balls
from LightSegLib.catalog.card import Label
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.rendering import text
from LightSegLib.rendering.result import MARGIN, WIDTH, draw_result
from PIL import Image, ImageFont

NAMES = (
    "Rück",
    "Łódź",
    "肝臓",
    "Мозг",
    "$a_b$ {x}",
    "R\udcfcck",
    "Ru\u0308ck",
    "a\nb\t",
    "🧠",
)


@pytest.fixture(params=["fonts of the machine", "Pillow's font", "no FreeType", "Pillow 10.0"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Machines with more and less to write with."""
    if request.param != "fonts of the machine":
        monkeypatch.setattr(text, "FONTS", {False: (), True: ()})
    if request.param in ("no FreeType", "Pillow 10.0"):
        error = ImportError("The _imagingft C module is not installed") if request.param == "no FreeType" else TypeError

        def load_default(size: float | None = None) -> ImageFont.ImageFont:
            if size is not None:
                raise error
            return ImageFont.load_default_imagefont()

        monkeypatch.setattr(ImageFont, "load_default", load_default)
    text._font.cache_clear()
    yield request.param
    text._font.cache_clear()


def written(words: str, bold: bool = False, align: str = "left") -> np.ndarray:
    """Brightness [100, 300] of a black picture with white words at (150, 50)."""
    picture = Image.new("RGB", (300, 100))
    text.write(picture, words, (150, 50), text.Style(24, (255, 255, 255), bold), align)
    return np.asarray(picture.convert("L"), float)


@pytest.mark.parametrize("words", NAMES)
def test_every_name_leaves_a_trace(machine: str, words: str) -> None:
    seen = written(words)
    assert (seen > 128).sum() > 8
    assert text.text_width(words, 24) > 0 and text.wrap(words, 500, 24)


def test_an_accent_of_its_own_is_not_a_letter(machine: str) -> None:
    """macOS writes ü in names of files as u and two dots."""
    assert (written("Ru\u0308ck") == written("Rück")).all() and "?" not in text._writable("Ru\u0308ck", "ascii")


def test_letters_differ_and_are_where_they_should(machine: str) -> None:
    letters = {letter: written(letter, bold=True, align="center") for letter in "RLAPSI"}
    for one, seen in letters.items():
        rows, columns = np.nonzero(seen > 128)
        assert abs(columns.mean() - 150) < 5 and abs(rows.mean() - 50) < 5
        assert all(one == other or np.abs(seen - letters[other]).sum() > 255 for other in letters)
    rows, columns = np.nonzero(letters["L"] > 128)
    assert (columns < columns.mean()).sum() > (columns > columns.mean()).sum()  # its stem is at the left


def test_words_end_where_they_should(machine: str) -> None:
    right, left = (np.nonzero(written("12.50 mm", align=side) > 128)[1] for side in ("right", "left"))
    assert 140 < right.max() <= 150 <= left.min() < 160


def test_an_accent_is_written_where_the_font_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    monkeypatch.setattr(text, "FONTS", {False: (str(font),)})
    text._font.cache_clear()
    plain, accented = written("u"), written("ü")
    text._font.cache_clear()
    assert np.nonzero(accented > 128)[0].min() < np.nonzero(plain > 128)[0].min() - 2


def test_lines_are_no_wider_than_asked(machine: str) -> None:
    name = "Left_anterior_hippocampus_superior_part of the brain"
    lines = text.wrap(name, 120, 20)
    assert len(lines) > 2 and all(text.text_width(line, 20) <= 120 for line in lines)
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")  # nothing is lost


def test_a_halo_sets_words_off_from_a_bright_image() -> None:
    picture = Image.new("RGB", (100, 40), (255, 255, 255))
    text.write(picture, "mm", (50, 20), text.Style(24, (255, 255, 255), halo=(0, 0, 0)), align="center")
    seen = np.asarray(picture.convert("L"))
    assert seen.min() == 0 and seen[0, 0] == 255


def test_the_page_of_a_result_takes_any_name(machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTSEG_OPENGL", "0")
    volume, balls = make_balls(np.eye(3), (-18, 12, 3), (14, -8, 3))
    labels = tuple(Label(number, name, (200, 90, 90)) for number, name in enumerate(NAMES, start=1))
    segmentation = Segmentation(balls.voxels, balls.geometry, labels, {"model": "Modèle 肝"})
    draw_result(volume, segmentation, tmp_path / "result.png", " ".join(NAMES) * 5)
    with Image.open(tmp_path / "result.png") as picture:
        title = np.asarray(picture.convert("L"))[:80]
    assert title[:, MARGIN : WIDTH - MARGIN].max() > 200
    assert title[:, WIDTH - MARGIN + 10 :].max() < 60  # it ends before the picture does


def test_a_title_that_is_too_long_ends_in_dots_within_its_width() -> None:
    name = "Patient Müller, MR head before the operation, T1 after contrast.nii.gz"
    short = text.shortened(name, 300, 20, bold=True)
    assert short.endswith("...") and name.startswith(short.removesuffix("..."))
    assert 250 < text.text_width(short, 20, bold=True) <= 300
    assert text.shortened("T1.nii.gz", 300, 20) == "T1.nii.gz"
