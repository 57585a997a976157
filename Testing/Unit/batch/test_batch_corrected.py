"""Results that someone corrected by hand: the tables of the next run describe the files that are there."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import run_options
import SimpleITK as sitk
from batch_cases import MODEL, PLAIN, QUICK, SHAPE, counts, run_batch
from LightSegLib.batch import corrected, records
from LightSegLib.batch.corrected import measure_corrected
from LightSegLib.batch.settings import Batch, Settings
from LightSegLib.catalog.card import Label
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.progress import Reporter
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.imaging.writers import write_segmentation

MESHNET = "brain-structures-meshnet"  # labels of both sides, which a result has apart by default
GEOMETRY = Geometry((4, 4, 4), (1, 1, 1))
THALAMUS = np.pad(np.full((2, 2, 2), 7, np.uint8), 1)


def rows(out: Path) -> dict[str, dict[str, str]]:
    """Lines of results.csv by case."""
    with (out / "results.csv").open(newline="", encoding="utf-8") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


def test_the_tables_describe_a_corrected_result(cohort: Path, tmp_path: Path) -> None:
    """An expert erases a structure and draws another; next time, the first result is put back from a copy."""
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    path = out / "Fall 1.seg.nrrd"
    written, before = path.read_bytes(), rows(out)["Fall 1"]
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[2:4, :10, :10], voxels[6:8, :10, :5] = 2, 9
    sitk.WriteImage(to_sitk(voxels, Geometry(SHAPE, (1, 1, 1.5))), str(path))
    for _ in range(2):  # it stays so when nothing changes
        assert counts(run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)) == (0, 3, 0)
        row = rows(out)["Fall 1"]
        anterior, posterior, added = (name for name in row if name.endswith("(ml)"))
        assert (row[anterior], row[posterior], added, row[added]) == ("0.0", "0.3", "label 9 (ml)", "0.15")
        assert row["corrected"] == "yes" and "This segmentation was corrected" in row["notices"]
        assert row["confidence"] == "" != before["confidence"], "which the model had in another result"
        assert f"{before['cut_off']} (ml)" == anterior and row["cut_off"] == "", "not looked at in a corrected file"
        assert "This segmentation was corrected" in (out / "report.html").read_text(encoding="utf-8")
    assert rows(out)["Fall 0"]["corrected"] == ""
    path.write_bytes(written)
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    assert rows(out)["Fall 1"] == before


def record(tmp_path: Path, ending: str, ml: dict[str, float], **options: bool) -> Batch:
    """A batch with one case, which states these volumes, and the file of which was changed."""
    batch = Batch(MESHNET, "0" * 64, tmp_path, Settings(replace(run_options.PLAIN, **options), ending), "run")
    records.make_folders(batch)
    known = (batch.model, batch.model_sha256, batch.settings.sha256())
    records.save(records.Row("head", records.DONE, *known, ml=ml, files={f"head.{ending}": "1" * 64}), batch)
    return batch


def measured(batch: Batch) -> records.Row:
    """The case of the batch in its next run."""
    measure_corrected(batch, find_card(MESHNET), Reporter())
    (row,) = records.rows(batch)
    return row


def test_a_label_of_both_sides_keeps_its_name_in_a_format_without_names(tmp_path: Path) -> None:
    batch = record(tmp_path, "nii.gz", {"Thalamus": 1.0, "Brain stem": 2.0}, split_sides=False)
    write_segmentation(Segmentation(THALAMUS, GEOMETRY, find_card(MESHNET).labels), tmp_path / "head.nii.gz")
    assert measured(batch).ml == {"Thalamus": 0.008, "Brain stem": 0.0}


def test_a_structure_under_another_spelling_is_the_same(tmp_path: Path) -> None:
    batch = record(tmp_path, "seg.nrrd", {"Left thalamus": 1.0})
    labels = (Label(7, "thalamus_left", (0, 0, 255)), Label(8, "Bleeding", (255, 0, 0)))
    write_segmentation(Segmentation(THALAMUS, GEOMETRY, labels), tmp_path / "head.seg.nrrd")
    assert measured(batch).ml == {"Left thalamus": 0.008}


def test_a_file_that_could_not_be_read_is_measured_when_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = record(tmp_path, "nii.gz", {"Left thalamus": 1.0})
    write_segmentation(Segmentation(THALAMUS, GEOMETRY, find_card(MESHNET).labels), tmp_path / "head.nii.gz")
    with monkeypatch.context() as patch:
        patch.setattr(corrected, "read_volumes_ml", Mock(side_effect=OSError("the network disk is gone")))
        assert measured(batch).ml is None
    assert measured(batch).ml == {"Left thalamus": 0.008}


def test_a_search_among_many_results_shows_where_it_is(tmp_path: Path) -> None:
    batch = record(tmp_path, "nii.gz", {"Left thalamus": 1.0})
    for number in range(200):
        failed = records.Row(f"{number}", records.FAILED, batch.model, batch.model_sha256, batch.settings.sha256())
        records.save(failed, batch)
    shown: list[str] = []
    measure_corrected(batch, find_card(MESHNET), Reporter(lambda progress: shown.append(progress.text())))
    assert shown == [f"Looking for corrected results, {count} cases done" for count in (100, 200)]


def test_a_result_that_was_spoiled_has_no_volumes(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    (out / "Fall 1.seg.nrrd").write_bytes(b"not an image")
    for _ in range(2):  # as long as it is so
        (notice,) = run_batch(cohort, MODEL, out, PLAIN, handler=QUICK).notices
        assert f"cannot be read as labels: 1, the first is {out / 'Fall 1.seg.nrrd'}. Their cases" in str(notice)
    row = rows(out)["Fall 1"]
    assert {text for name, text in row.items() if name.endswith("(ml)")} == {""}
    assert "cannot be read as labels, so its volumes are not known" in row["notices"]
    (out / "Fall 1.seg.nrrd").unlink()
    outcome = run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    assert counts(outcome) == (1, 2, 0) and outcome.notices == [] and rows(out)["Fall 1"]["corrected"] == ""
