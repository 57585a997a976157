"""A job in a process of its own: the same result, warm the second time, and no trace of it whatever happens."""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import LightSegLib
import numpy as np
import pytest
from LightSegLib.batch import cluster_worker
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core import errors
from LightSegLib.core.errors import Canceled, DeviceError, InputError, LightSegError, OutputError, UnknownModelError
from LightSegLib.core.progress import Progress
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.weights.download import NotEnoughSpace
from LightSegLib.worker import messages
from LightSegLib.worker.client import Worker
from LightSegLib.worker.segment_handler import SegmenterCache
from run_options import PLAIN
from waiting import PATIENCE, gone, wait_until

MODEL = "hippocampus-mr-lightmedseg"
LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"
NO_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where all temporary files go: an own folder whose name is a user's."""
    folder = tmp_path / "Bjørn's temporary files"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def worker(places: Path) -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.stop()
    assert not list(places.iterdir()), "a stopped worker leaves nothing"


def brain(*shape: int) -> Volume:
    """Blobs on an oblique grid, int16 as a scanner stores them."""
    random = np.random.default_rng(4)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    smooth = np.cumsum(random.normal(size=shape), axis=0) * 50
    return Volume(smooth.astype(np.int16), Geometry(shape, (1, 1, 1.2), (3, -4, 5), tuple(turn.ravel())), "T1 ä")


SMALL = brain(32, 48, 32)


@cache
def large() -> Volume:
    """So large that a job is still at it whenever the test does something to it."""
    return brain(128, 128, 128)


def after_first_tile(act: Callable[[], object]) -> Callable[[Progress], None]:
    """A progress callback that acts, in a thread as a window would, when the computation has begun."""
    once: list[threading.Thread] = []

    def report(progress: Progress) -> None:
        if progress.tiles and not once:
            once.append(threading.Thread(target=act))
            once[0].start()

    return report


def test_it_gives_what_the_segmenter_gives_and_is_warm_the_second_time(worker: Worker, places: Path) -> None:
    region = RegionOfInterest.from_ras(*(SMALL.geometry.index_to_world @ [0, 0, 0, 1])[:3] * (-1, -1, 1), 40, 40, 40)
    expected = Segmenter(find_card(MODEL), replace(PLAIN, confidence=True)).segment([SMALL], region)
    steps: list[Progress] = []

    found = worker.segment(MODEL, [SMALL], region, replace(PLAIN, confidence=True), steps.append)
    pid = worker.pid
    again = worker.segment(MODEL, [SMALL], region, PLAIN)

    np.testing.assert_array_equal(found.voxels, expected.voxels)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1)
    assert (found.geometry, found.labels) == (expected.geometry, expected.labels)
    assert found.provenance.keys() == expected.provenance.keys()
    assert any(step.tiles and step.tile == step.tiles for step in steps)
    assert worker.pid == pid and again.confidence is None
    (session,) = places.iterdir()
    assert [path.name for path in session.iterdir()] == ["log.txt"], "a job's files go with it"


def test_the_model_stays_loaded_until_another_is_wanted() -> None:
    kept, card = SegmenterCache(), find_card(MODEL)
    first = kept.get(card, PLAIN)
    mirrored = replace(PLAIN, mirror=True)
    assert kept.get(find_card(MODEL), mirrored) is first and first.options == mirrored
    assert kept.get(replace(card, version="2"), PLAIN) is not first
    assert kept.get(card, PLAIN) is not first, "two models do not lie in memory at a time"


def test_errors_arrive_as_they_were_raised_and_the_worker_goes_on(worker: Worker) -> None:
    with pytest.raises(UnknownModelError, match="There is no model 'hipocampus'"):
        worker.segment("hipocampus", [SMALL])
    pid = worker.pid
    flat = Volume(np.zeros((8, 8, 8), np.int16), Geometry((8, 8, 8)), "flat")
    with pytest.raises(InputError, match="flat is constant"):
        worker.segment(MODEL, [flat])
    assert worker.pid == pid
    of_another_version = {"model": MODEL, "options": PLAIN.to_json() | {"sharpness": 3}}
    with pytest.raises(InputError, match="option sharpness = 3 is not known on this computer"):
        worker.request(lambda _folder: of_another_version, dict)
    with pytest.raises(LightSegError, match=r"computation failed because of an error in LightSeg .'model'.") as caught:
        worker.request(lambda _folder: {"a fault of the program": True}, dict)
    assert type(caught.value) is LightSegError and "Traceback" in worker.log


