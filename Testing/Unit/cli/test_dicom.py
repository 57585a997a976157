"""DICOM on the command line."""

from __future__ import annotations

from pathlib import Path

import dicom_series
import pytest
import SimpleITK as sitk
from LightSegLib.cli import main as cli
from LightSegLib.evaluation.reproduction import read_provenance


def test_a_series_with_a_gap_is_segmented_on_demand_and_reports_it(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data_sets = dicom_series.slices()
    folder = dicom_series.write(tmp_path / "series", data_sets[:5] + data_sets[6:])
    out = tmp_path / "out.seg.nrrd"
    words = ("segment", folder, "--model", tiny_model, "--out", out, "--device", "cpu", "--precision", "float32")
    assert cli.main(list(map(str, words))) == 2
    err = capfd.readouterr().err
    assert "series has missing slices" in err and not out.exists()
    assert cli.main([*map(str, words), "--allow-gaps"]) == 0
    assert "which were interpolated" in capfd.readouterr().err
    assert sitk.ReadImage(str(out)).GetSize()[2] == len(data_sets)
    (reading,) = read_provenance(out)["reading"]
    assert reading["frames"] == len(data_sets) - 1 and reading["interpolated_mm"] == [[-24, -21]]
    again = ("reproduce", out, folder, "--model", tiny_model, "--allow-gaps")
    assert cli.main(list(map(str, again))) == 0


def test_a_ct_for_a_model_of_mr_is_reported(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A batch leaves it out; one that is named by the user is segmented, with the warning in the result."""
    folder = dicom_series.write(tmp_path / "series", dicom_series.slices(Modality="CT"))
    out = tmp_path / "out.seg.nrrd"
    words = ("segment", folder, "--model", tiny_model, "--out", out, "--device", "cpu", "--precision", "float32")
    assert cli.main(list(map(str, words))) == 0
    notice = "series is CT according to its DICOM attributes, but this model was made for MR."
    assert notice in capfd.readouterr().err
    assert any(one.startswith(notice) for one in read_provenance(out)["notices"])
