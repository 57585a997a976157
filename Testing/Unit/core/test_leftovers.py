"""What a killed program leaves is removed by the next one; what others have made, or still use, is not."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from LightSegLib.core import atomic_io, leftovers
from LightSegLib.core.atomic_io import atomic_write
from LightSegLib.core.errors import OutputError
from LightSegLib.core.leftovers import PART, abandoned, new_folder, part_name, remove_abandoned, temporary_folder

LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"
NO_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
OTHERS = (
    ".thesis.part2.docx", ".film.mkv.part", ".config.partial", "notes.part1.txt", ".lightseg-notes.part",
    ".0123456789abcdef0123456789abcdef.part.nii.gz", ".lightseg-abc-1-0123.part.nii.gz",
)  # fmt: skip


def killed(script: str, folder: Path) -> None:
    """Run a program that prints a line and is then killed in what it was doing."""
    lines = "import sys, time\n"
    lines += f"from pathlib import Path\nsys.path.insert(0, {str(LIBRARY)!r})\nhere = Path({str(folder)!r})\n"
    with subprocess.Popen([sys.executable, "-c", lines + script], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None and program.stdout.readline() == "now\n"
        program.kill()
    assert program.returncode == -signal.SIGKILL


WRITING = """
from LightSegLib.core.atomic_io import atomic_write
with atomic_write(here / "result.nii.gz") as part:
    part.write_bytes(b"half")
    print("now", flush=True)
    time.sleep(600)
"""
WORKING = """
from LightSegLib.core.leftovers import temporary_folder
with temporary_folder(parent=here) as folder:
    (folder / "cases").mkdir()
    print("now", flush=True)
    time.sleep(600)
"""


@NO_SIGNALS
def test_the_half_file_of_a_killed_program_goes_with_the_next_result_in_its_folder(tmp_path: Path) -> None:
    for name in OTHERS:
        (tmp_path / name).write_text("mine")
    killed(WRITING, tmp_path)
    assert len(list(tmp_path.iterdir())) == len(OTHERS) + 1
    with atomic_write(tmp_path / "next.nii.gz") as part:
        part.write_bytes(b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {*OTHERS, "next.nii.gz"}


@NO_SIGNALS
def test_the_temporary_folder_of_a_killed_program_goes_when_the_next_one_needs_one(tmp_path: Path) -> None:
    (tmp_path / "lightseg-of-the-user").mkdir()
    killed(WORKING, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    with temporary_folder(parent=tmp_path) as folder:
        assert {path.name for path in tmp_path.iterdir()} == {"lightseg-of-the-user", folder.name}
    assert [path.name for path in tmp_path.iterdir()] == ["lightseg-of-the-user"]


def test_temporary_names_are_short_and_the_longer_ones_of_earlier_versions_are_known(tmp_path: Path) -> None:
    """Most programs of Windows take paths of 259 characters, and the folder of the results has most of them."""
    assert len(part_name(".seg.nrrd")) <= 56
    beginning = f"{PART}{leftovers._computer()}-99999999-"
    left = [tmp_path / f"{beginning}{'0' * digits}.part.seg.nrrd" for digits in (8, 32)]
    for path in (*left, tmp_path / f"{beginning}{'0' * 16}.part.seg.nrrd"):
        path.touch()
    assert sorted(abandoned(tmp_path, PART)) == sorted(left)


def test_what_a_running_program_uses_stays(tmp_path: Path) -> None:
    folder, part = new_folder(parent=tmp_path), tmp_path / part_name(".nrrd")
    part.touch()
    assert abandoned(tmp_path, "lightseg-", PART) == []
    with temporary_folder(parent=tmp_path):
        assert folder.is_dir() and part.is_file()


def test_what_another_computer_has_left_goes_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is on a disk that both use; whether the other's program still runs cannot be seen from here."""
    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "_computer", lambda: "0123456789ab")
        part = tmp_path / part_name(".nrrd")
    part.touch()
    remove_abandoned(tmp_path, PART)
    assert part.is_file()
    day_before_yesterday = time.time() - 2 * leftovers.DAY
    os.utime(part, (day_before_yesterday, day_before_yesterday))
    remove_abandoned(tmp_path, PART)
    assert not part.exists()


@NO_SIGNALS
def test_a_link_that_looks_like_a_leftover_leads_nowhere(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "scan.nii.gz").touch()
    (tmp_path / f"lightseg-{leftovers._computer()}-99999999-abcdefgh").symlink_to(precious)
    remove_abandoned(tmp_path, "lightseg-")
    assert (precious / "scan.nii.gz").exists()


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut leaves an empty file, or an old one that is gone."""
    reported: list[tuple[str, bool]] = []
    to_disk = atomic_io.to_disk

    def note(path: Path) -> None:
        reported.append((path.name, (tmp_path / "a.csv").exists()))
        to_disk(path)

    monkeypatch.setattr(atomic_io, "to_disk", note)
    with atomic_write(tmp_path / "a.csv") as part:
        part.write_text("a")
    assert reported == [(part.name, False), (tmp_path.name, True)]


def test_a_disk_that_shows_of_its_fault_late_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network disk may take all that is written, and only when it is asked say that it had no room."""
    (tmp_path / "a.csv").write_text("older")

    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OutputError, match="disk is full"), atomic_write(tmp_path / "a.csv") as part:
        part.write_text("newer")
    assert (tmp_path / "a.csv").read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_temporary_folders_are_where_the_system_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
        if os.name == "posix":
            assert folder.stat().st_mode & 0o777 == 0o700, "for this user alone"