def test_every_error_of_the_library_arrives_as_the_nearest_kind_that_the_receiver_knows() -> None:
    """Also those that a module defines for itself, such as that of a disk too full for a download."""
    for module in pkgutil.walk_packages(LightSegLib.__path__, "LightSegLib."):
        if not module.name.startswith("LightSegLib.slicer_app") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds = [LightSegError]
    for kind in kinds:  # which grows
        kinds += (below for below in kind.__subclasses__() if below not in kinds)
    assert {NotEnoughSpace, cluster_worker.CannotTakePart} < set(kinds)
    for kind in kinds:
        arrived = messages.error_of(messages.error_message(kind("The reason. What to do.")))
        assert isinstance(kind("The reason."), type(arrived)), kind
        assert (type(arrived) is kind) == (kind.__module__ == errors.__name__)
        assert (str(arrived), arrived.exit_code) == ("The reason. What to do.", kind.exit_code)
    assert type(messages.error_of(messages.error_message(NotEnoughSpace("Full.")))) is OutputError
    assert type(messages.error_of({"error": "ErrorOfALaterVersion", "message": "No."})) is LightSegError


def test_cancel_ends_the_process(worker: Worker, places: Path, tiny_model: Path) -> None:
    canceled = threading.Event()
    pids: list[int | None] = []
    watch = after_first_tile(canceled.set)

    def report(progress: Progress) -> None:
        pids.append(worker.pid)
        watch(progress)

    with pytest.raises(Canceled):
        worker.segment(str(tiny_model), [large()], progress=report, canceled=canceled.is_set, options=PLAIN)

    assert worker.pid is None and pids[0] is not None and gone(pids[0])
    assert not list(places.iterdir())
    assert worker.segment(MODEL, [SMALL], options=PLAIN).voxels.shape == SMALL.voxels.shape, "the next job runs"


def test_a_cancel_before_the_process_has_begun_is_not_lost(worker: Worker, tiny_model: Path) -> None:
    with pytest.raises(Canceled):
        worker.segment(str(tiny_model), [large()], canceled=lambda: True, options=PLAIN)


@NO_SIGNALS
@pytest.mark.parametrize(
    ("number", "words"),
    [("SIGKILL", "most likely because memory ran out"), pytest.param("SIGSEGV", "SIGSEGV", marks=pytest.mark.slow)],
)
def test_a_process_that_dies_is_a_message_and_the_next_job_runs(
    worker: Worker, number: str, words: str, tiny_model: Path
) -> None:
    def die() -> None:
        assert worker.pid is not None
        os.kill(worker.pid, getattr(signal, number))

    with pytest.raises(DeviceError, match=words):
        worker.segment(str(tiny_model), [large()], progress=after_first_tile(die), options=PLAIN)
    assert worker.segment(MODEL, [SMALL], options=PLAIN).voxels.shape == SMALL.voxels.shape


@pytest.mark.slow
@NO_SIGNALS
def test_through_a_launcher_that_shows_nothing_of_the_end_memory_is_named(
    places: Path, tmp_path: Path, tiny_model: Path
) -> None:
    """As Slicer's, which is in between, passes the pipes on and ends with 1 whatever ended the program."""
    launcher = tmp_path / "PythonSlicer"
    script = f'exec 3<&0\n"{sys.executable}" "$@" <&3 &\necho $! > "{tmp_path}/pid"\nwait $! || exit 1\n'
    launcher.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
    launcher.chmod(0o755)
    worker = Worker(str(launcher))

    def die() -> None:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    with pytest.raises(DeviceError, match="most likely because memory ran out"):
        worker.segment(str(tiny_model), [large()], progress=after_first_tile(die), options=PLAIN)
    worker.segment(MODEL, [SMALL], options=PLAIN)
    pid = int((tmp_path / "pid").read_text())
    worker.stop()
    wait_until(lambda: gone(pid))  # the program behind the launcher ends with it


