"""Results that someone corrected by hand: the tables of the next run describe the files that are there."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from batch_cases import MODEL, PLAIN, QUICK, SHAPE, counts, run_batch
from LightSegLib.imaging.geometry import Geometry, to_sitk


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


def test_a_result_that_was_spoiled_has_no_volumes(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    (out / "Fall 1.seg.nrrd").write_bytes(b"not an image")
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    row = rows(out)["Fall 1"]
    assert {text for name, text in row.items() if name.endswith("(ml)")} == {""}
    assert "cannot be read as labels, so its volumes are not known" in row["notices"]
