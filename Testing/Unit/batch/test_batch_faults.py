"""A batch with real processes: everything is done exactly once, whatever dies, fills up or is interrupted meanwhile."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from batch_cases import (
    BOTH_ENGINES,
    DEADLY,
    MODEL,
    MORTAL,
    NO_SIGNALS,
    PLAIN,
    QUICK,
    SLOW,
    QuickProcessor,
    computing,
    counts,
    half_file,
    kill_a_client,
    let_go,
    records,
    run_batch,
    table,
    worker_pids,
    write_volume,
)
from LightSegLib.batch.progress import BatchState
from LightSegLib.batch.records import Row, make_folders, rows
from LightSegLib.batch.run import plan_batch
from LightSegLib.batch.settings import Batch
from LightSegLib.batch.tasks import Task
from LightSegLib.core.errors import Canceled, InputError, OutputError
from LightSegLib.core.json_file import read_json
from LightSegLib.core.leftovers import part_name
from LightSegLib.core.progress import Progress
from LightSegLib.imaging.volume import Segmentation
from locks import refuse_locks_in, refuse_to_open
from waiting import gone, wait_until


def test_an_input_that_is_out_of_reach_for_the_moment_costs_no_segmentation(cohort: Path, tmp_path: Path) -> None:
    """As on a network disk; what is wrong with an input that can be read is another matter."""
    out = tmp_path / "out"
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (3, 0, 0)
    with plan_batch(cohort, MODEL, out, PLAIN) as plan:
        (cohort / "Fall 1.nii.gz").rename(tmp_path / "away.nii.gz")
        (case,) = (case for case in plan.cases() if case.id == "Fall 1")
        answer = QuickProcessor()(Task(case).message(plan.batch, 1), lambda progress: None)
    assert answer["row"]["status"] == "failed" and (out / "Fall 1.seg.nrrd").exists()
    (tmp_path / "away.nii.gz").rename(cohort / "Fall 1.nii.gz")
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (1, 2, 0)


def test_a_segmentation_whose_record_a_stop_prevented_is_done_again(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as begun, so it is neither in a table nor in the way of the next run."""
    out = tmp_path / "out"

    def killed(row: Row, batch: Batch) -> None:
        raise KeyboardInterrupt

    with plan_batch(cohort, MODEL, out, PLAIN) as plan:
        make_folders(plan.batch)
        job = Task(next(plan.cases())).message(plan.batch, 1)
        with monkeypatch.context() as patch:
            patch.setattr("LightSegLib.batch.records.write_record", killed)
            with pytest.raises(KeyboardInterrupt):
                QuickProcessor()(job, lambda progress: None)
        assert (out / "Fall 0.seg.nrrd").exists() and not [*rows(plan.batch)]
        answer = QuickProcessor()(job, lambda progress: None)
        assert answer["row"]["status"] == "done" and not answer["skipped"]
        assert [row.case for row in rows(plan.batch)] == ["Fall 0"]


