"""A file for each structure, under names that every disk takes, all of them or none."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog.card import Label
from LightSegLib.core.errors import OutputError
from LightSegLib.imaging import structure_files
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.readers import read_grid
from LightSegLib.imaging.structure_files import RECORD, structure_paths, write_structure_files
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
    assert [path.name for path in paths] == FILES and sorted(folder.glob("[!.]*")) == sorted(paths)
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
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*FILES, "other.txt", RECORD])
    assert (tmp_path / FILES[1]).stat().st_size > 10


def others(segmentation: Segmentation) -> Segmentation:
    """What another model finds in the same image: one structure of the same name, and one of its own."""
    return replace(segmentation, labels=(LABELS[0], Label(2, "Spleen", (9, 9, 9))))


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*"))


def test_the_masks_of_two_runs_are_not_mixed(segmentation: Segmentation, tmp_path: Path) -> None:
    """Without --overwrite nothing changes; with it exactly the masks of the earlier run go."""
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=False)
    for name in ("other.nii.gz", "notes.txt"):
        (tmp_path / name).write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=r"has the masks of an earlier run \(4 files, such as .*replace them with"):
        write_structure_files(
            replace(others(segmentation), labels=(Label(2, "Spleen", (9, 9, 9)),)), tmp_path, ".nii.gz", False
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write_structure_files(others(segmentation), tmp_path, ".nii.gz", overwrite=True)
    assert visible(tmp_path) == sorted(["kidney_left.nii.gz", "Spleen.nii.gz", "other.nii.gz", "notes.txt"])
    write_structure_files(segmentation, tmp_path, ".nrrd", overwrite=True)
    assert visible(tmp_path) == sorted(
        [*(name.replace(".nii.gz", ".nrrd") for name in FILES), "other.nii.gz", "notes.txt"]
    )


def test_a_mask_that_was_corrected_by_hand_is_not_removed(segmentation: Segmentation, tmp_path: Path) -> None:
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=False)
    (tmp_path / FILES[1]).write_text("corrected")
    with pytest.raises(OutputError, match=rf"{FILES[1]} was changed since an earlier run wrote it.*Move it"):
        write_structure_files(others(segmentation), tmp_path, ".nii.gz", overwrite=True)
    assert (tmp_path / FILES[1]).read_text() == "corrected" and visible(tmp_path) == sorted(FILES)


def test_a_run_that_was_killed_on_the_way_leaves_nothing_that_the_next_one_overlooks(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=False)
    unlink = Path.unlink

    def killed_at_a_mask(path: Path, missing_ok: bool = False) -> None:
        if path.name in FILES:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", killed_at_a_mask)
    with pytest.raises(KeyboardInterrupt):
        write_structure_files(others(segmentation), tmp_path, ".nii.gz", overwrite=True)
    monkeypatch.undo()
    assert "Spleen.nii.gz" in visible(tmp_path)
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=True)
    assert visible(tmp_path) == sorted(FILES)


@pytest.mark.parametrize("name", ["../image.nii.gz", "notes.txt", "sub/image.nii.gz"])
def test_a_record_that_names_other_files_removes_none(segmentation: Segmentation, tmp_path: Path, name: str) -> None:
    """The folder may come from a stranger."""
    folder = tmp_path / "masks"
    (folder / "sub").mkdir(parents=True)
    (folder / name).write_text("mine")
    digest = hashlib.sha256(b"mine").hexdigest()
    (folder / RECORD).write_text(json.dumps({"files": {name: digest}}))
    write_structure_files(segmentation, folder, ".nii.gz", overwrite=True)
    assert (folder / name).read_text() == "mine"


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
