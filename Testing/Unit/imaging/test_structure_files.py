"""A file for each structure, under names that every disk takes, all of them or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog.card import Label
from LightSegLib.core.errors import OutputError
from LightSegLib.imaging import structure_files
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.readers import read_grid
from LightSegLib.imaging.structure_files import structure_paths, write_structure_files
from LightSegLib.imaging.volume import Segmentation

LABELS = (
    Label(1, "Left kidney", (9, 9, 9), original="kidney_left"),
    Label(2, "L5/S1: disc", (9, 9, 9)),
    Label(5, "l5_s1_ DISC", (9, 9, 9)),
    Label(7, "CON", (9, 9, 9)),
)
FILES = ["kidney_left.nii.gz", "L5_S1_ disc.nii.gz", "l5_s1_ DISC (2).nii.gz", "_CON.nii.gz"]


@pytest.fixture
def segmentation() -> Segmentation:
    voxels = np.zeros((3, 4, 5), np.uint8)
    voxels[0, 0, :2], voxels[1, 1], voxels[2, 2, 3] = 1, 2, 5
    return Segmentation(voxels, Geometry((3, 4, 5), (1.5, 1.0, 3.0)), LABELS, {"model": "spine"})


def test_each_file_has_its_structure_alone_also_where_none_was_found(
    segmentation: Segmentation, tmp_path: Path
) -> None:
    folder = tmp_path / "Masken ä"
    paths = write_structure_files(segmentation, folder, ".nii.gz", overwrite=False)
    assert [path.name for path in paths] == FILES and sorted(folder.iterdir()) == sorted(paths)
    for path, label in zip(paths, LABELS, strict=True):
        voxels, geometry = read_grid(path)
        assert geometry.matches(segmentation.geometry)
        np.testing.assert_array_equal(voxels, segmentation.voxels == label.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["Masken ä"]


def test_files_of_others_stay_and_own_ones_are_replaced_only_where_asked(
    segmentation: Segmentation, tmp_path: Path
) -> None:
    (tmp_path / FILES[1]).write_text("mine")
    (tmp_path / "other.txt").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=False)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([FILES[1], "other.txt"])
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*FILES, "other.txt"])
    assert (tmp_path / FILES[1]).stat().st_size > 10


def test_a_failure_on_the_way_leaves_nothing(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = structure_files.write_segmentation, []

    def fail_at_the_third(one: Segmentation, path: Path) -> None:
        written.append(path)
        if len(written) == 3:
            raise OutputError("The disk is full.")
        write(one, path)

    monkeypatch.setattr(structure_files, "write_segmentation", fail_at_the_third)
    with pytest.raises(OutputError):
        write_structure_files(segmentation, tmp_path / "masks", ".nii.gz", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        structure_files.check_structure_files(LABELS, tmp_path / "no" / "masks", ".nii.gz", False)
    assert [path.name for path in structure_paths(LABELS, tmp_path, ".nii.gz").values()] == FILES
