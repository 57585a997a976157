"""Where a model states what Dice to expect, every table of volumes has it; where it does not, none is invented."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from LightSegLib.batch import records
from LightSegLib.batch.records import DONE, Row, read_record
from LightSegLib.batch.report import write_report
from LightSegLib.batch.results_table import write_results
from LightSegLib.batch.settings import Batch, Settings
from LightSegLib.catalog.card import Calibration
from LightSegLib.catalog.card_file import write_card
from LightSegLib.catalog.lookup import card_of
from LightSegLib.cli.main import main
from threshold_models import write_threshold_model

DARK, BRIGHT = 2.0, 6.0  # of an image in which the label is where it exceeds 4: its logit is that much larger


@pytest.fixture
def image(write_image: Callable[..., Path]) -> Path:
    voxels = np.full((16, 16, 16), DARK, np.float32)
    voxels[4:12, 4:12, 4:12] = BRIGHT
    return write_image("image.nrrd", voxels)


@pytest.fixture
def calibrated(tmp_path: Path) -> Path:
    """A model that expects nine tenths of the soft Dice."""
    card = write_threshold_model(tmp_path / "bright", ["Bright"], [4.0])
    calibration = Calibration((0.0, 1.0), (0.0, 0.9), (1,), 0.0)
    write_card(replace(card, inference=replace(card.inference, calibration=calibration)), card.folder / "model.json")
    return tmp_path / "bright"


def dice_by_hand() -> float:
    """512 voxels whose logit is 2 in favor of the label, and 3584 against it."""
    sure = 1 / (1 + np.exp(-2.0))
    return float(0.9 * 2 * 512 * sure / (512 + 512 * sure + 3584 * (1 - sure)))


def test_the_command_line_prints_and_writes_it(
    calibrated: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["segment", str(image), "--model", str(calibrated), "--device", "cpu", "--precision", "float32"]
    for ending in ("json", "csv"):
        assert main([*words, "--statistics", str(tmp_path / f"s.{ending}")]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split() == ["LABEL", "ML", "EXPECTED", "DICE"]
    assert printed.splitlines()[1].split() == ["Bright", "0.512", f"{dice_by_hand():.2f}"]
    structures = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["structures"]
    assert structures["Bright"]["expected_dice"] == pytest.approx(dice_by_hand(), abs=1e-3)
    with (tmp_path / "s.csv").open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert float(row["expected_dice"]) == structures["Bright"]["expected_dice"]


def test_another_model_has_no_column(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_threshold_model(tmp_path / "plain", ["Bright"], [4.0])
    words = ["segment", str(image), "--model", str(tmp_path / "plain"), "--device", "cpu", "--precision", "float32"]
    assert main([*words, "--statistics", str(tmp_path / "s.csv")]) == 0
    assert "EXPECTED" not in capsys.readouterr().out
    assert "expected_dice" not in (tmp_path / "s.csv").read_text(encoding="utf-8")


def test_a_batch_has_it_in_its_table_and_its_page(calibrated: Path, tmp_path: Path) -> None:
    batch = Batch(str(calibrated), "a" * 64, tmp_path / "out", Settings())
    records.make_folders(batch)
    known = (DONE, batch.model, batch.model_sha256, batch.settings.sha256())
    rows = [
        Row("one", *known, ml={"Bright": 0.5, "All": 12.3456789}, expected_dice={"Bright": 0.871}),
        Row("two", *known, ml={"Bright": 0.4}),
    ]
    for row in rows:
        records.record_path(batch, row.case).write_text(json.dumps(vars(row)), encoding="utf-8")
    assert read_record(records.record_path(batch, "one")) == rows[0]
    write_results(batch, ["Bright", "All"])
    with (batch.out / records.TABLE).open(encoding="utf-8", newline="") as stream:
        one, two = csv.DictReader(stream)
    assert [row["Bright (expected Dice)"] for row in (one, two)] == ["0.871", ""]
    assert one["All (ml)"] == "12.346" and "All (expected Dice)" not in one, "the model states none of a total"
    page = write_report(card_of(str(calibrated)), None, batch, lambda: rows).read_text(encoding="utf-8")
    assert "Bright (ml, expected Dice)" in page and "0.50 <small>(0.87)</small>" in page
    assert "0.40</td>" in page


def test_a_spoiled_number_spoils_its_record(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(vars(Row("one", DONE, "m", "", "")) | {"expected_dice": {"Bright": "high"}}))
    assert read_record(path) is None
