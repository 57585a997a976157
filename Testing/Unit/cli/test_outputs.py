"""Statistics, a picture and a file for each structure, beside the segmentation or in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.cli.main import main
from LightSegLib.cli.outputs import input_names
from LightSegLib.rendering import result
from PIL import Image

FLOAT32 = ("--device", "cpu", "--precision", "float32", "--quiet")


@pytest.fixture
def words(tiny_model: Path, write_image: Callable[..., Path]) -> list[str]:
    return ["segment", str(write_image()), "--model", str(tiny_model), *FLOAT32]


def test_all_that_is_asked_for_is_written(words: list[str], tmp_path: Path) -> None:
    out, statistics, picture = (tmp_path / name for name in ("all.nrrd", "s.json", "p.png"))
    folder = tmp_path / "masks"
    asked = ["--out", out, "--statistics", statistics, "--preview", picture, "--split", folder]
    assert main([*words, *map(str, asked)]) == 0
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(out)))
    structures = json.loads(statistics.read_text(encoding="utf-8"))["structures"]
    for value, name in ((1, "Front"), (2, "Rück")):
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.nrrd")))
        np.testing.assert_array_equal(mask, labels == value)
        assert structures[name]["volume_ml"] == pytest.approx((labels == value).sum() * 0.001)
    assert min(Image.open(picture).size) >= 600


def test_the_picture_names_the_model_and_the_input(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that of a folder that is the current one, and of all images where there are several."""
    written: list[str] = []
    write = result.write
    monkeypatch.setattr(
        result,
        "write",
        lambda picture, text, *rest, **more: [written.append(text), write(picture, text, *rest, **more)],
    )
    assert main([*words, "--preview", str(tmp_path / "p.png")]) == 0
    assert f"Tiny: {Path(words[1]).name}" in written
    assert input_names([".", "b.nii"]) == f"{Path.cwd().name}, b.nii"


def test_single_structures_and_statistics_need_no_file_of_all(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--split", str(tmp_path / "masks"), "--statistics", str(tmp_path / "s.csv")]) == 0
    assert sorted(path.name for path in (tmp_path / "masks").glob("[!.]*")) == ["Front.nii.gz", "Rück.nii.gz"]
    assert (tmp_path / "s.csv").read_text(encoding="utf-8").startswith("structure,volume_ml,mean (")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "No output was named"),
        (["--statistics", "s.txt"], "Use one of .json, .csv"),
        (["--preview", "p.jpg"], "Use one of .png"),
        (["--preview", "there.png"], "there.png already exists. Choose another name for --preview"),
        (["--split", "masks"], "Front.nii.gz already exists. Choose another folder for --split"),
        (["--split", "no/masks"], "The folder no does not exist"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_computation(
    words: list[str], asked: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "here" / "masks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    Path("there.png").write_text("mine")
    Path("masks", "Front.nii.gz").write_text("mine")
    assert main([*words, *asked]) == 2
    assert message in capsys.readouterr().err
    assert Path("there.png").read_text() == Path("masks", "Front.nii.gz").read_text() == "mine"
