"""Dangerous zip files are not unpacked."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from imported_models import zipped
from LightSegLib.core.errors import InputError
from LightSegLib.models import archives
from LightSegLib.models.importing import import_model

pytestmark = pytest.mark.usefixtures("nothing_left_over")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../outside.txt", "points outside the archive"),
        ("a/../../outside.txt", "points outside the archive"),
        ("..\\outside.txt", "points outside the archive"),
        ("/outside.txt", "has an absolute path"),
        ("\\\\server\\share\\outside.txt", "has an absolute path"),
        ("C:\\outside.txt", "has an absolute path"),
        ("c:outside.txt", "has an absolute path"),
    ],
)
def test_a_zip_that_reaches_out_of_its_folder_is_refused(
    results: Path, tmp_path: Path, models: Path, name: str, words: str
) -> None:
    file = zipped(results, tmp_path / "model.zip")
    entry = zipfile.ZipInfo("x")
    entry.filename = name  # the constructor would turn backslashes round on Windows
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(entry, "x")
    with pytest.raises(InputError, match=words):
        import_model(file)
    assert not models.exists() and not list(tmp_path.rglob("outside.txt"))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([""], "has no name"),
        (["."], "has no name"),
        (["a" * 300], "has a name that is too long"),
        (["a/" * 60 + "x"], "has a name that is too long"),
        (["a/" * 2000 + "x"], "has a name that is too long"),
        (["a", "A"], "occurs twice"),
        (["a", "a/b"], "has a file as its folder"),
        (["a/b", "a"], "occurs twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_no_file_system_could_hold_is_refused(
    results: Path, tmp_path: Path, models: Path, names: list[str], words: str
) -> None:
    file = zipped(results, tmp_path / "model.zip")
    with zipfile.ZipFile(file, "a") as archive:
        for name in names:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            archive.writestr(entry, "x")
    with pytest.raises(InputError, match=words):
        import_model(file)
    assert not models.exists()


def test_a_zip_with_a_link_is_refused(results: Path, tmp_path: Path) -> None:
    file = zipped(results, tmp_path / "model.zip")
    link = zipfile.ZipInfo(f"{results.name}/link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="is a link or a device"):
        import_model(file)


def test_an_encrypted_zip_is_refused(results: Path, tmp_path: Path) -> None:
    file = zipped(results, tmp_path / "model.zip")
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        where = archive.start_dir
    data[where + 8] |= 1  # general purpose bit 0 of the first entry in the central directory
    file.write_bytes(data)
    with pytest.raises(InputError, match="is encrypted"):
        import_model(file)


def test_a_zip_of_endless_zeros_is_refused_before_it_is_unpacked(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 10**7)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"model/{number}.pth", bytes(4 * 10**6))
    monkeypatch.setattr(archives, "extract", lambda *_: pytest.fail("was unpacked"))
    with pytest.raises(InputError, match=r"3 files with 0\.0 GB, more than any model"):
        import_model(tmp_path / "bomb.zip")
    assert not models.exists()


def test_a_zip_that_does_not_fit_on_the_disk_is_refused_before_it_is_unpacked(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = zipped(results, tmp_path / "model.zip")
    usage = shutil.disk_usage(tmp_path)
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    needed = -(-(unpacked + archives.SPARE_BYTES) // 1_000_000)  # rounded up: less would not do
    free = unpacked + archives.SPARE_BYTES - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    monkeypatch.setattr(archives, "extract", lambda *_: pytest.fail("was unpacked"))
    with pytest.raises(
        InputError, match=rf"needs {needed} MB of free space to be unpacked, but .* has only {needed - 1} MB"
    ):
        import_model(file)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "content"])
def test_a_damaged_zip_is_refused(results: Path, tmp_path: Path, models: Path, damage: str) -> None:
    file = zipped(results, tmp_path / "model.zip")
    whole = file.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "empty": b"",
        "text": b"<html>Not found</html>",
        "cut": whole[:middle],
        "content": whole[:middle] + bytes(64) + whole[middle + 64 :],
    }
    file.write_bytes(damaged[damage])
    with pytest.raises(InputError, match=r"model\.zip is not a valid zip or tar\.gz file"):
        import_model(file)
    assert not models.exists()
