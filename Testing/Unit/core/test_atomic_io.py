"""Why a file could not be written, and what to do: in sentences that name the cause, on each system."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from LightSegLib.core import atomic_io
from LightSegLib.core.atomic_io import atomic_write, check_folder, output_error
from LightSegLib.core.errors import DiskFullError, OutputError


def windows_error(number: int, code: int, reason: str) -> OSError:
    error = OSError(number, reason)
    error.winerror = code  # type: ignore[attr-defined, unused-ignore]
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Access is denied"), "open in another program"),
        (OSError(errno.EBUSY, "Resource busy"), "open in another program"),
        (windows_error(errno.EINVAL, 32, "The process cannot access the file"), "open in another program"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "could not be written to .*name too long"),
    ],
)
def test_a_table_that_cannot_be_replaced_is_not_blamed_on_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    """The folder takes new files, so that no permissions of it are in the way."""
    table = tmp_path / "results.csv"
    table.write_text("before")

    def refuse(path: Path, target: Path) -> None:
        raise error

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match=words) as caught, atomic_write(table) as part:
        part.write_text("after")
    assert "results.csv" in str(caught.value) and "permissions" not in str(caught.value)
    assert table.read_text() == "before" and list(tmp_path.iterdir()) == [table]


def test_a_disk_that_is_mounted_read_only_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux refuses to delete there even what does not exist."""

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    for change in ("open", "touch", "unlink"):
        monkeypatch.setattr(Path, change, refuse)
    with (
        pytest.raises(OutputError, match=r"is not writable \(Read-only file system\)"),
        atomic_write(tmp_path / "a") as part,
    ):
        part.write_text("content")


@pytest.mark.parametrize(("letters", "words"), [(230, r"too long for Windows, with 2\d\d"), (60, "does not exist")])
def test_a_path_that_is_too_long_for_windows_is_named(
    monkeypatch: pytest.MonkeyPatch, letters: int, words: str
) -> None:
    """Windows then says that the folder does not exist, or that the file cannot be found."""
    monkeypatch.setattr(atomic_io, "WINDOWS", True)
    path = Path("/", "r" * letters, "P001.seg.nrrd")
    with pytest.raises(OutputError, match=words):
        raise output_error(path, FileNotFoundError(errno.ENOENT, "The system cannot find the path specified"))


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    """As on a stick that was taken out while the computation ran."""
    with (
        pytest.raises(OutputError, match=r"gone does not exist\. Create it"),
        atomic_write(tmp_path / "gone" / "a") as part,
    ):
        part.write_text("content")


def test_a_folder_that_takes_no_file_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(errno.EACCES, "Access is denied")
    monkeypatch.setattr(atomic_io, "refusal", lambda folder: denied)
    with pytest.raises(OutputError, match=r"is not writable \(Access is denied\)\. .* change its permissions"):
        check_folder(tmp_path)


def test_asking_a_folder_leaves_nothing_in_it(tmp_path: Path) -> None:
    check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numpys_error_without_a_number_is_a_full_disk(tmp_path: Path) -> None:
    assert type(output_error(tmp_path / "a.npy", OSError("8 requested and 0 written"))) is DiskFullError
