"""Why a worker did not start, or ended by itself: the message names the cause, on each system."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from LightSegLib.core.errors import DeviceError, LightSegError
from LightSegLib.worker.client import Worker
from LightSegLib.worker.ending import ended

MEMORY = "most likely because memory ran out"
FAULT = """Traceback (most recent call last):
  File "server.py", line 48, in main
TypeError: Object of type set is not JSON serializable
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where all temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_library_that_cannot_be_imported_is_named_and_not_taken_for_memory(places: Path) -> None:
    """As PyTorch for another Python, or half of LightSeg after an update."""
    worker = Worker(handler=("LightSegLib.worker.half_updated", "Handler"))
    with pytest.raises(
        DeviceError, match=r"could not start \(exit code 1: ModuleNotFoundError: .*half_updated"
    ) as found:
        worker.request(lambda _folder: {}, dict)
    assert "memory" not in str(found.value) and "Traceback" in worker.log
    assert list(places.iterdir()) == []


@pytest.mark.parametrize(
    "there",
    [False, pytest.param(True, marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals"))],
)
def test_an_interpreter_that_cannot_be_run_is_named(places: Path, there: bool) -> None:
    """It was removed, or may not be run; the folder of temporary files has nothing to do with it."""
    python = places / "PythonSlicer"
    if there:
        python.write_text("not a program", encoding="utf-8")
    with pytest.raises(DeviceError, match=r"the program .*PythonSlicer cannot be run \((No such file|Permission)"):
        Worker(str(python)).request(lambda _folder: {}, dict)
    assert list(places.iterdir()) == [python] * there


@pytest.mark.parametrize(
    ("code", "log", "words"),
    [
        (-9, "", MEMORY),
        (0xC0000017, "", MEMORY),
        (0xC000012D, "", MEMORY),
        (1, "loading\n", MEMORY),
        (1, FAULT, "error in LightSeg .TypeError: Object of type set"),
        (0xC0000005, "", r"ended unexpectedly \(access violation, 0xC0000005\)"),
        (-0x3FFFFFFB, "", r"ended unexpectedly \(access violation, 0xC0000005\)"),
        (0xC0000374, "", r"ended unexpectedly \(exit code 0xC0000374\)"),
        (-11, "", r"ended unexpectedly \(SIGSEGV\)"),
        (3, "", r"ended unexpectedly \(exit code 3\)"),
    ],
)
def test_the_end_of_a_computation_has_its_cause(code: int, log: str, words: str) -> None:
    """Exit codes of Windows are 32 bits, which a launcher may pass on as a negative number."""
    error = ended(code, True, log)
    assert isinstance(error, LightSegError)
    with pytest.raises(LightSegError, match=words):
        raise error


@pytest.mark.parametrize(
    ("code", "log", "words"),
    [
        (-9, "", MEMORY),
        (0xC0000135, "", "Install the Microsoft Visual C"),
        (0xC0000005, "", r"could not start \(access violation, 0xC0000005\)"),
        (127, "python: error while loading shared libraries: libm.so\n", "could not start .*127: python: error while"),
        (1, "", r"could not start \(exit code 1\)"),
    ],
)
def test_the_end_of_a_start_has_its_cause(code: int, log: str, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        raise ended(code, False, log)


def test_the_traceback_of_an_earlier_job_does_not_explain_a_later_end(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through Slicer's launcher the end by the system is no more than an exit code of 1."""
    script = (
        "import os\n"
        "class Mortal:\n"
        "    def __call__(self, job, progress):\n"
        "        if job['end']: os._exit(1)\n"
        "        raise ValueError('spoiled image')\n"
    )
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "mortal.py").write_text(script, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(modules))
    worker = Worker(handler=("mortal", "Mortal"))
    with pytest.raises(LightSegError, match="spoiled image"):
        worker.request(lambda _folder: {"end": False}, dict)
    with pytest.raises(DeviceError, match=MEMORY):
        worker.request(lambda _folder: {"end": True}, dict)
    assert "spoiled image" in worker.log
