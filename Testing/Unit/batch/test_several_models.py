"""A cohort with two models in one call: a folder for each, one table, and what is done stays done."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from batch_cases import PLAIN, SHAPE, write_cohort
from LightSegLib.batch.engine import Engine
from LightSegLib.batch.progress import BatchState, Callbacks
from LightSegLib.batch.several import TABLE, folders_of, segment_with_models
from LightSegLib.cli.main import main
from LightSegLib.core.errors import Canceled, InputError, UnknownModelError
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.readers import read_volume
from threshold_models import write_threshold_model

Rows = dict[tuple[str, str], dict[str, str]]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))
    write_threshold_model(tmp_path / "models" / "bright", ["Bright"], [100])
    write_threshold_model(tmp_path / "models" / "two", ["Middle", "Bright"], [50, 200])


@pytest.fixture
def batch(models: None, tmp_path: Path) -> Callable[..., int]:
    write_cohort(tmp_path / "Köpfe", cases=2)
    words = ["batch", str(tmp_path / "Köpfe"), "--model", "bright", "--model", "two", "--out", str(tmp_path / "out")]
    words += ["--device", "cpu", "--precision", "float32", "--no-openvino", "--no-pictures", "--workers", "1"]
    return lambda *more: main([*words, *more])


def rows(out: Path) -> Rows:
    with (out / TABLE).open(encoding="utf-8", newline="") as stream:
        return {(row["case"], row["model"]): row for row in csv.DictReader(stream)}


@pytest.mark.slow
def test_each_case_and_model_has_a_row_and_only_what_changed_is_done_again(
    batch: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch() == 0
    found = rows(tmp_path / "out")
    assert list(found) == [(case, model) for case in ("Fall 0", "Fall 1") for model in ("bright", "two")]
    image = read_volume(tmp_path / "Köpfe" / "Fall 1.nii.gz")
    bright = (image.voxels > 100).sum() * 0.0015
    assert float(found["Fall 1", "bright"]["Bright (ml)"]) == pytest.approx(bright, abs=6e-4)
    assert found["Fall 1", "bright"]["Middle (ml)"] == "" != found["Fall 1", "two"]["Middle (ml)"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".records", TABLE, "bright", "two"]
    assert (tmp_path / "out" / "two" / "Fall 0.seg.nrrd").is_file() and (
        tmp_path / "out" / "two" / "results.csv"
    ).is_file()

    (tmp_path / "out" / "two" / "Fall 0.seg.nrrd").unlink()
    capsys.readouterr()
    assert batch() == 0
    out = capsys.readouterr().out
    assert "bright: 2 of 2 cases, 2 done before" in out and "two: 2 of 2 cases, 1 done before" in out
    assert batch("--dry-run") == 0
    out = capsys.readouterr().out
    assert out.index("bright:") < out.index("two:") and out.count("done before\t") == 4
    (tmp_path / "out" / TABLE).write_text("with a note")
    assert batch("--dry-run") == 0
    refusal = f"would be refused: {tmp_path / 'out' / TABLE} was changed after LightSeg wrote it."
    assert refusal in capsys.readouterr().err


def test_every_table_has_the_notices_of_a_case(models: None, tmp_path: Path) -> None:
    """Among the images is a mask, by a name that does not show it."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[8:16, 8:24, 8:16] = 1
    (tmp_path / "cohort").mkdir()
    sitk.WriteImage(to_sitk(mask, Geometry(SHAPE, (1, 1, 1.5))), str(tmp_path / "cohort" / "Fall 0.nii.gz"))
    segment_with_models(tmp_path / "cohort", ["bright"], tmp_path / "out", PLAIN, Engine(workers=1))
    notice = "Fall 0.nii.gz has only 2 different values, as label maps and masks have."
    assert notice in rows(tmp_path / "out")["Fall 0", "bright"]["notices"]
    for name in ("results.csv", "report.html"):
        assert notice in (tmp_path / "out" / "bright" / name).read_text(encoding="utf-8")


def test_a_stop_leaves_a_table_of_what_was_done(models: None, tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cases=2)
    done: list[BatchState] = []
    callbacks = Callbacks(on_state=done.append, canceled=lambda: any(state.done == 2 for state in done))
    with pytest.raises(Canceled):
        segment_with_models(
            tmp_path / "cohort", ["bright", "two"], tmp_path / "out", PLAIN, Engine(workers=1), callbacks
        )
    assert ("Fall 0", "bright") in rows(tmp_path / "out")


def test_what_cannot_be_done_is_said_before_the_first_case(models: None, tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "cohort", cases=1)
    with pytest.raises(InputError, match="named twice"):
        folders_of(["bright", "bright"], tmp_path)
    with pytest.raises(UnknownModelError, match="brght"):
        segment_with_models(cohort, ["two", "brght"], tmp_path / "out")
    with pytest.raises(InputError, match="is the input folder"):
        segment_with_models(cohort, ["two", "bright"], cohort)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / TABLE).write_text("my,own\n")
    with pytest.raises(InputError, match="was not written by LightSeg"):
        segment_with_models(cohort, ["two", "bright"], tmp_path / "out")
    assert (tmp_path / "out" / TABLE).read_text() == "my,own\n" and len(list((tmp_path / "out").iterdir())) == 1
