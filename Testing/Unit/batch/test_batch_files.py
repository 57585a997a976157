"""The user's files in a batch: no input, no expert's label and no file of another program is written or removed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from batch_cases import (
    MODEL,
    PLAIN,
    QUICK,
    TESTING,
    counts,
    half_file,
    records,
    run_batch,
    table,
    write_cohort,
    write_volume,
)
from LightSegLib.batch.preview import steps
from LightSegLib.batch.records import failed, make_folders, read_record, write_record
from LightSegLib.batch.run import plan_batch
from LightSegLib.batch.settings import Settings
from LightSegLib.core.errors import InputError
from run_options import PLAIN as OPTIONS

NRRD, NIFTI = Settings(OPTIONS, "nrrd", picture=False), Settings(OPTIONS, "nii.gz", picture=False)
MIRRORED = replace(OPTIONS, mirror=True)
NO_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three cases; workers find the tests' own kinds of work."""
    monkeypatch.setenv("PYTHONPATH", str(TESTING))
    return write_cohort(tmp_path / "scans")


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refused(input_path: Path, out: Path, settings: Settings = PLAIN) -> str:
    """The message for a batch that is refused before anything was made or changed."""
    before = content(out)
    with pytest.raises(InputError) as caught:
        run_batch(input_path, MODEL, out, settings, handler=QUICK)
    assert content(out) == before
    return str(caught.value)


