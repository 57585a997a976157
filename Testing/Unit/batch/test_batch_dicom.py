"""Trees of DICOM files: a case for each volume, wherever its files are, and everything else by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import ROOT, file_name, multiframe, noise, slices, write
from LightSegLib.batch.case import Case, SkippedInput
from LightSegLib.batch.cases import find_cases
from LightSegLib.batch.settings import Settings
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.readers import read_volume

HIPPOCAMPUS = find_card("hippocampus-mr-lightmedseg")


def found(folder: Path) -> tuple[dict[str, Case], dict[str, str]]:
    """Cases by id; reasons by the name of what was left out."""
    every = list(find_cases(folder, HIPPOCAMPUS))
    cases = {one.id: one for one in every if isinstance(one, Case)}
    return cases, {one.what: one.reason for one in every if isinstance(one, SkippedInput)}


def test_a_series_over_two_folders_is_one_case(tmp_path: Path) -> None:
    data_sets = slices()
    write(tmp_path / "CD 1", data_sets[::2])
    write(tmp_path / "CD 2", data_sets[1::2], first=100)
    cases, skipped_inputs = found(tmp_path)
    (case,) = cases.values()
    np.testing.assert_array_equal(case.channels[0].read().voxels, noise())
    assert case.where == f"{tmp_path / 'CD 1'}, {tmp_path / 'CD 2'}" and skipped_inputs == {}


def test_a_head_of_which_a_tool_rewrote_the_face_is_one_case_with_all_slices(tmp_path: Path) -> None:
    data_sets = slices()
    for data in data_sets[:5]:
        data.ImageType = ["DERIVED", "PRIMARY", "M"]
    cases, skipped_inputs = found(write(tmp_path, data_sets))
    (case,) = cases.values()
    np.testing.assert_array_equal(case.channels[0].read().voxels, noise())
    assert skipped_inputs == {} and case.id == "P1_20240101_5"


def test_each_volume_of_a_series_is_a_case(tmp_path: Path) -> None:
    """Two echoes in single files, and two in one file."""
    for echo in (1, 2):
        write(tmp_path / "single", slices(noise() // echo, EchoNumbers=echo), first=100 * echo)
    frames = [(k, plane, echo) for k, plane in enumerate(noise()) for echo in (0, 1)]
    write(tmp_path / "one file", [multiframe(frames, series="2", SeriesNumber=6)])
    cases, skipped_inputs = found(tmp_path)
    assert skipped_inputs == {}
    for name, factor in (("5_echo 1", 1), ("5_echo 2", 0.5), ("6_frame001", 1), ("6_frame002", 2)):
        case = Case.from_json(cases[f"P1_20240101_{name}"].to_json())
        np.testing.assert_array_equal(case.channels[0].read().voxels, (noise() * factor).astype(int))
    assert len(cases) == 4


def write_cine(folder: Path, series: str, first: int = 0, **tags: object) -> None:
    """Two frames over time."""
    for phase in (0, 1):
        own = slices(noise() + phase, series=series, SeriesDescription="cine", TriggerTime=f"{30 * phase}", **tags)
        write(folder, own, first=first + 100 * phase)


def test_cine_series_of_two_anonymous_patients_are_two_series_over_time(tmp_path: Path) -> None:
    """Whoever took their names away gave both the same one; dates are gone, and the scanner counts series alike."""
    nameless = {"PatientID": "ANON", "StudyDate": None, "SeriesNumber": 5}
    write_cine(tmp_path / "first", "11", StudyInstanceUID=f"{ROOT}.100", **nameless)
    write_cine(tmp_path / "second", "12", StudyInstanceUID=f"{ROOT}.200", **nameless)
    cases, skipped_inputs = found(tmp_path)
    assert skipped_inputs == {} and found(tmp_path)[0] == cases
    assert {name: (case.series, Path(case.where).name) for name, case in cases.items()} == {
        "ANON_5_frame001": ("ANON_5", "first"),
        "ANON_5_frame002": ("ANON_5", "first"),
        "ANON_5 (2)_frame001": ("ANON_5 (2)", "second"),
        "ANON_5 (2)_frame002": ("ANON_5 (2)", "second"),
    }
    assert len({case.series_id for case in cases.values()}) == 2


def test_cine_images_along_two_axes_in_one_series_are_two_series_over_time(tmp_path: Path) -> None:
    write_cine(tmp_path, "1")
    write_cine(tmp_path, "1", first=1000, orientation=(0, 1, 0, 0, 0, 1), position=lambda k: (1.5 * k, 0, 0))
    cases = found(tmp_path)[0]
    assert sorted(cases) == [f"P1_20240101_5{again}_frame00{n}" for again in (" (2)", "") for n in (1, 2)]
    assert {case.series for case in cases.values()} == {"P1_20240101_5", "P1_20240101_5 (2)"}
    for name in ("P1_20240101_5_frame002", "P1_20240101_5 (2)_frame002"):
        np.testing.assert_array_equal(cases[name].channels[0].read().voxels, noise() + 1)
    with pytest.raises(InputError, match="contains 2 images over time in one DICOM series"):
        read_volume(tmp_path, frame=2)


def test_what_a_series_has_beside_its_volume_and_what_is_damaged_is_listed(tmp_path: Path) -> None:
    data_sets = slices()
    data_sets[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    write(tmp_path / "turned", data_sets)
    write(tmp_path / "unplaced", slices(series="2", SeriesNumber=6, FrameOfReferenceUID=None))
    for path in (tmp_path / "unplaced").iterdir():
        data = pydicom.dcmread(path)
        del data.ImagePositionPatient
        data.save_as(path)
    (tmp_path / "turned" / "cut.dcm").write_bytes((tmp_path / "turned" / file_name(3)).read_bytes()[:200])
    cases, skipped_inputs = found(tmp_path)
    assert cases["P1_20240101_5"].channels[0].read().geometry.shape[0] == len(data_sets) - 1
    with pytest.raises(InputError, match="has no ImagePositionPatient"):  # a case that fails, with the reason
        cases["P1_20240101_6"].channels[0].read()
    assert skipped_inputs == {
        f"{tmp_path / 'turned'}, series 5 T1 MPRAGE, {file_name(0)}": "differs from the rest of its series in "
        "orientation",
        str(tmp_path / "turned" / "cut.dcm"): "ends within its header",
    }


def test_missing_slices_are_interpolated_on_demand(tmp_path: Path) -> None:
    data_sets = slices()
    write(tmp_path, data_sets[:5] + data_sets[6:])
    (case,) = found(tmp_path)[0].values()
    with pytest.raises(InputError, match="--allow-gaps"):
        case.channels[0].read()
    assert case.channels[0].read(allow_gaps=True).voxels.shape == noise().shape
    allowed = Settings(allow_gaps=True)
    assert allowed.sha256() != Settings().sha256()
