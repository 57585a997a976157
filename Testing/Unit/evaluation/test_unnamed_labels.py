"""What is compared with labels that nothing names, and what nobody has drawn."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog.card import Label
from LightSegLib.cli import main as cli
from LightSegLib.core.errors import InputError
from LightSegLib.evaluation.comparison import Row, evaluate_folders, nothing_in_common, summarize
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.imaging.writers import write_segmentation

GEOMETRY = Geometry((6, 12, 6), (1, 1, 1))
BRAIN = {1: "Brainstem", 17: "Left hippocampus", 35: "Right hippocampus"}


def save(path: Path, names: dict[int, str], *values: int) -> Path:
    """Save a label map with a row of voxels for each of `values`, at the same places in every file."""
    voxels = np.zeros(GEOMETRY.shape, np.uint8)
    for row, value in enumerate(values):
        voxels[2:4, 2 * row + 1 : 2 * row + 3, 1:4] = value
    path.parent.mkdir(exist_ok=True)
    named = names or {255: "which NIfTI does not hold"}
    labels = tuple(Label(value, name, (value, 0, 0)) for value, name in named.items())
    write_segmentation(Segmentation(voxels, GEOMETRY, labels), path)
    return path


def compare(prediction: Path, expert: Path, structure: str = "", **names: str) -> tuple[list[Row], list[str]]:
    notices: list[str] = []
    model = {int(key.strip("_")): name for key, name in names.items()}
    return evaluate_folders(prediction, expert, model, lambda _case, one: notices.append(str(one)), structure), notices


def scores(rows: list[Row]) -> dict[str, float | None]:
    return {row.name: row.dice if row.is_drawn else None for row in rows}


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    return save(tmp_path / "brain.seg.nrrd", BRAIN, 1, 17, 35)


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_without_a_name_is_compared_with_nothing_until_it_has_one(
    brain: Path, tmp_path: Path, value: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mask of a hippocampus has the value 1, which in the prediction is the brain stem."""
    mask = save(tmp_path / "mask.nii.gz", {}, 0, value)
    words = ["evaluate", str(brain), str(mask)]
    assert cli.main(words) == 2
    assert "mask.nii.gz has a single label without a name" in (error := capsys.readouterr().err)
    assert "Name it with --structure, such as --structure 'Brainstem'." in error
    table = tmp_path / "table.csv"
    assert cli.main([*words, "--structure", "hippocampus_left", "--out", str(table)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1].split() == ["brain", "Left", "hippocampus", "1.000", "1.000", "0.000", "0.000"]
    assert "have no score: Brainstem, Right hippocampus." in printed.err and "Brainstem" not in printed.out
    with table.open(encoding="utf-8", newline="") as stream:
        rows = {row["name"]: row["dice"] for row in csv.DictReader(stream)}
    assert rows == {"Left hippocampus": "1.0", "Brainstem": "", "Right hippocampus": ""}
    assert cli.main([*words, "--structure", "hipocampus"]) == 2
    assert "brain.seg.nrrd names no label 'hipocampus'. Choose one of the closest names" in capsys.readouterr().err


def test_a_mask_of_both_sides_is_compared_with_both(brain: Path, tmp_path: Path) -> None:
    rows, notices = compare(brain, save(tmp_path / "mask.nii.gz", {}, 0, 1, 1), "hippocampus")
    assert scores(rows) == {"hippocampus": 1, "Brainstem": None}
    assert notices[0].startswith("Left and right of 'hippocampus' were compared as one")


def test_a_prediction_that_is_a_mask_is_asked_for_its_name_too(brain: Path, tmp_path: Path) -> None:
    mask = save(tmp_path / "mask.nii.gz", {}, 1)
    with pytest.raises(InputError, match=r"^mask\.nii\.gz has a single label without a name.* of brain\.seg\.nrrd"):
        compare(mask, brain)
    assert scores(compare(mask, brain, "brainstem")[0])["brainstem"] == 1


def test_a_model_of_one_label_needs_no_name(tmp_path: Path) -> None:
    mask = save(tmp_path / "mask.nii.gz", {}, 1)
    assert compare(save(tmp_path / "a.seg.nrrd", {1: "Brain"}, 1), mask)[1] == []
    assert scores(compare(mask, mask)[0]) == {"label 1": 1}
    rows, (notice, _not_drawn) = compare(mask, other := save(tmp_path / "255.nii.gz", {}, 255))
    assert nothing_in_common(rows) and "different values" in notice
    assert scores(compare(mask, other, "brain")[0]) == {"brain": 1}


def test_label_maps_of_several_labels_are_compared_by_value_although_a_case_shows_one(tmp_path: Path) -> None:
    """The liver of case a has no tumor; other cases show that these are no masks."""
    for case, values in (("a", (1,)), ("b", (1, 2))):
        save(tmp_path / "labels" / f"{case}.nii.gz", {}, *values)
        save(tmp_path / "predictions" / f"{case}.nii.gz", {}, 1, 2)
    rows, notices = compare(tmp_path / "predictions", tmp_path / "labels", _1="Liver", _2="Tumor")
    assert [(row.case, row.name, row.dice) for row in rows] == [
        ("a", "Liver", 1),
        ("a", "Tumor", 0),  # the expert of b has drawn one, so the expert of a saw none
        ("b", "Liver", 1),
        ("b", "Tumor", 1),
    ]
    assert not notices


def test_what_is_compared_by_value_alone_is_stated(brain: Path, tmp_path: Path) -> None:
    masks = save(tmp_path / "masks.nii.gz", {}, 0, 1, 2)
    _rows, notices = compare(brain, masks)
    assert notices[0].startswith("Labels without names were compared by their values (1 with 'Brainstem').")
    assert notices[0].endswith("give the one without names as .seg.nrrd with names, or as the prediction with --model.")
    plain = save(tmp_path / "plain.nii.gz", {}, 1, 17, 35)
    _rows, notices = compare(plain, save(tmp_path / "mask.nii.gz", {}, 0, 1))
    assert notices[0].startswith("One of the files has a single label, the other several, all without names")
    _rows, notices = compare(plain, save(tmp_path / "one.seg.nrrd", {1: "Left hippocampus"}, 0, 1))
    assert notices[0].startswith("Labels without names were compared by their values (1 with 'Left hippocampus').")


def test_a_mask_is_compared_with_none_of_several_labels_that_nothing_names(tmp_path: Path) -> None:
    """The mask of a whole hippocampus, value 1, beside its anterior (1) and posterior part without names."""
    parts, mask = save(tmp_path / "parts.nii.gz", {}, 1, 2), save(tmp_path / "mask.nii.gz", {}, 1, 1)
    for files in ((parts, mask), (mask, parts)):
        with pytest.raises(
            InputError, match=r"^parts\.nii\.gz has several labels .* of them is 'hippocampus'\. Save it"
        ):
            compare(*files, "hippocampus")
    rows, _notices = compare(parts, mask, "anterior", _1="Anterior", _2="Posterior")
    assert scores(rows) == {"Anterior": 2 / 3, "Posterior": None}


def test_a_map_of_probabilities_is_noticed(tmp_path: Path) -> None:
    """Programs such as hippodeep write probabilities as 0 to 255; 246 regions of an atlas have other values."""
    geometry, expert = Geometry((16, 32, 32), (1, 1, 1)), tmp_path / "expert.seg.nrrd"
    for shades, start in ((255, "gray.nii.gz has 255 labels up to 255, as a map of"), (246, "Labels without names")):
        voxels, drawn = np.zeros((2, *geometry.shape), np.uint8)
        voxels.ravel()[: 32 * shades] = np.repeat(np.arange(1, shades + 1), 32)
        drawn[4:8, 4:8, 4:8] = 1
        write_segmentation(Segmentation(voxels, geometry, (Label(1, "x", (1, 0, 0)),)), tmp_path / "gray.nii.gz")
        write_segmentation(
            Segmentation(drawn, geometry, (Label(1, "Liver", (1, 0, 0)), Label(2, "Spleen", (2, 0, 0)))), expert
        )
        for files in ((tmp_path / "gray.nii.gz", expert), (expert, tmp_path / "gray.nii.gz")):
            assert compare(*files)[1][0].startswith(start)


def test_a_model_vouches_for_the_numbers_of_no_other_model(brain: Path, tmp_path: Path) -> None:
    """The file of the expert has the numbers of another model than the prediction, which has names of its own."""
    plain = save(tmp_path / "plain.nii.gz", {}, 1, 17, 35)
    (notice,) = compare(brain, plain, _1="White matter", _17="Thalamus", _35="Putamen")[1]
    assert notice.startswith("Labels without names were compared by their values (1 with 'Brainstem', 17 with")
    assert compare(brain, plain, _1="Brainstem", _17="Left hippocampus", _35="Right hippocampus")[1] == []


def test_a_structure_that_nobody_drew_has_no_score_and_one_that_is_drawn_empty_has(tmp_path: Path) -> None:
    prediction = save(tmp_path / "a.seg.nrrd", BRAIN, 1, 17, 35)
    names = {1: "Brainstem", 2: "Left hippocampus"}  # looked for on the left, where there is none
    rows, (notice,) = compare(prediction, save(tmp_path / "b.seg.nrrd", names, 1))
    assert scores(rows) == {"Brainstem": 1, "Left hippocampus": 0, "Right hippocampus": None}
    assert "have no score: Right hippocampus. If an expert looked for one" in notice
    assert all(math.isnan(number) for number in (rows[2].dice, rows[2].hd95_mm, rows[2].volume_difference_ml))
    assert [(one.name, one.missed) for one in summarize(rows)] == [("Brainstem", 0), ("Left hippocampus", 1)]


def test_of_many_structures_that_nobody_drew_the_first_are_named(tmp_path: Path) -> None:
    """A model of the whole body beside an expert's file with the liver."""
    body = np.ones((4, 4, 1), np.uint16) * np.arange(1, 118, dtype=np.uint16).repeat(3)
    labels = [Label(value, f"Structure {value}", (value, 0, 0)) for value in range(1, 118)]
    files = tmp_path / "prediction.seg.nrrd", tmp_path / "expert.seg.nrrd"
    for path, count in zip(files, (117, 1), strict=True):
        voxels, geometry = np.where(body <= count, body, 0), Geometry(body.shape, (1, 1, 1))
        write_segmentation(Segmentation(voxels, geometry, tuple(labels[:count])), path)
    _rows, (notice,) = compare(*files)
    assert "no score: Structure 2, " in notice and "Structure 9, and 108 more. If" in notice


def test_an_expert_who_looked_for_both_sides_looked_for_the_structure(tmp_path: Path) -> None:
    """Both hippocampi were removed; the prediction has one, without a side."""
    prediction = save(tmp_path / "a.seg.nrrd", {1: "Hippocampus", 2: "Brainstem"}, 1, 2)
    expert = save(tmp_path / "b.seg.nrrd", BRAIN, 0, 1)
    assert scores(compare(prediction, expert)[0]) == {"Hippocampus": 0, "Brainstem": 1}


def test_an_expert_who_drew_nothing_at_all_saw_nothing(tmp_path: Path) -> None:
    lesion = save(tmp_path / "a.nii.gz", {}, 1)
    assert scores(compare(lesion, save(tmp_path / "b.nii.gz", {}))[0]) == {"label 1": 0}


def test_a_name_for_files_that_need_none_is_refused(brain: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^Neither brain\.seg\.nrrd nor .* so --structure is not for them\. Omit it"):
        compare(brain, brain, "brainstem")