@pytest.mark.slow
@NO_SIGNALS
def test_a_full_disk_in_the_worker_is_reported(places: Path, tmp_path: Path) -> None:
    """No file of the process may have more than 100 blocks, less than the labels need."""
    python = tmp_path / "python with a small disk"
    python.write_text(f'#!/bin/sh\nulimit -f 100\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    worker = Worker(str(python))
    with pytest.raises(OutputError, match="the disk is full"):
        worker.segment(MODEL, [brain(64, 64, 32)], options=PLAIN)
    worker.stop()


def test_what_is_printed_in_the_process_goes_to_the_log_and_not_between_the_answers(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Python, by a library that knows nothing of it, and by a program; none of them ends its line."""
    script = (
        "import os, subprocess\n"
        "class Chatty:\n"
        "    def __call__(self, job, progress):\n"
        "        print('Python says', end='', flush=True)\n"
        "        os.write(1, b'a library says')\n"
        "        subprocess.run(['printf', 'a program says'])\n"
        "        return {'answer': job['question'] + 1}\n"
    )
    (tmp_path / "chatty.py").write_text(script, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = Worker(handler=("chatty", "Chatty"))
    until = time.monotonic() + PATIENCE  # for an answer that is not understood
    for question in (1, 2):
        answer = worker.request(lambda _, n=question: {"question": n}, dict, canceled=lambda: time.monotonic() > until)
        assert answer == {"answer": question + 1}
    for who in ("Python", "a library", "a program"):
        assert worker.log.count(f"{who} says") == 2
    worker.stop()


def test_a_full_disk_here_is_reported_and_nothing_stays(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="the disk is full"):
        worker.segment(MODEL, [SMALL], options=PLAIN)


@pytest.mark.slow
def test_it_ends_by_itself_when_there_is_nothing_to_do(places: Path) -> None:
    worker = Worker(idle_seconds=1.0)
    worker.segment(MODEL, [SMALL], options=PLAIN)
    wait_until(lambda: worker.pid is None)
    assert not list(places.iterdir())
    assert worker.segment(MODEL, [SMALL], options=PLAIN).voxels.shape == SMALL.voxels.shape, (
        "a new one does the next job"
    )
    worker.stop()


@pytest.mark.slow
@NO_SIGNALS
@pytest.mark.parametrize("moment", ["computing", "idle"])
def test_it_ends_when_its_owner_is_killed(places: Path, moment: str, tiny_model: Path) -> None:
    """As when the user ends Slicer in the task manager."""
    script = (
        f"import sys, numpy as np; sys.path.insert(0, {str(LIBRARY)!r})\n"
        "from LightSegLib.imaging.volume import Geometry, Volume\n"
        "from LightSegLib.inference.options import InferenceOptions\n"
        "from LightSegLib.worker.client import Worker\n"
        "worker, computing = Worker(), sys.argv[1] == 'computing'\n"
        "shape = (128,) * 3 if computing else (32,) * 3\n"
        "voxels = np.random.default_rng(0).integers(0, 99, shape).astype(np.int16)\n"
        "def report(progress):\n"
        "    if computing and progress.tiles: print(worker.pid, flush=True)\n"
        f"worker.segment({str(tiny_model)!r}, [Volume(voxels, Geometry(shape))], options={PLAIN!r}, progress=report)\n"
        "print(worker.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, moment]
    environment = os.environ | {"TMPDIR": str(places)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as owner:
        assert owner.stdout is not None
        worker_pid = int(owner.stdout.readline())
        assert list(places.iterdir())
        owner.kill()
    wait_until(lambda: gone(worker_pid))
    assert not list(places.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("search", [None, os.pathsep, str(LIBRARY) + os.pathsep])
def test_modules_in_the_current_folder_change_nothing(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: str | None
) -> None:
    """Python itself would run a script called json.py beside the images."""
    for name in ("json", "queue", "shutil", "tempfile", "csv", "hashlib", "decimal", "linecache", "encodings", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if search is not None:
        monkeypatch.setenv("PYTHONPATH", search)
    assert worker.segment(MODEL, [SMALL], options=PLAIN).voxels.shape == SMALL.voxels.shape
    assert not (tmp_path / "was run").exists()


@pytest.mark.slow
def test_texts_of_the_worker_can_be_translated(worker: Worker) -> None:
    """Its progress and its errors keep what a window needs to show them in another language."""
    steps: list[Progress] = []
    worker.segment(MODEL, [SMALL], options=PLAIN, progress=steps.append)
    far = RegionOfInterest(np.array([[1e5, 1e5, 1e5], [2e5, 2e5, 2e5]]))
    with pytest.raises(InputError) as refused:
        worker.segment(MODEL, [SMALL], far, PLAIN)

    def shouted(context: str, template: str) -> str:
        return f"{context}: {template}!"

    texts = {step.step.translated(shouted) for step in steps}
    assert "inference.single: Loading model!" in texts
    assert any(re.fullmatch(r"inference\.single: Segmenting \(needs about .*B of memory\)!", text) for text in texts)
    assert refused.value.args[0].translated(shouted).startswith("imaging.roi: The region of interest is")
