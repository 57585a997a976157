"""A batch with real processes: what it gives, what of it is done again, and what it shows meanwhile."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from batch_cases import (
    BFLOAT,
    BOTH_ENGINES,
    MODEL,
    MORTAL,
    PLAIN,
    QUICK,
    SLOW,
    UNABLE,
    QuickProcessor,
    counts,
    let_go,
    records,
    run_batch,
    table,
    write_series,
    write_volume,
)
from LightSegLib.batch.progress import BatchProgress, BatchState
from LightSegLib.batch.records import Row, make_folders
from LightSegLib.batch.run import plan_batch
from LightSegLib.batch.settings import Settings
from LightSegLib.batch.tasks import Answer, Task
from LightSegLib.batch.worker_limit import WorkerLimit
from LightSegLib.catalog.card_file import read_card, write_card
from LightSegLib.catalog.lookup import CARD_NAME, find_card
from LightSegLib.cli import main as cli
from LightSegLib.core import system
from LightSegLib.core.errors import DeviceError, InputError
from LightSegLib.imaging.readers import read_volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from run_options import with_confidence


def test_a_folder_becomes_segmentations_and_a_table_and_only_what_changed_is_done_again(
    cohort: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One file is damaged at first, then got again."""
    (cohort / "Fall 1.nii.gz").write_bytes(b"not an image")
    out = tmp_path / "Ergebnisse"
    line = ["batch", str(cohort), "--model", MODEL, "--out", str(out), "--device", "cpu", "--workers", "1"]
    line += ["--precision", "float32", "--no-openvino", "--no-pictures"]

    assert cli.main(line) == 1
    assert "1 of 3 cases failed. See" in capfd.readouterr().err
    rows = table(out)
    assert {case: row["status"] for case, row in rows.items()} == {
        "Fall 0": "done",
        "Fall 1": "failed",
        "Fall 2": "done",
    }
    assert "cannot be read as an image" in rows["Fall 1"]["error"]
    segmenter = Segmenter(find_card(MODEL), InferenceOptions(device="cpu", precision="float32", openvino=False))
    expected = with_confidence(segmenter).segment([read_volume(cohort / "Fall 0.nii.gz")])
    written = sitk.ReadImage(str(out / "Fall 0.seg.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), expected.voxels)
    assert written.GetMetaData("Segment0_Name") == "Anterior hippocampus"
    sure = expected.confidence[expected.voxels > 0].mean() / 100
    assert float(rows["Fall 0"]["confidence"]) == pytest.approx(sure, abs=1e-3)
    assert rows["Fall 0"]["notices"] == " ".join(expected.provenance["notices"])
    assert float(rows["Fall 0"]["seconds"]) > 0 and len(rows["Fall 0"]["model_sha256"]) == 64

    before = records(out)
    write_volume(cohort / "Fall 1.nii.gz", 1)
    assert cli.main(line) == 0
    printed = capfd.readouterr().out
    assert printed == f"3 of 3 cases, 2 done before; {out / 'results.csv'} and report.html written\n"
    assert {case for case, when in records(out).items() if when != before[case]} == {"Fall 1"}
    assert len(table(out)) == 3


def test_a_batch_keeps_the_form_in_which_it_was_begun_or_refuses(cohort: Path, tmp_path: Path) -> None:
    """Begun on a processor with bfloat16, continued on one without, where new cases would be computed otherwise."""
    out = tmp_path / "out"
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=BFLOAT)) == (3, 0, 0)
    write_volume(cohort / "Fall 3.nii.gz", 3)
    before = records(out)
    with pytest.raises(DeviceError, match=r"does not compute in bfloat16\. Choose the precision float32"):
        run_batch(cohort, MODEL, out, PLAIN, handler=UNABLE)
    assert records(out) == before
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (1, 3, 0)
    rows = table(out).values()
    assert {row["computed_in"] for row in rows} == {"bfloat16"}
    assert {row["libraries"] for row in rows} == {f"numpy {np.__version__}"}
    assert "bfloat16 on cpu, any (numpy" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_pictures_and_the_page_come_with_the_segmentations(cohort: Path, tmp_path: Path) -> None:
    """A picture that is gone is drawn again."""
    out = tmp_path / "out"
    drawn = replace(PLAIN, picture=True)
    assert counts(run_batch(cohort, MODEL, out, drawn, handler=QUICK)) == (3, 0, 0)
    pictures = sorted((out / "pictures").iterdir())
    assert [path.name for path in pictures] == [f"Fall {number}.png" for number in range(3)]
    assert "Fall 2" in (out / "report.html").read_text(encoding="utf-8")
    assert counts(run_batch(cohort, MODEL, out, drawn, handler=QUICK)) == (0, 3, 0)
    pictures[1].unlink()
    assert counts(run_batch(cohort, MODEL, out, drawn, handler=QUICK)) == (1, 2, 0)


