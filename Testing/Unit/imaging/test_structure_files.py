"""A file for each structure, under names that every disk takes, all of them or none."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog.card import Label
from LightSegLib.core import leftovers
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
    paths, removed = write_structure_files(segmentation, folder, ".nii.gz", overwrite=False)
    assert removed == 0
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
    with pytest.raises(
        OutputError, match=r"has the masks of an earlier run \(number of files: 4, such as .*replace them with"
    ):
        write_structure_files(
            replace(others(segmentation), labels=(Label(2, "Spleen", (9, 9, 9)),)), tmp_path, ".nii.gz", False
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    paths, removed = write_structure_files(others(segmentation), tmp_path, ".nii.gz", overwrite=True)
    assert [path.name for path in paths] == ["kidney_left.nii.gz", "Spleen.nii.gz"] and removed == 3
    assert visible(tmp_path) == sorted(["kidney_left.nii.gz", "Spleen.nii.gz", "other.nii.gz", "notes.txt"])
    write_structure_files(segmentation, tmp_path, ".nrrd", overwrite=True)
    assert visible(tmp_path) == sorted(
        [*(name.replace(".nii.gz", ".nrrd") for name in FILES), "other.nii.gz", "notes.txt"]
    )


@pytest.mark.parametrize("name", FILES[:2])
def test_a_mask_that_was_corrected_by_hand_is_neither_removed_nor_replaced(
    segmentation: Segmentation, tmp_path: Path, name: str
) -> None:
    """The first name comes again in the next run, the second does not; once the mask is moved, the run goes through."""
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=False)
    (tmp_path / name).write_text("corrected")
    with pytest.raises(OutputError, match=rf"{name} was changed since an earlier run wrote it.*Move it"):
        write_structure_files(others(segmentation), tmp_path, ".nii.gz", overwrite=True)
    assert (tmp_path / name).read_text() == "corrected" and visible(tmp_path) == sorted(FILES)
    (tmp_path / name).rename(tmp_path / "corrected.nii.gz")
    write_structure_files(others(segmentation), tmp_path, ".nii.gz", overwrite=True)
    assert visible(tmp_path) == sorted(["kidney_left.nii.gz", "Spleen.nii.gz", "corrected.nii.gz"])


def single(segmentation: Segmentation, name: str) -> Segmentation:
    """What a model of one structure finds."""
    return replace(segmentation, labels=(Label(1, name, (9, 9, 9)),))


def test_a_name_in_other_capitals_leaves_one_mask(segmentation: Segmentation, tmp_path: Path) -> None:
    write_structure_files(single(segmentation, "Liver"), tmp_path, ".nii.gz", overwrite=False)
    write_structure_files(single(segmentation, "liver"), tmp_path, ".nii.gz", overwrite=True)
    assert visible(tmp_path) == ["liver.nii.gz"]


@pytest.mark.parametrize(("earlier", "later"), [("Liver", "liver"), ("Ru\u0308ckgrat", "R\u00fcckgrat")])
def test_a_disk_that_takes_both_names_for_the_same_keeps_the_new_mask(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: str, later: str
) -> None:
    """As on macOS and Windows, which ignore capitals, and on macOS, which ignores the form of accents."""

    def entry(path: Path | str) -> Path:
        path = Path(path)
        key = unicodedata.normalize("NFC", path.name).casefold()
        names = (one for one in path.parent.iterdir() if unicodedata.normalize("NFC", one.name).casefold() == key)
        return next(names, path)

    lexists, move, unlink = os.path.lexists, Path.replace, Path.unlink
    monkeypatch.setattr(os.path, "lexists", lambda path: lexists(entry(path)))
    monkeypatch.setattr(Path, "replace", lambda path, target: move(entry(path), entry(target)))
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: unlink(entry(path), missing_ok))
    write_structure_files(single(segmentation, earlier), tmp_path, ".nii.gz", overwrite=False)
    _paths, removed = write_structure_files(single(segmentation, later), tmp_path, ".nii.gz", overwrite=True)
    (mask,) = tmp_path.glob("[!.]*")
    assert entry(tmp_path / f"{later}.nii.gz") == mask and removed == 0


MOVES = range(1, 9)  # four masks and their record go, a record and two masks come


def replace_stops(monkeypatch: pytest.MonkeyPatch, folder: Path, at: int, error: BaseException, often: bool) -> None:
    """Let a move into or out of a folder fail, counted from 1, and `often` each one from there on."""
    move, moves = Path.replace, itertools.count(1)

    def stopping(path: Path, target: Path) -> Path:
        if folder in (path.parent, target.parent) and ((number := next(moves)) == at or (often and number > at)):
            raise error
        return move(path, target)

    monkeypatch.setattr(Path, "replace", stopping)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("at", MOVES)
def test_a_run_that_was_killed_on_the_way_leaves_nothing_that_the_next_one_overlooks(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Nor anything that it takes for changed."""
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=False)
    replace_stops(monkeypatch, tmp_path, at, KeyboardInterrupt(), often=True)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        write_structure_files(others(segmentation), tmp_path, ".nii.gz", overwrite=True)
    monkeypatch.undo()
    monkeypatch.setattr(leftovers, "_runs", lambda _process: False)
    write_structure_files(segmentation, tmp_path, ".nrrd", overwrite=True)
    assert visible(tmp_path) == sorted(name.replace(".nii.gz", ".nrrd") for name in FILES)
    assert len(contents(tmp_path)) == len(FILES) + 1


