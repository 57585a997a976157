"""DICOM on the command line."""

from __future__ import annotations

from pathlib import Path

import dicom_series
import pydicom
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


def test_a_dicom_result_of_a_series_with_a_gap_states_what_it_does_not_have(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The volumes that are printed, and those in a batch's table, are those of the regular grid."""
    data_sets = dicom_series.slices()
    with_gap = dicom_series.write(tmp_path / "gap", data_sets[:5] + data_sets[6:])
    whole = dicom_series.write(tmp_path / "whole", data_sets)
    how = ("--model", tiny_model, "--allow-gaps", "--device", "cpu", "--precision", "float32")
    fewer = "volumes include the slices that were interpolated in gaps of the series (number of gaps: 1), but the DICOM"
    for folder, ending, stated in ((with_gap, "dcm", True), (with_gap, "seg.nrrd", False), (whole, "dcm", False)):
        words = ("segment", folder, "--out", tmp_path / f"{folder.name}.{ending}", *how)
        assert cli.main(list(map(str, words))) == 0
        assert (fewer in capfd.readouterr().err) == stated
    words = ("batch", with_gap, "--out", tmp_path / "out", "--format", "dicom", "--workers", "1", *how)
    assert cli.main(list(map(str, words))) == 0
    assert fewer in (tmp_path / "out" / "results.csv").read_text(encoding="utf-8")


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


def test_dicom_in_and_dicom_out(tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A DICOM segmentation of a DICOM series; of anything else a sentence, before anything is computed."""
    series = dicom_series.write(tmp_path / "series", dicom_series.slices(PatientName="Secret^Name"))
    out = tmp_path / "out.dcm"
    words = ("segment", series, "--model", tiny_model, "--device", "cpu", "--precision", "float32")
    for _ in range(2):
        same = [*map(str, words), "--out", str(out), "--overwrite", "--reproducible-uids"]
        assert cli.main(same) == 0
        uid = pydicom.dcmread(out).SOPInstanceUID
    assert cli.main([*map(str, words), "--out", str(tmp_path / "other.dcm")]) == 0
    assert pydicom.dcmread(tmp_path / "other.dcm").SOPInstanceUID != pydicom.dcmread(out).SOPInstanceUID == uid
    plain = tmp_path / "out.nrrd"
    assert cli.main([*map(str, words), "--out", str(plain)]) == 0
    assert cli.main(["evaluate", str(out), str(plain)]) == 0
    printed = "".join(capfd.readouterr())
    assert "1.000" in printed and "Secret" not in printed

    sitk.WriteImage(sitk.ReadImage(str(plain)), str(tmp_path / "image.nii.gz"))
    refused = ["segment", str(tmp_path / "image.nii.gz"), *map(str, words[2:]), "--out", str(tmp_path / "new.dcm")]
    assert cli.main(refused) == 2
    assert "refers to the slices of a DICOM series" in capfd.readouterr().err
    assert not (tmp_path / "new.dcm").exists()


def test_reproducible_uids_are_refused_where_no_dicom_file_is_written(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image, model = str(tmp_path / "head.nii.gz"), ["--model", str(tiny_model), "--reproducible-uids"]
    for words, remedy in (
        (["segment", image, *model, "--out", str(tmp_path / "out.seg.nrrd")], "a name that ends in .dcm."),
        (["segment", image, *model, "--statistics", str(tmp_path / "out.csv")], "a name that ends in .dcm."),
        (["batch", str(tmp_path), *model, "--out", str(tmp_path / "out")], "add --format dicom."),
    ):
        assert cli.main(words) == 2
        problem = capfd.readouterr().err
        assert problem.startswith("lightseg: --reproducible-uids is for") and problem.endswith(f"{remedy}\n")
