"""Trees of DICOM files: a case for each volume, wherever its files are, and everything else by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import file_name, multiframe, noise, slices, write
from LightSegLib.batch.case import Case, SkippedInput
from LightSegLib.batch.cases import find_cases
from LightSegLib.batch.settings import Settings
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import InputError

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