@pytest.mark.parametrize("at", MOVES)
def test_a_file_that_cannot_be_replaced_leaves_all_as_it_was(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """As on Windows, where a viewer has it open."""
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=False)
    before = contents(tmp_path)
    replace_stops(monkeypatch, tmp_path, at, PermissionError(errno.EACCES, "it is in use"), often=False)
    with pytest.raises(OutputError, match=r"\(it is in use\), probably .* All files are as they were") as raised:
        write_structure_files(others(segmentation), tmp_path, ".nii.gz", overwrite=True)
    assert any(f"{tmp_path / name} could" in str(raised.value) for name in (*before, "Spleen.nii.gz"))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("at", [1, 3])
def test_a_file_that_cannot_get_its_place_leaves_no_new_folder(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    replace_stops(monkeypatch, tmp_path / "masks", at, PermissionError(errno.EACCES, "it is in use"), often=False)
    with pytest.raises(OutputError, match="it is in use"):
        write_structure_files(others(segmentation), tmp_path / "masks", ".nii.gz", overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_stopped_while_files_are_moved_leaves_all_as_it_was(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=False)
    before = contents(tmp_path)
    replace_stops(monkeypatch, tmp_path, 7, KeyboardInterrupt(), often=False)
    with pytest.raises(KeyboardInterrupt):
        write_structure_files(others(segmentation), tmp_path, ".nii.gz", overwrite=True)
    assert contents(tmp_path) == before


def test_masks_that_cannot_be_put_back_are_kept_and_named(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=False)
    before = contents(tmp_path)
    replace_stops(monkeypatch, tmp_path, 4, PermissionError(errno.EACCES, "it is in use"), often=True)
    with pytest.raises(OutputError, match="Not all earlier files could be put back") as raised:
        write_structure_files(others(segmentation), tmp_path, ".nii.gz", overwrite=True)
    (kept,) = tmp_path.glob(".replaced-*")
    assert f"move what is in {kept} back" in str(raised.value)
    there = {path.name: path.read_bytes() for folder in (tmp_path, kept) for path in folder.glob("*") if path.is_file()}
    assert there == before


def test_a_folder_on_another_disk_or_beside_what_cannot_be_written_is_enough(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a folder that a container is given: nothing is written beside it."""
    folder = tmp_path / "masks"
    folder.mkdir()
    make = tempfile.mkdtemp

    def within(prefix: str, dir: Path) -> str:  # noqa: A002 (as the function has it)
        assert dir == folder
        return make(prefix=prefix, dir=dir)

    monkeypatch.setattr(tempfile, "mkdtemp", within)
    write_structure_files(segmentation, folder, ".nii.gz", overwrite=False)
    assert visible(folder) == sorted(FILES)


@pytest.mark.parametrize("name", [FILES[1], RECORD])
def test_a_mask_or_record_that_cannot_be_read_is_named(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=False)
    unreadable, opened = tmp_path / name, Path.open

    def refusing(path: Path, *more: object, **others: object) -> object:
        if path == unreadable:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *more, **others)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refusing)
    monkeypatch.setattr(Path, "read_bytes", lambda path: refusing(path, "rb").read())  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match=rf"{name} cannot be used \(Permission denied\). Check its name and perm"):
        structure_files.check_structure_files(LABELS, tmp_path, ".nii.gz", True)


@pytest.mark.parametrize("name", ["../image.nii.gz", "notes.txt", "sub/image.nii.gz", "slice.dcm"])
def test_a_record_that_names_other_files_removes_none(segmentation: Segmentation, tmp_path: Path, name: str) -> None:
    """The folder may come from a stranger."""
    folder = tmp_path / "masks"
    (folder / "sub").mkdir(parents=True)
    (folder / name).write_text("mine")
    digest = hashlib.sha256(b"mine").hexdigest()
    (folder / RECORD).write_text(json.dumps({"files": {name: digest}}))
    write_structure_files(segmentation, folder, ".nii.gz", overwrite=True)
    assert (folder / name).read_text() == "mine"


def test_a_record_with_a_name_that_no_disk_takes_is_no_obstacle(segmentation: Segmentation, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(json.dumps({"files": {"a" * 300 + ".nii.gz": "0"}}))
    write_structure_files(segmentation, tmp_path, ".nii.gz", overwrite=True)
    assert visible(tmp_path) == sorted(FILES)


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
    with pytest.raises(OutputError, match=r"cannot be used .* Check its name"):
        structure_files.check_structure_files(LABELS, tmp_path / ("m" * 300), ".nii.gz", False)
    assert [path.name for path in structure_paths(LABELS, tmp_path, ".nii.gz").values()] == FILES
