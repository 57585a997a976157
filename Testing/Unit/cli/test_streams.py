"""Standard streams that are closed, full or unread, as under a scheduler, and names that no file system takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from LightSegLib.cli.main import main

LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"
POSIX = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")


def shell(words: str, folder: Path) -> tuple[int, str]:
    """Exit code of a command line for bash in which `lightseg` is the command, and its output on either stream."""
    command = f'lightseg() {{ "{sys.executable}" -P -m LightSegLib.cli "$@"; }}\nset -o pipefail\n{words}'
    environment = os.environ | {"PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", command], capture_output=True, text=True, cwd=folder, env=environment
    )
    return done.returncode, done.stdout + done.stderr


@POSIX
def test_a_full_or_unread_output_is_reported_and_closed_ones_are_not_harm(tmp_path: Path) -> None:
    """One test, for each command starts Python anew."""
    full = "The standard output cannot be written (No space left on device). Redirect it to another file"
    for words, code, said in (
        ("lightseg models >/dev/full", 1, full),
        ("lightseg models >&-", 0, ""),
        ("lightseg models >&- 2>&-", 0, ""),
        ("lightseg models | true; echo ${PIPESTATUS[0]}", 0, "1"),
        ("lightseg info nothing 2>/dev/full", 2, ""),
        ("lightseg info nothing 2>&-", 2, ""),
        ("PYTHONUNBUFFERED=1 lightseg --version >/dev/full", 1, full),
        ("PYTHONUNBUFFERED= lightseg --version >/dev/full", 1, full),
        ("lightseg nothing 2>/dev/full", 2, ""),
        ("mkdir gone; cd gone; rmdir ../gone; lightseg models", 2, "The current folder cannot be used (No such file"),
    ):
        found, text = shell(words, tmp_path)
        assert found == code and said in text, (words, text)
        assert "Traceback" not in text and "Exception ignored" not in text


@pytest.mark.slow
@POSIX
def test_nothing_but_the_result_is_in_the_result_where_streams_are_closed(tiny_model: Path, tmp_path: Path) -> None:
    """The result would be opened as the stream to which libraries write."""
    import numpy as np
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(8, 9, 10))), str(tmp_path / "a.nrrd"))
    words = f'lightseg segment a.nrrd --model "{tiny_model}" --out o.nii --precision float32 0<&- >&- 2>&-'
    assert shell(words, tmp_path) == (0, "")
    assert (tmp_path / "o.nii").stat().st_size == 352 + 8 * 9 * 10


@pytest.mark.parametrize("name", ["a" * 300 + ".nii.gz", "a" * 247 + ".seg.nrrd"])
def test_a_name_that_no_file_can_have_is_reported_before_the_computation(
    tiny_model: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", "no such scan.nii", "--model", str(tiny_model), "--out", str(tmp_path / name)]) == 2
    assert "cannot be written (File name too long). Choose another name." in capfd.readouterr().err.replace("\n", " ")


def test_what_the_system_states_of_a_file_is_a_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of any path that a command takes, whatever it is that the system does not like about it."""
    long = str(tmp_path / ("a" * 5000))
    for words in (
        ["segment", long, "--model", "hippocampus-mr-lightmedseg", "--out", str(tmp_path / "o.nrrd")],
        ["segment", str(tmp_path), "--model", long, "--out", str(tmp_path / "o.nrrd")],
        ["batch", long, "--model", "hippocampus-mr-lightmedseg", "--out", str(tmp_path / "out")],
        ["batch", str(tmp_path), "--model", "hippocampus-mr-lightmedseg", "--out", long],
        ["evaluate", long, long],
        ["import", long],
        ["info", long],
        ["weights", "use", "abdomen-ct-unetrpp", long],
        ["train", long, "--out", str(tmp_path / "m")],
        ["train", "--synthesize", long, "--out", str(tmp_path / "m")],
        ["reproduce", long, long],
    ):
        code, said = main(words), capfd.readouterr().err
        assert code in (1, 2) and said.startswith("lightseg: ") and "unexpected" not in said, (words[0], said)


def test_a_computer_without_a_folder_for_temporary_files_is_named(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As in a container that is read-only; the current folder is the last that Python tries."""
    import numpy as np
    import SimpleITK as sitk

    scan = tmp_path / "scan.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(8, 9, 10))), str(scan))
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", None)
        patched.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
        assert main(["segment", str(scan), "--model", str(tiny_model), "--out", str(tmp_path / "o.nii.gz")]) == 2
    assert "No folder for temporary files can be written. Free some space, or set TMPDIR" in capfd.readouterr().err
    assert not (tmp_path / "o.nii.gz").exists()


def test_a_word_that_acts_is_shown_as_text_in_what_is_said_of_an_option(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "anything", "--out", "m", "--patch-size", "\x1b[31m"]) == 2
    said = capfd.readouterr().err
    assert "\x1b" not in said and "'\\u001b[31m' is not three whole numbers" in said
