"""A batch on a Dask cluster of real processes, any of which may be lost: every case is done, and none is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
from batch_cases import (
    BFLOAT,
    DEADLIER,
    HESITANT,
    MIXED,
    MODEL,
    MORTAL,
    PLAIN,
    QUICK,
    SLOW,
    TESTING,
    UNABLE,
    computing,
    counts,
    deciding,
    kill_a_client,
    let_decide,
    let_go,
    records,
    run_batch,
    table,
    worker_pids,
    write_cohort,
    write_volume,
)
from LightSegLib.batch import cluster
from LightSegLib.batch.progress import BatchState
from LightSegLib.batch.records import BEGUN, read_record
from LightSegLib.cli import main as cli
from LightSegLib.core.errors import DeviceError, InputError
from waiting import PATIENCE, gone, wait_until

pytest.importorskip("distributed", reason="the extra cluster is not installed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")


class Cluster:
    """A scheduler and workers as they are started by hand."""

    def __init__(self, folder: Path) -> None:
        self.address = "tcp://127.0.0.1:0"  # of any free port
        self._folder = folder
        self._all: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.start_scheduler()

    def start_scheduler(self, **environment: str) -> subprocess.Popen[bytes]:
        """Returns when it can be reached; the next one has the address of the first."""
        found = self._folder / f"scheduler {len(self._all)}.json"
        port = self.address.rpartition(":")[2]
        where = ("--host", "127.0.0.1", "--port", port, "--dashboard-address", ":0", "--scheduler-file", str(found))
        self.scheduler = self._start("scheduler", *where, **environment)
        wait_until(lambda: _address_in(found))
        self.address = _address_in(found)
        return self.scheduler

    def start_worker(self, nanny: str = "--no-nanny", **environment: str) -> subprocess.Popen[bytes]:
        """Without a nanny, so that it dies when it is killed."""
        options = ("--nthreads", "1", nanny, "--no-dashboard", "--local-directory", str(self._folder))
        return self._start("worker", self.address, *options, **environment)

    def _start(self, what: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", f"distributed.cli.dask_{what}", *options]
        paths = os.pathsep.join(map(str, (TESTING, TESTING.parent / "LightSeg")))
        with (self._folder / f"{what} {len(self._all)}.log").open("wb") as log:
            process = subprocess.Popen(
                line, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": paths} | environment
            )
        self._all.append(process)
        return process

    def stop(self) -> None:
        for process in self._all:
            process.kill()
            process.wait()


def _address_in(file: Path) -> str:
    """Of a scheduler, from the file that it writes; nothing before it is whole."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError):
        return ""


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "dask"
    folder.mkdir()
    running = Cluster(folder)
    yield running
    running.stop()


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(TESTING))
    return write_cohort(tmp_path / "Kohorte äöü")


@pytest.mark.slow
def test_a_worker_that_lacks_the_form_of_a_batch_reports_it_before_it_takes_a_case(
    cohort: Path, tmp_path: Path, dask: Cluster
) -> None:
    """Begun on a computer with bfloat16, continued on a cluster without."""
    out = tmp_path / "out"
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=BFLOAT)) == (3, 0, 0)
    before = records(out)
    write_volume(cohort / "Fall 3.nii.gz", 3)
    dask.start_worker()
    with pytest.raises(DeviceError, match=r"worker tcp://.* cannot take part\. .*does not compute in bfloat16"):
        run_batch(cohort, MODEL, out, PLAIN, handler=UNABLE, scheduler=dask.address)
    assert records(out) == before


@pytest.mark.slow
@pytest.mark.parametrize(("other", "expected"), [("bfloat16", "bfloat16"), ("OpenVINO float32", "float32")])
def test_workers_that_differ_compute_in_float32(
    cohort: Path, tmp_path: Path, dask: Cluster, other: str, expected: str
) -> None:
    """Whichever of them is asked first."""
    for backend in ("bfloat16", other):
        dask.start_worker(TEST_BACKEND=backend)
    wait_until(lambda: cluster.count_workers(dask.address) == 2)
    done = run_batch(cohort, MODEL, tmp_path / "out", PLAIN, handler=MIXED, scheduler=dask.address)
    assert counts(done) == (3, 0, 0)
    assert {row["computed_in"] for row in table(tmp_path / "out").values()} == {expected}