@pytest.mark.slow
def test_only_what_has_changed_is_done_again(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def run(settings: Settings = PLAIN) -> tuple[int, int, int]:
        return counts(run_batch(cohort, MODEL, out, settings, handler=QUICK))

    mirrored = replace(PLAIN, options=replace(PLAIN.options, mirror=True))
    assert run() == (3, 0, 0)
    assert run() == (0, 3, 0)
    write_volume(cohort / "Fall 2.nii.gz", 7)
    assert run() == (1, 2, 0), "another input"
    (out / "Fall 0.seg.nrrd").unlink()
    assert run() == (1, 2, 0), "a segmentation that is gone"
    (out / "Fall 0.seg.nrrd").write_bytes(b"")
    assert run() == (1, 2, 0), "an empty one, as a power cut leaves it"
    assert run(replace(PLAIN, options=replace(PLAIN.options, device="auto"))) == (0, 3, 0), "another computer, perhaps"
    assert run(mirrored) == (3, 0, 0), "other settings"
    (out / ".records" / "Fall 1.json").write_text("{", encoding="utf-8")
    assert run(mirrored) == (1, 2, 0), "a damaged record"
    table(out)


@pytest.mark.slow
def test_another_version_of_the_model_does_all_cases_again(cohort: Path, tmp_path: Path, tiny_model: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")

    def run() -> tuple[int, int, int]:
        return counts(run_batch(cohort, str(model), tmp_path / "out", PLAIN, handler=QUICK))

    assert [run(), run()] == [(3, 0, 0), (0, 3, 0)]
    card = json.loads((model / "model.json").read_text(encoding="utf-8"))
    (model / "model.json").write_text(json.dumps(card | {"version": "2"}), encoding="utf-8")
    assert run() == (3, 0, 0)


def test_a_worker_whose_model_is_another_computes_nothing(cohort: Path, tmp_path: Path) -> None:
    """As on a computer of a cluster that has an older version of it."""
    with plan_batch(cohort, MODEL, tmp_path / "out", PLAIN) as plan:
        make_folders(plan.batch)
        batch = replace(plan.batch, model_sha256="0" * 64)
        answer = QuickProcessor()(Task(next(plan.cases())).message(batch, 1), lambda progress: None)
    assert "is not the one with which the batch was started" in answer["row"]["error"]
    assert not list((tmp_path / "out").glob("*.nrrd"))


@pytest.mark.parametrize("accepted", [True, False])
def test_a_license_that_was_accepted_for_a_batch_holds_on_every_computer(
    cohort: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, accepted: bool
) -> None:
    """Each computer of a cluster with a disk of its own downloads for itself, here from a mirror."""
    card = replace(read_card(tiny_model / CARD_NAME), non_commercial=True, license="CC-BY-NC-4.0")
    models, mirror = tmp_path / "models", tmp_path / "mirror"
    (models / card.id).mkdir(parents=True)
    write_card(card, models / card.id / CARD_NAME)
    (mirror / card.id).mkdir(parents=True)
    shutil.copy(tiny_model / card.weights.file, mirror / card.id)
    monkeypatch.setenv("LIGHTSEG_MODELS", str(models))
    monkeypatch.setenv("LIGHTSEG_MIRROR", str(mirror))
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights of the client"))
    settings = replace(PLAIN, options=replace(PLAIN.options, accept_license=True))
    with plan_batch(cohort, card.id, tmp_path / "out", settings) as plan:
        make_folders(plan.batch)
        monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights of a node"))
        batch = replace(plan.batch, settings=settings if accepted else PLAIN)
        answer = QuickProcessor()(Task(next(plan.cases())).message(batch, 1), lambda progress: None)
    assert answer["row"]["status"] == ("done" if accepted else "failed"), answer["row"]["error"]
    assert ("must be accepted once" in answer["row"]["error"]) != accepted


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of a process and of a container")
def test_the_memory_of_a_case_is_not_that_of_an_earlier_one(cohort: Path, tmp_path: Path) -> None:
    np.ones(500_000_000, np.uint8)  # 500 MB, given back at once
    before = system.peak_memory()
    with plan_batch(cohort, MODEL, tmp_path / "out", PLAIN) as plan:
        make_folders(plan.batch)
        answer = QuickProcessor()(Task(next(plan.cases())).message(plan.batch, 1), lambda progress: None)
    assert before is not None and answer["row"]["peak_mb"] < before / 1e6 - 300


def test_a_case_that_fails_now_keeps_no_segmentation_of_its_earlier_input(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    (cohort / "Fall 1.nii.gz").write_bytes(b"not an image")
    (cohort / "Fall 2.nii.gz").rename(tmp_path / "away.nii.gz")
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (0, 1, 1)
    assert {case: row["status"] for case, row in table(out).items()} == {
        "Fall 0": "done",
        "Fall 1": "failed",
        "Fall 2": "done",
    }
    (cohort / "Fall 1.nii.gz").unlink()
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    assert set(table(out)) == {"Fall 0", "Fall 2"}, "what failed then and is gone now"


@pytest.mark.skipif(sys.platform != "linux", reason="names are text on other systems")
def test_a_name_that_is_not_a_text_stops_no_other_case(cohort: Path, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.ReadImage(str(cohort / "Fall 1.nii.gz")), str(cohort / "Fall 1.nrrd"))
    (cohort / "Fall 1.nrrd").rename(cohort / os.fsdecode(b"caf\xe9.nrrd"))
    (cohort / "Fall 1.nii.gz").rename(cohort / os.fsdecode(b"t\xeate.nii.gz"))
    assert counts(run_batch(cohort, MODEL, tmp_path / "out", PLAIN, handler=QUICK)) == (4, 0, 0)
    rows = table(tmp_path / "out")
    assert {case: row["status"] for case, row in rows.items() if "_" in case} == {"caf_": "done", "t_te": "done"}
    assert rows["caf_"]["input"].endswith("caf\\udce9.nrrd")


@pytest.mark.slow
def test_a_dicom_tree_gives_segmentations_on_the_grids_of_its_series(tmp_path: Path) -> None:
    """So that they can become DICOM segmentations: each slice is where its file states; what does not fit is listed."""
    tree, out = tmp_path / "export", tmp_path / "out"
    write_series(tree / "A", seed=1, patient="A")
    write_series(tree / "B", seed=2, patient="B", modality="CT")
    outcome = run_batch(tree, MODEL, out, PLAIN)
    assert counts(outcome) == (1, 0, 0)
    (case,) = table(out)
    assert table(out)[case]["input"] == str(tree / "A")
    written = sitk.ReadImage(str(out / f"{case}.seg.nrrd"))
    files = sorted((tree / "A").iterdir())
    assert written.GetSize()[2] == len(files)
    for k, path in enumerate(files):
        position = [float(text) for text in sitk.ReadImage(str(path)).GetMetaData("0020|0032").split("\\")]
        np.testing.assert_allclose(written.TransformIndexToPhysicalPoint((0, 0, k)), position, atol=1e-6)
    with (out / "skipped_inputs.csv").open(newline="", encoding="utf-8") as stream:
        (left_out,) = csv.DictReader(stream)
    assert left_out["what"].startswith(str(tree / "B")) and left_out["reason"] == "is CT, but the model needs MR"


@pytest.mark.slow
def test_a_batch_of_dicom_segmentations(tmp_path: Path) -> None:
    """One for each series; an image of another format fails with a sentence, and keeps no other from being done."""
    tree, out = tmp_path / "export", tmp_path / "out"
    write_series(tree / "A", seed=1, patient="A")
    write_volume(tree / "plain.nii.gz", seed=2)
    settings = Settings(PLAIN.options, "dicom", picture=False, reproducible_uids=True)
    assert Settings.sha256(settings) != Settings.sha256(replace(settings, reproducible_uids=False))
    outcome = run_batch(tree, MODEL, out, settings)
    assert counts(outcome) == (1, 0, 1)
    with (out / "results.csv").open(newline="", encoding="utf-8") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    case = next(name for name in rows if name != "plain")
    assert "refers to the slices of a DICOM series" in rows["plain"]["error"]
    data = pydicom.dcmread(out / f"{case}.dcm")
    assert len(data.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(list((tree / "A").iterdir()))
    assert not (out / "plain.dcm").exists()
    assert counts(run_batch(tree, MODEL, out, settings))[1] == 1  # done before


def test_what_cannot_be_a_batch_is_reported_at_once(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"empty contains no cases for Hippocampus, LightMedSeg \(T1 MRI\)\. Give a .* MR volumes"
    ):
        run_batch(tmp_path / "empty", MODEL, out, PLAIN)
    (tmp_path / "empty" / "a.seg.nrrd").touch()
    with pytest.raises(
        InputError,
        match=r"does not fit \(number of inputs: 1\), for example \S+a\.seg\.nrrd, which is a segmentation\.",
    ):
        run_batch(tmp_path / "empty", MODEL, out, PLAIN)
    with pytest.raises(InputError, match="would be inputs of the next batch"):
        run_batch(cohort, MODEL, cohort, PLAIN)
    assert not out.exists() and len(list(cohort.iterdir())) == 3


@BOTH_ENGINES
def test_the_state_shows_the_whole_and_every_worker(cohort: Path, tmp_path: Path, engine: str) -> None:
    states: list[BatchState] = []
    for number in (0, 1):
        write_volume(cohort / f"Fall {number}.nii.gz", number, SLOW)
    out = tmp_path / "out"

    def on_state(state: BatchState) -> None:
        states.append(state)
        if len(state.working) == 2:
            let_go(out, "Fall 0", "Fall 1")

    run_batch(cohort, MODEL, out, PLAIN, workers=2, threads=1, on_state=on_state, handler=MORTAL, name=engine)
    assert any(len(state.working) == 2 for state in states)
    (timed, *_) = [state for state in states if state.done and state.finished < 3]
    assert timed.seconds_left is not None and timed.lines()[0].endswith("left")
    assert states[-1].text() == "3 of 3 cases"
    row = json.loads((tmp_path / "out" / ".records" / "Fall 0.json").read_text(encoding="utf-8"))
    if sys.platform == "win32":
        assert row["peak_mb"] is None, "Windows does not tell"
    else:
        assert 50 < row["peak_mb"] < 5000


def test_the_time_left_is_that_of_the_cases_left_shared_by_the_workers() -> None:
    """Ten cases, of which three were done before; by hand."""
    batch_progress = BatchProgress(10)
    for _ in range(3):
        batch_progress.finished("done", True, 0.0, 2)
    assert batch_progress.state.seconds_left is None, "nothing was computed yet"
    batch_progress.finished("done", False, 4.0, 2)
    assert batch_progress.state.seconds_left == 6 * 4.0 / 2
    batch_progress.finished("failed", False, 0.1, 2)
    batch_progress.finished("done", False, 8.0, 3)
    assert batch_progress.state.seconds_left == 4 * 6.0 / 3
    assert (batch_progress.state.done, batch_progress.state.skipped, batch_progress.state.failed) == (2, 3, 1)


def test_a_dry_run_shows_what_would_be_done_and_for_how_long(
    cohort: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a first measurement, or later by the cases that are done."""
    monkeypatch.setattr("LightSegLib.cli.batch.MINUTE", -1.0)  # a line at every change
    (cohort / "Fall 1_segmentation.seg.nrrd").touch()
    out = tmp_path / "out"
    line = ["batch", str(cohort), "--model", MODEL, "--out", str(out), "--no-pictures", "--no-openvino"]
    line += ["--precision", "float32", "--dry-run"]
    assert cli.main(line) == 0
    printed = capfd.readouterr()
    measured = re.findall(r"lightseg: (\d+ of \d+ cases)", printed.err)
    assert list(dict.fromkeys(measured)) == ["0 of 2 cases", "1 of 2 cases", "2 of 2 cases"]
    reported = printed.out.splitlines()
    assert reported[0].split("\t") == ["to do", "Fall 0", str(cohort / "Fall 0.nii.gz")]
    assert reported[3].split("\t") == ["skipped", str(cohort / "Fall 1_segmentation.seg.nrrd"), "is a segmentation"]
    assert re.match(
        r"3 of 3 cases to do, inputs skipped: 1; about 0:\d\d:\d\d .*estimated from one case run now", reported[4]
    ), reported[4]
    assert not out.exists()

    (cohort / "Fall 2.nii.gz").rename(tmp_path / "later.nii.gz")
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    (tmp_path / "later.nii.gz").rename(cohort / "Fall 2.nii.gz")
    assert cli.main(line) == 0
    reported = capfd.readouterr().out.splitlines()
    assert [words.split("\t")[0] for words in reported[:3]] == ["done before", "done before", "to do"]
    assert reported[4].startswith("1 of 3 cases to do") and "from the cases done before" in reported[4]
    assert set(records(out)) == {"Fall 0", "Fall 1"}


def test_workers_fit_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One until a case has shown what it takes; fewer when a larger one comes; a graphics card has one."""
    monkeypatch.setattr(system, "cores", lambda: 8)
    monkeypatch.setattr(system, "free_memory", lambda: 10_000_000_000)

    def sizes(*cases: tuple[float, str], **fixed: int) -> list[tuple[int, int]]:
        size = WorkerLimit(**fixed)
        found = [(size.workers, size.threads)]
        for peak_mb, device in cases:
            size.learn(Answer(Row("case", "done", "m", "", "", peak_mb=peak_mb, device=device)))
            found.append((size.workers, size.threads))
        return found

    assert sizes((500, "cpu"), (1500, "cpu"), (100, "cpu")) == [(1, 8), (8, 1), (6, 1), (6, 1)]
    assert sizes((4000, "cpu"), (20_000, "cpu")) == [(1, 8), (2, 4), (1, 8)]
    assert sizes((500, "cuda:0")) == [(1, 8), (1, 8)]
    size = WorkerLimit()
    size.learn(Answer(Row("case", "done", "m", "", "", peak_mb=100, device="cpu"), skipped=True))
    size.learn(Answer(Row("case", "failed", "m", "", "", peak_mb=100)))
    assert size.workers == 1, "these show not what a case takes"
    assert sizes((20_000, "cpu"), workers=3) == [(3, 2), (3, 2)]
    assert sizes((500, "cpu"), threads=2) == [(1, 2), (8, 2)]
