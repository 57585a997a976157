"""Statistics, a picture and a file for each structure, beside the segmentation or in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.catalog.card import Label
from LightSegLib.cli.main import main
from LightSegLib.cli.outputs import input_names, volume_rows
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.inference.segmenter import Segmenter
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
    assert Image.open(picture).size[0] == result.WIDTH


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
    assert (
        (tmp_path / "s.csv")
        .read_text(encoding="utf-8")
        .startswith("structure,volume_ml,mean_intensity,cut_off,labels,notices\n")
    )


def test_the_screen_shows_which_structures_reach_the_border() -> None:
    """The column is there where it states something."""
    geometry, labels = (
        Geometry((4, 5, 6), (10.0, 10.0, 10.0)),
        (Label(1, "Liver", (9, 9, 9)), Label(2, "Lung", (9,) * 3)),
    )
    voxels = np.zeros(geometry.shape, np.uint8)
    voxels[1:3, 2, 2], voxels[2, 1, 4] = 1, 2
    assert volume_rows(Segmentation(voxels, geometry, labels))[0] == ("LABEL", "ML")
    voxels[2, 1, 5] = 2
    assert volume_rows(Segmentation(voxels, geometry, labels)) == [
        ("LABEL", "ML", "CUT OFF"),
        ("Liver", "2.000", ""),
        ("Lung", "2.000", "at the border"),
    ]


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


def test_masks_of_an_earlier_run_that_go_are_counted(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = [*words[:-1], "--split", str(tmp_path / "masks")]
    assert main(loud) == 0
    assert "removed" not in capsys.readouterr().out
    assert main([*loud, "--structures", "Front", "--overwrite"]) == 0
    assert f"1 file in {tmp_path / 'masks'} (1 of an earlier run removed) written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--out", "masks/Front.nii.gz"], "--split would replace or remove masks/Front.nii.gz of --out"),
        (["--out", "masks/../masks/front.nii.gz"], "--split would replace or remove"),
        (["--out", "masks/R\u00fcck.nii.gz", "--structures", "Front"], "--split would replace or remove"),
        (["--statistics", "masks/.lightseg-masks.json"], "of --statistics. Choose another name or folder"),
        (["--roi", "masks/Front.nii.gz"], "Front.nii.gz is one of the inputs and would be overwritten"),
        (["--roi", "masks/R\u00fcck.nii.gz", "--structures", "Front"], "is one of the inputs"),
    ],
)
def test_a_mask_of_an_earlier_run_that_is_also_input_or_output_is_refused_before_the_computation(
    words: list[str], asked: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--split", "masks"]) == 0
    before = {path.name: path.read_bytes() for path in Path("masks").iterdir()}
    monkeypatch.setattr(Segmenter, "segment", lambda *_, **__: pytest.fail("the files must be checked first"))
    assert main([*words, "--split", "masks", "--overwrite", *asked]) == 2
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("masks").iterdir()} == before


def test_an_output_that_is_named_like_a_mask_is_refused_before_the_computation(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where neither of both is there yet."""
    (tmp_path / "masks").mkdir()
    monkeypatch.setattr(Segmenter, "segment", lambda *_, **__: pytest.fail("the files must be checked first"))
    out = tmp_path / "masks" / "Front.nii.gz"
    assert main([*words, "--split", str(tmp_path / "masks"), "--out", str(out)]) == 2
    assert f"--split would replace or remove {out} of --out" in capsys.readouterr().err


def test_a_mask_of_an_earlier_run_may_not_be_segmented_into_its_own_folder(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = tmp_path / "masks"
    assert main([*words, "--split", str(masks)]) == 0
    words[1] = str(masks / "Front.nii.gz")
    assert main([*words, "--split", str(masks), "--overwrite"]) == 2
    assert "Front.nii.gz is one of the inputs" in capsys.readouterr().err