@pytest.mark.parametrize("lost", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_workers_that_are_lost_before_they_have_decided_keep_no_batch_waiting(
    cohort: Path, tmp_path: Path, dask: Cluster, lost: int
) -> None:
    """As where a cluster takes a node back. The others decide; where all are lost, those that come next."""
    out = tmp_path / "out"
    workers = [dask.start_worker(), dask.start_worker()]
    wait_until(lambda: cluster.count_workers(dask.address) == 2)
    waited: set[str] = set()

    def lose() -> None:
        wait_until(lambda: deciding(out) == 2)
        for worker in workers[:lost]:
            worker.kill()
            worker.wait()
        if lost == 2:
            dask.start_worker()
            wait_until(lambda: deciding(out) == 3)
        let_decide(out)

    losing = threading.Thread(target=lose)
    losing.start()
    until = time.monotonic() + PATIENCE
    outcome = run_batch(
        cohort,
        MODEL,
        out,
        PLAIN,
        scheduler=dask.address,
        handler=HESITANT,
        on_state=lambda state: waited.add(state.waiting),
        canceled=lambda: time.monotonic() > until,
    )
    losing.join()
    assert counts(outcome) == (3, 0, 0)
    assert "Waiting until the workers have loaded the model" in waited and not outcome.state.waiting


@pytest.mark.slow
def test_a_cluster_gives_what_this_computer_gives(
    cohort: Path, tmp_path: Path, dask: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """And what was begun here is gone on with there."""
    line = ["batch", str(cohort), "--model", MODEL, "--device", "cpu", "--no-openvino", "--no-pictures"]
    line += ["--precision", "float32", "--out"]
    here, there = tmp_path / "here", tmp_path / "there"
    assert cli.main([*line, str(here)]) == 0
    dask.start_worker()
    assert cli.main([*line, str(there), "--scheduler", dask.address]) == 0
    assert "3 of 3 cases" in capfd.readouterr().out
    assert table(there).keys() == table(here).keys()
    for number in range(3):
        first, second = (sitk.ReadImage(str(out / f"Fall {number}.seg.nrrd")) for out in (here, there))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(second))
    assert cli.main([*line, str(here), "--scheduler", dask.address]) == 0
    assert "3 of 3 cases, 3 done before" in capfd.readouterr().out


@pytest.mark.slow
def test_a_dry_run_asks_the_cluster_for_its_size(
    cohort: Path, tmp_path: Path, dask: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    from distributed import Client

    dask.start_worker()
    dask.start_worker()
    with Client(dask.address, set_as_default=False) as client:
        client.wait_for_workers(2)
    line = ["batch", str(cohort), "--model", MODEL, "--out", str(tmp_path / "out"), "--no-pictures", "--no-openvino"]
    assert cli.main([*line, "--dry-run", "--scheduler", dask.address]) == 0
    assert "(workers: 2), estimated from one case run now" in capfd.readouterr().out


def test_every_worker_has_one_process_that_keeps_the_model(cohort: Path, tmp_path: Path, dask: Cluster) -> None:
    """Progress names the workers and their cases."""
    for number in range(3, 12):
        write_volume(cohort / f"Fall {number}.nii.gz", number)
    for number in (3, 4):
        write_volume(cohort / f"Fall {number}.nii.gz", number, SLOW)
    dask.start_worker()
    dask.start_worker()
    states: list[BatchState] = []

    def on_state(state: BatchState) -> None:
        states.append(state)
        let_go(tmp_path / "out", *(case for case, _ in state.working.values()))

    outcome = run_batch(
        cohort, MODEL, tmp_path / "out", PLAIN, scheduler=dask.address, handler=MORTAL, on_state=on_state
    )
    assert counts(outcome) == (12, 0, 0)
    assert 1 <= len(worker_pids(tmp_path / "out")) <= 2
    assert {case for state in states for case, _ in state.working.values()} >= {"Fall 3", "Fall 4"}
    assert not states[-1].working


@pytest.mark.slow
def test_a_worker_of_the_cluster_is_killed_and_the_others_do_its_cases(
    cohort: Path, tmp_path: Path, dask: Cluster
) -> None:
    out = tmp_path / "out"
    write_volume(cohort / "Fall 0.nii.gz", 0, SLOW)
    first = dask.start_worker()

    def on_state(state: BatchState) -> None:
        if first.poll() is None and computing(out, "Fall 0"):
            first.kill()
            wait_until(lambda: all(map(gone, worker_pids(out))))
            let_go(out, "Fall 0")
            dask.start_worker()

    outcome = run_batch(cohort, MODEL, out, PLAIN, scheduler=dask.address, handler=MORTAL, on_state=on_state)
    assert first.wait() == -signal.SIGKILL
    assert counts(outcome) == (3, 0, 0)
    assert len(table(out)) == 3
    assert [gone(pid) for pid in worker_pids(out)].count(True) == 1


@pytest.mark.slow
def test_a_case_that_takes_its_worker_of_the_cluster_along_is_given_up(
    cohort: Path, tmp_path: Path, dask: Cluster
) -> None:
    """After three tries, of a worker that comes back."""
    out = tmp_path / "out"
    write_volume(cohort / "Fall 1.nii.gz", 1, DEADLIER)
    dask.scheduler.kill()
    dask.scheduler.wait()
    dask.start_scheduler(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")  # LightSeg counts
    worker = dask.start_worker(nanny="--nanny")
    outcome = run_batch(cohort, MODEL, out, PLAIN, scheduler=dask.address, handler=MORTAL)
    worker.terminate()  # a killed nanny would leave its worker behind
    worker.wait()
    assert counts(outcome) == (2, 0, 1)
    error = table(out)["Fall 1"]["error"]
    assert error.startswith("Given up after 3 tries. The cluster workers that computed this case were lost.")


@pytest.mark.slow
def test_the_scheduler_is_restarted(cohort: Path, tmp_path: Path, dask: Cluster) -> None:
    """Its workers end with it, as those of Dask do, and new ones come."""
    out = tmp_path / "out"
    for number in (1, 2):
        write_volume(cohort / f"Fall {number}.nii.gz", number, SLOW)
    dask.start_worker()
    waited: list[str] = []

    def on_state(state: BatchState) -> None:
        if state.waiting:
            waited.append(state.waiting)

    def restart() -> None:
        wait_until(lambda: computing(out, "Fall 1"))
        dask.scheduler.kill()
        dask.scheduler.wait()
        wait_until(lambda: all(map(gone, worker_pids(out))))
        let_go(out, "Fall 1", "Fall 2")
        dask.start_scheduler()
        dask.start_worker()

    restarting = threading.Thread(target=restart)
    restarting.start()
    outcome = run_batch(cohort, MODEL, out, PLAIN, scheduler=dask.address, handler=MORTAL, on_state=on_state)
    restarting.join()
    assert outcome.state.done == 3 and outcome.state.failed == 0
    assert len(worker_pids(out)) == 2, "one of each time"
    assert len(table(out)) == 3
    assert f"Waiting for the scheduler at {dask.address}" in waited


@pytest.mark.slow
def test_a_client_that_is_killed_leaves_nothing_running_and_the_next_goes_on(
    cohort: Path, tmp_path: Path, dask: Cluster
) -> None:
    out = tmp_path / "out"
    write_volume(cohort / "Fall 1.nii.gz", 1, SLOW)
    dask.start_worker()
    kill_a_client(cohort, out, "Fall 1", f"scheduler={dask.address!r}")
    before = records(out)
    assert set(before) == {"Fall 0"}

    outcome = run_batch(cohort, MODEL, out, PLAIN, scheduler=dask.address, handler=QUICK)

    assert counts(outcome) == (2, 1, 0)
    assert {case: records(out)[case] for case in before} == before, "none is done twice"
    assert len(table(out)) == 3


def test_a_cluster_of_our_own_accepts_no_connection_and_leaves_nothing_behind(cohort: Path, tmp_path: Path) -> None:
    """Who reaches a scheduler can have it run any code, be it another user of this computer."""
    out, this, listening = tmp_path / "out", psutil.Process(), []

    def on_state(_: BatchState) -> None:
        family = (this, *this.children(recursive=True))
        listening.extend(place for process in family for place in _listening(process))

    outcome = run_batch(cohort, MODEL, out, PLAIN, workers=2, name="dask", handler=QUICK, on_state=on_state)
    assert counts(outcome) == (3, 0, 0)
    assert listening == []
    wait_until(lambda: all(map(gone, worker_pids(out))))


def _listening(process: psutil.Process) -> list[object]:
    with suppress(psutil.NoSuchProcess):
        return [place for place in process.net_connections() if place.status == psutil.CONN_LISTEN]
    return []


@pytest.mark.slow
def test_ctrl_c_ends_a_cluster_of_our_own_without_a_traceback(cohort: Path, tmp_path: Path) -> None:
    """A terminal sends it to all processes."""
    out = tmp_path / "out"
    for number in range(3, 60):
        write_volume(cohort / f"Fall {number}.nii.gz", number)
    line = [sys.executable, "-m", "LightSegLib.cli", "batch", str(cohort), "--model", MODEL, "--out", str(out)]
    line += ["--device", "cpu", "--no-openvino", "--no-pictures", "--engine", "dask", "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(TESTING.parent / "LightSeg")}
    with subprocess.Popen(
        line,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # else ignored where these tests run behind "&"
    ) as client:
        wait_until(lambda: records(out))
        os.killpg(client.pid, signal.SIGINT)
        _, words = client.communicate(timeout=PATIENCE)
    assert client.returncode == 1
    assert words == "lightseg: Stopped before the job was done.\n"
    rows = [row for case in records(out) if (row := read_record(out / ".records" / f"{case}.json"))]
    begun = [row for row in rows if row.status == BEGUN]
    assert len(begun) <= 1, "the case that was interrupted, whose segmentation may be there already"
    for row in begun:  # which is done again, as `test_batch_faults.py` shows
        assert row.files == {f"{row.case}.seg.nrrd": ""}
        (out / f"{row.case}.seg.nrrd").unlink(missing_ok=True)
    assert len(table(out)) == len(rows) - len(begun)


def test_what_is_wrong_with_a_cluster_is_reported_before_the_first_case(
    cohort: Path, tmp_path: Path, dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECTING", 1.0)
    with pytest.raises(InputError, match=r"No Dask scheduler responds at tcp://127\.0\.0\.1:1\. Start one"):
        run_batch(cohort, MODEL, tmp_path / "out", PLAIN, scheduler="tcp://127.0.0.1:1")
    monkeypatch.setattr(cluster, "CONNECTING", 10.0)
    dask.start_worker(PYTHONPATH=str(TESTING))
    from distributed import Client

    with Client(dask.address, set_as_default=False) as client:
        client.wait_for_workers(1)
    with pytest.raises(DeviceError, match=r"The worker tcp://\S+ does not have LightSeg .*LightSegLib"):
        run_batch(cohort, MODEL, tmp_path / "out", PLAIN, scheduler=dask.address)
    dask.scheduler.kill()
    dask.scheduler.wait()
    dask.start_scheduler(PYTHONPATH=str(TESTING))
    with pytest.raises(DeviceError, match=r"The scheduler does not have LightSeg .*LightSegLib"):
        run_batch(cohort, MODEL, tmp_path / "out", PLAIN, scheduler=dask.address)
    assert not records(tmp_path / "out")


def test_a_worker_that_does_not_answer_in_time_is_a_lost_connection() -> None:
    """Where a TimeoutError of asyncio is another class than the builtin one, too, as before Python 3.11."""
    from distributed import Client

    with Client(processes=False, n_workers=0, dashboard_address=None, set_as_default=False) as client:
        never = client.submit(os.getpid, pure=False)
        with pytest.raises(cluster._SchedulerLost):
            cluster._outcome(never, 0.1)


def test_without_dask_the_error_shows_how_to_get_it(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="Install it with: pip install distributed"):
        run_batch(cohort, MODEL, tmp_path / "out", PLAIN, name="dask")
