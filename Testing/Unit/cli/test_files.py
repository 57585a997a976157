"""The user's files on the command line: nothing is replaced unasked, and a command that is ended leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_cases import MODEL, SLOW, TESTING, computing, let_go, worker_pids, write_cohort, write_volume
from LightSegLib.cli.main import main
from LightSegLib.cli.signals import ends_as_by_ctrl_c
from LightSegLib.inference.segmenter import Segmenter
from waiting import gone, wait_until

NO_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
SIGNALS = ["SIGTERM", "SIGHUP", "SIGINT"]
BEGINNING = f"""
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have its background ignore these
for one in (signal.SIGTERM, signal.SIGHUP): signal.signal(one, signal.SIG_DFL)
sys.path[:0] = [{str(TESTING.parent / "LightSeg")!r}, {str(TESTING)!r}]
from LightSegLib.cli import main as cli
"""


# --- segment -----------------------------------------------------------------------------------


def test_segment_replaces_a_file_only_when_asked_to(
    tiny_model: Path,
    write_image: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "expert.nii.gz"
    out.write_text("by hand")
    line = ["segment", str(write_image()), "--model", str(tiny_model), "--out", str(out), "--quiet", "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "segment", lambda *_, **__: pytest.fail("it is said before the computation"))
        assert main(line) == 2
    assert "expert.nii.gz already exists. Choose another name for --out, or replace it with --overwrite." in (
        capfd.readouterr().err
    )
    assert out.read_text() == "by hand"
    assert main([*line, "--overwrite"]) == 0
    assert out.read_bytes()[:2] == b"\x1f\x8b"


def test_a_variable_of_the_shell_that_is_not_set_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in `lightseg segment "$IMAGE" ...`: an empty path is not the current folder."""
    monkeypatch.chdir(tmp_path)
    for line in (
        ["segment", "", "--model", "a", "--out", "out.nrrd"],
        ["segment", "a.nii", "--model", "a", "--out", ""],
        ["batch", "", "--model", "a", "--out", "out"],
        ["evaluate", "a", ""],
    ):
        assert main(line) == 2
        assert "the path is empty" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@NO_SIGNALS
def test_a_link_that_leads_nowhere_is_not_replaced_either(
    tiny_model: Path, write_image: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.nrrd"
    out.symlink_to(tmp_path / "a disk that is not mounted" / "out.nrrd")
    assert main(["segment", str(write_image()), "--model", str(tiny_model), "--out", str(out)]) == 2
    assert out.is_symlink()


def test_a_file_that_came_into_being_meanwhile_is_not_replaced(
    tiny_model: Path, write_image: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, segment = tmp_path / "out.nrrd", Segmenter.segment

    def slowly(self: Segmenter, *given: object, **more: object) -> object:
        out.write_text("of another program")
        return segment(self, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "segment", slowly)
    assert main(["segment", str(write_image()), "--model", str(tiny_model), "--out", str(out), "--device", "cpu"]) == 2
    assert out.read_text() == "of another program"


# --- a command that receives a signal to end -------------------------------------------------------------


@NO_SIGNALS
@pytest.mark.parametrize("name", SIGNALS)
def test_a_command_that_receives_a_signal_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    """By a scheduler whose time is up, by a terminal that closes, by Ctrl-C."""
    script = f"""
from LightSegLib.core.atomic_io import atomic_write
from LightSegLib.core.leftovers import temporary_folder
def busy(arguments):
    with temporary_folder(parent=Path({str(tmp_path)!r})) as folder, atomic_write(folder.parent / "a.csv") as part:
        part.write_text("half")
        print("now", flush=True)
        time.sleep(600)
cli.COMMANDS["models"] = busy
sys.exit(cli.main(["models"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", BEGINNING + script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None and command.stdout.readline() == "now\n"
        assert len(list(tmp_path.iterdir())) == 2
        command.send_signal(getattr(signal, name))
        _, message = command.communicate()
    assert (command.returncode, message) == (1, "lightseg: Stopped before the job was done.\n")
    assert list(tmp_path.iterdir()) == []


@NO_SIGNALS
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_batch_that_receives_a_signal_takes_its_workers_along(tmp_path: Path, name: str) -> None:
    cohort, out, places = write_cohort(tmp_path / "scans", 1), tmp_path / "out", tmp_path / "temp"
    places.mkdir()
    write_volume(cohort / "Fall 0.nii.gz", 1, SLOW)
    words = ["batch", str(cohort), "--model", MODEL, "--out", str(out), "--workers", "1", "--no-pictures"]
    words += ["--precision", "float32", "--device", "cpu"]
    script = "from LightSegLib.batch import tasks\ntasks.CASE_PROCESSOR = ('batch_cases', 'MortalProcessor')\n"
    script += f"cli.main({words!r})"
    environment = {**os.environ, "TMPDIR": str(places), "PYTHONPATH": str(TESTING)}
    with subprocess.Popen([sys.executable, "-c", BEGINNING + script], env=environment) as command:
        wait_until(lambda: computing(out, "Fall 0"))
        command.send_signal(getattr(signal, name))
    (worker,) = worker_pids(out)
    assert gone(worker)
    assert [path.name for path in places.iterdir() if path.name.startswith("lightseg")] == []
    let_go(out, "Fall 0")


@NO_SIGNALS
def test_what_nohup_has_ignored_stays_ignored_and_all_is_as_before_afterwards() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ends_as_by_ctrl_c():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # while it cleans up
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