def test_an_experts_label_in_the_folder_of_results_is_not_written_over(cohort: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    write_volume(labels / "Fall 1.nii.gz", 7)
    response = refused(cohort, labels, NIFTI)
    assert "(not written by it: Fall 1.nii.gz). Choose another folder" in response
    assert counts(run_batch(cohort, MODEL, labels, PLAIN, handler=QUICK)) == (3, 0, 0), (
        "nothing is in the way of .seg.nrrd"
    )


def test_a_scan_is_not_a_result_even_where_the_results_are_beside_it(cohort: Path, tmp_path: Path) -> None:
    """The folder of the list is that of the scans and of the results; one scan is damaged, so its case fails."""
    (cohort / "Fall 2.nii.gz").write_bytes(b"not an image")
    manifest = tmp_path / "list.csv"
    manifest.write_text("case,T1\n" + "".join(f"Fall {n},scans/Fall {n}.nii.gz\n" for n in range(3)), encoding="utf-8")
    assert "(inputs of the batch: Fall 0.nii.gz, Fall 1.nii.gz, Fall 2.nii.gz). Choose" in refused(
        manifest, cohort, NIFTI
    )
    assert counts(run_batch(manifest, MODEL, cohort, NRRD, handler=QUICK)) == (2, 0, 1)
    assert {"Fall 0.nii.gz", "Fall 1.nii.gz", "Fall 2.nii.gz"} <= set(content(cohort))


def test_a_result_that_is_an_input_of_the_next_batch_is_not_written_over(cohort: Path, tmp_path: Path) -> None:
    """Its record names it, and still it must stay: it is read under another name, through a link."""
    out, again = tmp_path / "out", tmp_path / "again"
    run_batch(cohort, MODEL, out, NRRD, handler=QUICK)
    again.mkdir()
    manifest = again / "list.csv"
    manifest.write_text("case,T1\nFall 0,../out/Fall 1.nrrd\nFall 1,../scans/Fall 1.nii.gz\n", encoding="utf-8")
    assert "(inputs of the batch: Fall 1.nrrd). Choose another folder" in refused(manifest, out, NRRD)


def test_voxels_that_an_input_names_in_its_header_are_inputs_too(cohort: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "split"
    run_batch(cohort, MODEL, out, NRRD, handler=QUICK)
    header = write_volume(folder / "a.mhd")
    shutil.copy(folder / "a.raw", out / "Fall 0.nrrd")
    header.write_text(header.read_text("utf-8").replace("a.raw", "../out/Fall 0.nrrd"), encoding="utf-8")
    (folder / "list.csv").write_text("case,T1\nFall 0,a.mhd\n", encoding="utf-8")
    assert "(inputs of the batch: Fall 0.nrrd). Choose another folder" in refused(folder / "list.csv", out, NRRD)


def test_tables_and_pictures_of_the_user_stay(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    for name in ("results.csv", "skipped_inputs.csv", "report.html", "pictures/Fall 0.png"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine", encoding="utf-8")
    response = refused(cohort, out, Settings(OPTIONS))
    assert "pictures/Fall 0.png, results.csv, report.html, skipped_inputs.csv" in response


def test_the_list_of_the_cases_is_not_written_over_by_the_table(cohort: Path, tmp_path: Path) -> None:
    """A table of results, with another column, is a fine list of cases."""
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    (out / "results.csv").write_text("case,T1\nFall 0,../scans/Fall 0.nii.gz\n", encoding="utf-8")
    assert "(inputs of the batch: results.csv). Choose another folder" in refused(out / "results.csv", out)


def test_many_files_in_the_way_are_counted(tmp_path: Path, cohort: Path) -> None:
    for number in range(3, 9):
        shutil.copy(cohort / "Fall 0.nii.gz", cohort / f"Fall {number}.nii.gz")
    shutil.copytree(cohort, tmp_path / "labels")
    assert "Fall 3.nii.gz, Fall 4.nii.gz, and 4 more). Choose" in refused(cohort, tmp_path / "labels", NIFTI)


def test_a_corrected_result_is_kept(cohort: Path, tmp_path: Path) -> None:
    """An expert edits a segmentation in place; the batch goes on, until its scan changes."""
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    (out / "Fall 1.seg.nrrd").write_bytes(b"corrected")
    write_volume(cohort / "Fall 3.nii.gz", 3)
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (1, 3, 0)
    scan = write_volume(cohort / "Fall 1.nii.gz", 9)
    assert (
        f"(changed after it wrote them: Fall 1.seg.nrrd). They are results of {scan} as it was before. Choose another"
    ) in refused(cohort, out)
    (tmp_path / "other").mkdir()
    other = scan.rename(tmp_path / "other" / "Fall 1.nii.gz")
    assert f"They are results of {scan}, and the image of this name is now {other}. " in refused(other.parent, out)
    other.rename(scan)
    (out / "Fall 1.seg.nrrd").unlink()
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (1, 3, 0)


def test_a_corrected_result_is_in_the_way_of_other_settings(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    (out / "Fall 1.seg.nrrd").write_bytes(b"corrected")
    response = refused(cohort, out, replace(PLAIN, options=MIRRORED))
    assert "(changed after it wrote them: Fall 1.seg.nrrd). Choose another folder" in response


def test_a_corrected_result_is_in_the_way_of_another_version_of_the_model(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would segment every case again, and find the corrected one only then."""
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    (out / "Fall 1.seg.nrrd").write_bytes(b"corrected")
    monkeypatch.setattr("LightSegLib.batch.run.model_sha256", lambda *_: "of another version")
    assert "(changed after it wrote them: Fall 1.seg.nrrd). Choose another folder" in refused(cohort, out)


def test_a_try_with_other_settings_that_fails_costs_no_result(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    before = (out / "Fall 1.seg.nrrd").read_bytes()
    with plan_batch(cohort, MODEL, out, replace(PLAIN, options=MIRRORED)) as plan:
        case = next(case for case in plan.cases() if case.id == "Fall 1")
        write_record(failed(case, plan.batch, "memory ran out", input_sha256=case.sha256()), plan.batch)
    assert (out / "Fall 1.seg.nrrd").read_bytes() == before


@pytest.mark.slow
def test_a_record_of_a_newer_version_is_understood_as_far_as_it_goes(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    path = out / ".records" / "Fall 1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dose": 3}))
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (0, 3, 0)


@pytest.mark.slow
def test_a_record_of_an_earlier_version_keeps_the_backend(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    path = out / ".records" / "Fall 1.json"
    row = json.loads(path.read_text(encoding="utf-8"))
    del row["backend"]
    path.write_text(json.dumps(row | {"form": "bfloat16"}), encoding="utf-8")
    record = read_record(path)
    assert record is not None and record.backend == "bfloat16"


@pytest.mark.parametrize(
    "spoiled",
    [
        "",
        "[" * 100_000,
        "[]",
        '{"case": 5}',
        '{"ml": "x"}',
        '{"ml": {"a": null}}',
        '{"notices": [1]}',
        '{"files": []}',
        '{"libraries": 3}',
        '{"seconds": "long"}',
        '{"device": {}}',
    ],
)
def test_a_spoiled_record_is_that_of_a_case_to_be_done(cohort: Path, tmp_path: Path, spoiled: str) -> None:
    with plan_batch(cohort, MODEL, tmp_path / "out", PLAIN) as plan:
        make_folders(plan.batch)
        path = tmp_path / "out" / ".records" / "Fall 1.json"
        row = asdict(failed(next(iter(plan.cases())), plan.batch, "memory ran out"))
        path.write_text(json.dumps(row))
        assert read_record(path) is not None
        fields = json.loads(spoiled) if spoiled.startswith("{") else None
        path.write_text(spoiled if fields is None else json.dumps(row | fields))
        assert read_record(path) is None
        (tmp_path / "out" / ".records" / ".tables.json").write_text(spoiled)
    with plan_batch(cohort, MODEL, tmp_path / "out", PLAIN) as plan:
        assert len([done for _, done in steps(plan) if not done]) == plan.count


def test_a_label_drawn_by_hand_for_a_case_that_failed_stays(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    (cohort / "Fall 1.nii.gz").write_bytes(b"not an image")
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (0, 2, 1)
    assert not (out / "Fall 1.seg.nrrd").exists(), "it was of another image"
    (out / "Fall 1.seg.nrrd").write_bytes(b"by hand")
    assert "Fall 1.seg.nrrd). Choose another folder" in refused(cohort, out)


@pytest.mark.slow
def test_results_of_a_version_that_named_no_files_are_gone_on_with(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    (out / ".records" / ".tables.json").unlink()
    for path in (out / ".records").glob("*.json"):
        row = json.loads(path.read_text(encoding="utf-8"))
        del row["files"]
        path.write_text(json.dumps(row), encoding="utf-8")
    write_volume(cohort / "Fall 0.nii.gz", 8)
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (1, 2, 0)
    assert len(table(out)) == 3


@pytest.mark.slow
def test_the_table_of_skipped_inputs_of_an_earlier_version_is_replaced(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    note = out / ".records" / ".tables.json"
    (out / "skipped_inputs.csv").rename(out / "misfits.csv")
    note.write_text(note.read_text(encoding="utf-8").replace("skipped_inputs", "misfits"), encoding="utf-8")
    assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (0, 3, 0)
    assert (out / "skipped_inputs.csv").exists() and not (out / "misfits.csv").exists()
    (out / "misfits.csv").write_text("mine", encoding="utf-8")
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    assert (out / "misfits.csv").exists(), "it is not this batch's any more"


@pytest.mark.slow
def test_another_format_leaves_the_earlier_results(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for settings in (NRRD, NIFTI, NRRD):
        assert counts(run_batch(cohort, MODEL, out, settings, handler=QUICK)) == (3, 0, 0)
    assert {"Fall 0.nrrd", "Fall 0.nii.gz"} <= set(content(out))


@NO_SIGNALS
def test_hidden_files_of_other_programs_stay_and_half_files_of_a_killed_batch_go(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    others = [".thesis.part2.docx", ".film.mkv.part", ".config.partial", "notes.part1.txt", ".0123.part.seg.nrrd"]
    for name in others:
        (out / name).write_text("mine", encoding="utf-8")
    half = half_file(out)
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    assert all((out / name).exists() for name in others) and not half.exists()


@pytest.mark.slow
def test_the_folder_of_results_may_have_the_models_name(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second time on there is a folder of that name where the batch is started."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    run = [counts(run_batch(cohort, MODEL, MODEL, PLAIN, handler=QUICK)) for _ in range(2)]
    assert run == [(3, 0, 0), (0, 3, 0)]
    write_volume(cohort / "Fall 0.nii.gz", 8)
    assert counts(run_batch(cohort, MODEL, MODEL, PLAIN, handler=QUICK)) == (1, 2, 0)
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / MODEL).write_text("notes", encoding="utf-8")
    write_volume(cohort / "Fall 0.nii.gz", 9)
    assert counts(run_batch(cohort, MODEL, tmp_path / MODEL, PLAIN, handler=QUICK)) == (1, 2, 0)
    assert len(records(tmp_path / MODEL)) == 3


def test_a_model_folder_that_comes_into_being_meanwhile_changes_nothing(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    """The worker starts when a training has written a folder of the model's name there."""
    from LightSegLib.catalog.lookup import card_of, find_card, resolve_model

    monkeypatch.chdir(tmp_path)
    name = resolve_model(MODEL)
    shutil.copytree(tiny_model, tmp_path / MODEL)
    assert card_of(name).id == MODEL and find_card(MODEL).id == "tiny-1"
    here = resolve_model(MODEL)
    monkeypatch.chdir("/" if os.name == "posix" else tmp_path.anchor)
    assert card_of(here).id == "tiny-1"