@pytest.mark.slow
def test_a_stop_between_a_segmentation_and_its_record_does_not_pass_for_done(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The input changed, and then came back as it had been."""
    out, input_path = tmp_path / "out", cohort / "Fall 1.nii.gz"
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (3, 0, 0)
    first = input_path.read_bytes()
    write_volume(input_path, 9)

    def killed(row: Row, batch: Batch) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, plan_batch(cohort, MODEL, out, PLAIN) as plan:
        patch.setattr("LightSegLib.batch.records.write_record", killed)
        (case,) = (case for case in plan.cases() if case.id == "Fall 1")
        with pytest.raises(KeyboardInterrupt):
            QuickProcessor()(Task(case).message(plan.batch, 1), lambda progress: None)
    input_path.write_bytes(first)
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (1, 2, 0)
    table(out)


def test_temporary_files_wait_for_room_too(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("LightSegLib.batch.case_processor.RETRY_SECONDS", 0.0)
    reported: list[Progress] = []

    class Full(QuickProcessor):
        def segment(self, *given: Any) -> Segmentation:
            if Progress("Waiting for free disk space") not in reported:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().segment(*given)

    with plan_batch(cohort, MODEL, tmp_path / "out", PLAIN) as plan:
        make_folders(plan.batch)
        answer = Full()(Task(next(plan.cases())).message(plan.batch, 1), reported.append)
    assert answer["row"]["status"] == "done"


@BOTH_ENGINES
@NO_SIGNALS
def test_a_worker_that_is_killed_costs_no_case(cohort: Path, tmp_path: Path, engine: str) -> None:
    """As by the system when memory is short: SIGKILL while it computes."""
    out = tmp_path / "out"
    write_volume(cohort / "Fall 1.nii.gz", 1, SLOW)

    def kill() -> None:
        wait_until(lambda: computing(out, "Fall 1"))
        (pid,) = worker_pids(out)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: gone(pid))
        let_go(out, "Fall 1")  # for the next worker

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = run_batch(cohort, MODEL, out, PLAIN, workers=1, handler=MORTAL, name=engine)
    killer.join()
    assert counts(outcome) == (3, 0, 0)
    assert len(worker_pids(out)) == 2, "another worker took its place"
    assert len(table(out)) == 3


@BOTH_ENGINES
@NO_SIGNALS
def test_a_case_that_kills_its_workers_is_given_up_and_the_others_are_done(
    cohort: Path, tmp_path: Path, engine: str
) -> None:
    out = tmp_path / "out"
    write_volume(cohort / "Fall 0.nii.gz", 1, DEADLY)
    outcome = run_batch(cohort, MODEL, out, PLAIN, workers=1, handler=MORTAL, name=engine)
    assert counts(outcome) == (2, 0, 1)
    assert len(worker_pids(out)) == 3, "the second did the others before it was killed, too"
    error = table(out)["Fall 0"]["error"]
    assert error.startswith("Given up after 3 tries. The system ended the computation")


@NO_SIGNALS
def test_an_interrupted_batch_goes_on_where_it_was(cohort: Path, tmp_path: Path) -> None:
    """The client is killed in mid-case, and started again."""
    out = tmp_path / "out"
    write_volume(cohort / "Fall 2.nii.gz", 2, SLOW)
    kill_a_client(cohort, out, "Fall 2", "workers=1")
    before = records(out)
    assert len(before) == 2 and not (out / "Fall 2.seg.nrrd").exists()
    half_file(out)  # as if it had been killed while writing

    outcome = run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)

    assert counts(outcome) == (1, 2, 0)
    assert {case: records(out)[case] for case in before} == before, "none is done twice"
    assert len(table(out)) == 3


@pytest.mark.slow
@BOTH_ENGINES
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
def test_a_disk_that_is_full_for_a_while_holds_the_batch_up_and_costs_nothing(
    cohort: Path, tmp_path: Path, engine: str
) -> None:
    """No file of the worker may grow beyond 100 bytes until it waits for room."""
    import resource

    out = tmp_path / "out"
    write_volume(cohort / "Fall 1.nii.gz", 1, SLOW)
    waited, limited = threading.Event(), threading.Event()

    def limit(size: int) -> None:
        for pid in worker_pids(out):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def on_state(state: BatchState) -> None:
        for case, progress in state.working.values():
            if case == "Fall 1" and not limited.is_set() and computing(out, case):
                limited.set()
                limit(100)
                let_go(out, case)
            if progress == Progress("Waiting for free disk space"):
                waited.set()
                limit(resource.RLIM_INFINITY)

    outcome = run_batch(cohort, MODEL, out, PLAIN, workers=1, on_state=on_state, handler=MORTAL, name=engine)
    assert waited.is_set()
    assert counts(outcome) == (3, 0, 0)
    assert len(table(out)) == 3


@BOTH_ENGINES
@NO_SIGNALS
def test_cancel_ends_the_workers_and_leaves_what_is_done(cohort: Path, tmp_path: Path, engine: str) -> None:
    out = tmp_path / "out"
    for number in (1, 2):
        write_volume(cohort / f"Fall {number}.nii.gz", number, SLOW)
    record = out / ".records" / "Fall 0.json"

    def one_is_done() -> bool:
        return record.is_file() and json.loads(record.read_text(encoding="utf-8"))["status"] == "done"

    with pytest.raises(Canceled):
        run_batch(cohort, MODEL, out, PLAIN, canceled=one_is_done, handler=MORTAL, name=engine)
    assert worker_pids(out) and all(gone(pid) for pid in worker_pids(out))
    assert set(table(out)) == set(records(out)) == {"Fall 0"}


def test_a_folder_that_a_colleague_has_begun_is_continued(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both may write to the folder, but its lock is the colleague's: it can be opened for reading, and locked."""
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    refuse_to_open(out / ".records" / "lock", errno.EACCES, monkeypatch)
    write_volume(cohort / "Fall 3.nii.gz", 3)
    refused = []

    def meanwhile(state: BatchState) -> None:
        if not refused:
            with pytest.raises(InputError, match="Another LightSeg process is using"):
                run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
            refused.append(state)

    outcome = run_batch(cohort, MODEL, out, PLAIN, on_state=meanwhile, handler=QUICK)
    assert counts(outcome) == (1, 3, 0) and refused and not outcome.notices


def test_a_batch_that_a_colleague_does_not_share_is_left_alone(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both may write to the folder, but the colleague's files can be read by nobody else; one of them was corrected."""
    out = tmp_path / "out"
    (out / ".records").mkdir(parents=True)
    lock, record = out / ".records" / "lock", out / ".records" / "Fall 1.json"
    lock.touch()
    with monkeypatch.context() as patch:
        refuse_to_open(lock, errno.EACCES, patch, reading=True)
        with pytest.raises(OutputError, match=r"lock cannot be opened \(.*\), since the user who began this batch"):
            run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    record.write_text("{}")
    (out / "Fall 1.seg.nrrd").write_bytes(b"corrected")

    def refuse(path: Path, **options: Any) -> Any:
        if path == record:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read_json(path, **options)

    monkeypatch.setattr("LightSegLib.batch.records.read_json", refuse)
    with pytest.raises(InputError, match=r"Fall 1\.json cannot be read .* Ask its owner for the permission"):
        run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    assert (out / "Fall 1.seg.nrrd").read_bytes() == b"corrected"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_of_results_that_cannot_be_written_is_named(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    out = tmp_path / "out"
    (out / ".records").mkdir(parents=True)
    refuse_to_open(out / ".records" / "lock", number, monkeypatch, reading=True)
    with pytest.raises(OutputError, match=os.strerror(number)):
        run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)


def test_a_disk_without_locks_is_named(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two computers could run one batch there at once, and neither would see the other."""
    refuse_locks_in(tmp_path / "out", monkeypatch)
    outcome = run_batch(cohort, MODEL, tmp_path / "out", PLAIN, handler=QUICK)
    assert counts(outcome) == (3, 0, 0)
    (notice,) = outcome.notices
    assert str(tmp_path / "out") in notice and "another computer" in notice


def test_a_folder_takes_one_batch_at_a_time(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    failures = []

    def meanwhile(state: BatchState) -> None:
        if not failures:
            part = out / part_name(".seg.nrrd")
            part.write_bytes(b"half")
            with pytest.raises(InputError) as caught:
                run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
            failures.append(str(caught.value))
            assert part.exists(), "it is the other's"

    run_batch(cohort, MODEL, out, PLAIN, on_state=meanwhile, handler=QUICK)
    assert failures[0].startswith("Another LightSeg process is using")
