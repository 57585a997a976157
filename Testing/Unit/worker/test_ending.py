"""Why a worker did not start, or ended by itself: the message names the cause, on each system."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from batch_cases import MODEL, write_volume
from LightSegLib.batch.case import Case, Source
from LightSegLib.batch.records import FAILED, make_folders
from LightSegLib.batch.settings import Batch, Settings, model_sha256
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import DeviceError, LightSegError
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.worker.client import PACKAGE, Worker
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


@pytest.fixture
def unloadable_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PyTorch for new processes whose library the system does not load, as on a Windows without the runtime."""
    folder = tmp_path / "packages" / "torch"
    folder.mkdir(parents=True)
    reason = (
        '[WinError 126] The specified module could not be found. Error loading "c10.dll" or one of its dependencies.'
    )
    (folder / "__init__.py").write_text(f"raise OSError({reason!r})\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder.parent), str(PACKAGE.parent)]))


CANNOT_LOAD = r"^PyTorch cannot be loaded \(.*c10\.dll.*\)\. Restart the program; .* Visual C\+\+ Redistributable\.$"


def test_a_pytorch_that_cannot_be_loaded_is_named_with_what_helps(unloadable_torch: None) -> None:
    """Also at the second attempt, in the same process."""
    volume = Volume(np.zeros((4, 4, 4), np.int16), Geometry((4, 4, 4)), "T1")
    worker = Worker()
    for _attempt in range(2):
        with pytest.raises(DeviceError, match=CANNOT_LOAD):
            worker.segment(MODEL, [volume])
    worker.stop()


def test_a_batch_names_a_pytorch_that_cannot_be_loaded(unloadable_torch: None, tmp_path: Path) -> None:
    """At once where the backend is chosen, and in the row of a case."""
    case = Case("head", (Source((write_volume(tmp_path / "head.nii.gz"),)),))
    batch = Batch(MODEL, model_sha256(find_card(MODEL)), tmp_path / "out", Settings(), "run")
    make_folders(batch)
    worker = Worker(handler=("LightSegLib.batch.case_processor", "CaseProcessor"))
    with pytest.raises(DeviceError, match=CANNOT_LOAD):
        worker.request(lambda _folder: {"batch": batch.to_json()}, dict)
    row = worker.request(lambda _folder: {"batch": batch.to_json(), "case": case.to_json(), "threads": 1}, dict)["row"]
    assert row["status"] == FAILED and re.match(CANNOT_LOAD, row["error"])
    worker.stop()


def test_the_command_line_names_a_pytorch_that_cannot_be_loaded(unloadable_torch: None, tmp_path: Path) -> None:
    head, out = str(write_volume(tmp_path / "head.nii.gz")), str(tmp_path / "out.nrrd")
    command = [sys.executable, "-m", "LightSegLib.cli", "segment", head, "--model", MODEL, "--out", out]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 1 and re.match(CANNOT_LOAD.replace("^", "^lightseg: "), ended.stderr), ended.stderr
