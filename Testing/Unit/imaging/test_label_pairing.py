"""Which labels of a prediction and an expert are compared: those of one name, whatever their values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog.card import Label
from LightSegLib.cli import main as cli
from LightSegLib.core.errors import InputError
from LightSegLib.core.i18n import Message
from LightSegLib.evaluation.comparison import Row, evaluate_folders, summarize
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.label_pairing import paired, same_names
from LightSegLib.imaging.label_sides import Side
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.imaging.writers import write_segmentation
from rt_structures import structures

GEOMETRY = Geometry((12, 20, 20), (1, 1, 3))
PARTS = (slice(0, 5), slice(5, 8), slice(8, 12))  # rows of three structures, each of another size


def save(path: Path, names: dict[int, str], *values: int) -> Path:
    """Save labels of `values` in the three parts; names: of values."""
    voxels = np.zeros(GEOMETRY.shape, np.uint8)
    for rows, value in zip(PARTS, values, strict=False):
        voxels[3:8, rows, 4:12] = value
    labels = tuple(Label(value, name, (value, 0, 0)) for value, name in names.items())
    path.parent.mkdir(exist_ok=True)
    write_segmentation(Segmentation(voxels, GEOMETRY, labels), path)
    return path


def box(rows: slice, k: int, wider: float = 0) -> np.ndarray:
    """A contour on slice k around the rows of a structure."""
    low, high = (3.5 - wider, rows.start - 0.5 - wider), (11.5 + wider, rows.stop - 0.5 + wider)
    return np.array([(x, y, 3.0 * k) for x, y in (low, (high[0], low[1]), high, (low[0], high[1]))])


def compare(prediction: Path, expert: Path, names: dict[int, str] | None = None) -> tuple[list[Row], list[Message]]:
    notices: list[Message] = []
    return evaluate_folders(prediction, expert, names, lambda _case, notice: notices.append(notice)), notices


def test_an_expert_who_drew_the_structures_in_another_order_agrees(tmp_path: Path) -> None:
    prediction = save(tmp_path / "a.seg.nrrd", {1: "Anterior hippocampus", 2: "Posterior hippocampus"}, 1, 2)
    expert = save(tmp_path / "b.seg.nrrd", {1: "posterior hippocampus", 2: "anterior hippocampus"}, 2, 1)
    rows, notices = compare(prediction, expert)
    assert [(row.label, row.name, row.dice) for row in rows] == [
        (1, "Anterior hippocampus", 1),
        (2, "Posterior hippocampus", 1),
    ]
    assert rows[0].volume_ml == pytest.approx(5 * 5 * 8 * 0.003) and not notices


def test_names_of_one_structure_are_written_in_many_ways() -> None:
    first = {1: "Left kidney", 2: "Right kidney", 3: "Third rib", 4: "Gallbladder"}
    assert same_names(first, {7: "kidney_right", 8: "Kidney L", 9: "rib_3", 4: "Lesion"}) == {8: 1, 7: 2, 9: 3}
    assert same_names({1: "Lesion", 2: "Lesion"}, {2: "Lesion"}) == {}  # which of them is not known
    assert same_names({1: "lesion", 2: "Lesions"}, {5: "Lesions", 6: "Lesion"}) == {5: 2, 6: 1}  # as written, first


def test_a_name_for_the_background_pairs_nothing(tmp_path: Path) -> None:
    prediction = save(tmp_path / "a.seg.nrrd", {0: "Other", 1: "Liver"}, 1)
    rows, notices = compare(prediction, save(tmp_path / "b.seg.nrrd", {0: "Liver", 1: "Other"}, 1))
    assert [(row.name, row.dice) for row in rows] == [("Liver", 1)]
    assert "Label 1 is 'Liver' in the prediction and 'Other'" in notices[0]


def test_labels_of_different_names_are_compared_by_value_with_a_notice(tmp_path: Path) -> None:
    prediction = save(tmp_path / "a.seg.nrrd", {1: "Spleen", 2: "Tumor"}, 1, 2)
    rows, notices = compare(prediction, save(tmp_path / "b.seg.nrrd", {1: "Spleen", 2: "Lesion"}, 1, 2))
    assert [(row.name, row.dice) for row in rows] == [("Spleen", 1), ("Tumor", 1)]
    (notice,) = notices
    assert "Label 2 is 'Tumor' in the prediction and 'Lesion' in the expert's file" in notice


def test_parts_of_a_tumor_are_not_one_structure_although_their_codes_are(tmp_path: Path) -> None:
    enhancing = save(tmp_path / "a.seg.nrrd", {3: "Enhancing tumor"}, 3)
    rows, _notices = compare(enhancing, save(tmp_path / "b.seg.nrrd", {1: "Non-enhancing tumor", 2: "Edema"}, 1, 2))
    assert [(row.name, row.dice) for row in rows[:2]] == [("Non-enhancing tumor", 0), ("Edema", 0)]
    assert rows[2].name == "Enhancing tumor" and not rows[2].is_drawn
    prediction = save(tmp_path / "c.seg.nrrd", {1: "Enhancing tumor", 2: "Brain tumor"}, 1, 2)
    rows, notices = compare(prediction, save(tmp_path / "d.seg.nrrd", {1: "Non-enhancing tumor"}, 1))
    assert [row.name for row in rows] == ["Enhancing tumor", "Brain tumor"]
    assert "'Enhancing tumor' in the prediction and 'Non-enhancing tumor' in the expert's file" in notices[0]


def test_a_label_whose_value_means_another_structure_is_not_compared_with_it(tmp_path: Path) -> None:
    """The expert's 2 is a vessel, the prediction's 2 the liver, which the expert has as 1."""
    prediction = save(tmp_path / "a.seg.nrrd", {2: "Liver"}, 2)
    rows, notices = compare(prediction, save(tmp_path / "b.seg.nrrd", {1: "Liver", 2: "Portal vein"}, 1, 2))
    assert [(row.name, row.dice) for row in rows] == [("Liver", 1), ("Portal vein", 0)]
    assert len({row.label for row in rows}) == 2 and not notices


def test_files_without_names_are_compared_by_value(tmp_path: Path) -> None:
    named = {1: "Spleen", 5: "Liver"}
    without = save(tmp_path / "a.nii.gz", named, 1, 5)
    expert = save(tmp_path / "b.seg.nrrd", {1: "Liver", 5: "Spleen"}, 5, 1)
    assert [(row.name, row.dice) for row in compare(without, without)[0]] == [("label 1", 1), ("label 5", 1)]
    assert [row.dice for row in compare(without, expert)[0]] == [0, 0]
    with_model = compare(without, expert, named)[0]  # which knows what the values of its results are
    assert [(row.name, row.dice) for row in with_model] == [("Spleen", 1), ("Liver", 1)]


@pytest.mark.parametrize("name", ["a.seg.nrrd", "a.nii.gz"])
def test_contours_are_found_by_name_and_the_outline_of_the_body_is_left_out(tmp_path: Path, name: str) -> None:
    """Planning systems number structures as they were drawn; the body overlaps all of them."""
    names = {1: "spleen", 5: "liver", 6: "left kidney"}
    prediction = save(tmp_path / name, names, 5, 1)
    drawn = {
        "BODY": [box(slice(0, 19), k, wider=1) for k in range(12)],
        "Liver": [box(PARTS[0], k) for k in range(3, 8)],
        "PTV": [box(PARTS[0], 4, wider=1)],
        "Spleen": [box(PARTS[1], k) for k in range(3, 8)],
        "Kidney_L": [box(PARTS[2], k) for k in range(3, 8)],
    }
    expert = structures(tmp_path, drawn)
    rows, notices = compare(prediction, expert, names)
    assert [(row.label, row.name, row.dice) for row in rows] == [
        (1, "spleen", 1),
        (5, "liver", 1),
        (6, "left kidney", 0),
    ]
    (notice,) = notices
    assert "were not compared: BODY, PTV." in notice
    back, _notices = compare(expert, save(tmp_path / "named.seg.nrrd", names, 5, 1))
    assert [(row.name, row.dice) for row in back] == [("Liver", 1), ("Spleen", 1), ("Kidney_L", 0)]


def test_contours_of_a_structure_that_the_other_file_lacks_are_left_out_whatever_their_number(tmp_path: Path) -> None:
    """The only contours have the number of a label of another structure, which is no miss of theirs."""
    liver = structures(tmp_path, {"Liver": [box(PARTS[0], k) for k in range(3, 8)]})
    spleen = save(tmp_path / "a.seg.nrrd", {1: "Spleen"}, 1)
    for files in ((spleen, liver), (liver, spleen)):
        rows, notices = compare(*files)
        assert [row.name for row in rows] == ["Spleen"]
        assert "were not compared: Liver." in notices[0] and "one value" not in " ".join(notices)


def test_cases_in_which_a_value_means_something_else_have_a_mean_each(tmp_path: Path) -> None:
    for case, names in (("a", {1: "Liver"}), ("b", {1: "Liver"}), ("c", {1: "Spleen"})):
        for folder in ("predictions", "labels"):
            save(tmp_path / folder / f"{case}.seg.nrrd", names, 1)
    rows, _notices = compare(tmp_path / "predictions", tmp_path / "labels")
    assert [(one.label, one.name, one.cases) for one in summarize(rows)] == [(1, "Liver", 2), (1, "Spleen", 1)]


def test_a_structure_has_one_mean_however_the_files_number_and_write_it(tmp_path: Path) -> None:
    """The expert's 2 is a vessel, the prediction's 2 the liver, and b's expert has a third structure."""
    for case, names in (("a", {1: "Liver", 2: "Portal vein"}), ("b", {1: "liver", 2: "portal_vein", 3: "Spleen"})):
        save(tmp_path / "predictions" / f"{case}.seg.nrrd", {2: "Liver"}, 2)
        save(tmp_path / "labels" / f"{case}.seg.nrrd", names, *names)
    save(tmp_path / "predictions" / "c.seg.nrrd", {5: "Liver", 6: "Portal vein"}, 5, 6)
    save(tmp_path / "labels" / "c.seg.nrrd", {5: "Liver", 6: "Portal vein"}, 5, 6)
    rows, _notices = compare(tmp_path / "predictions", tmp_path / "labels")
    assert [(row.case, row.label, row.name) for row in rows if row.dice == 0] == [
        ("a", 3, "Portal vein"),
        ("b", 3, "Spleen"),
        ("b", 4, "portal_vein"),
    ]
    means = [(one.label, one.name, one.cases, one.missed, round(one.mean["dice"], 3)) for one in summarize(rows)]
    assert means == [(2, "Liver", 3, 0, 1), (3, "Portal vein", 3, 2, 0.333), (3, "Spleen", 1, 1, 0)]


def test_two_labels_of_one_name_in_a_case_have_a_mean_each(tmp_path: Path) -> None:
    for case in "ab":
        for folder in ("predictions", "labels"):
            save(tmp_path / folder / f"{case}.seg.nrrd", {1: "Lesion", 2: "Lesion"}, 1, 2)
    rows, _notices = compare(tmp_path / "predictions", tmp_path / "labels")
    assert [(one.label, one.name, one.cases) for one in summarize(rows)] == [(1, "Lesion", 2), (2, "Lesion", 2)]


def test_a_label_with_another_value_gets_the_lowest_free_one_and_keeps_its_own_name(tmp_path: Path) -> None:
    """The expert's label 2 has no name, and value 3, which it gets, is a structure that the model alone has."""
    prediction = save(tmp_path / "a.seg.nrrd", {2: "Liver"}, 2)
    expert = save(tmp_path / "b.seg.nrrd", {1: "Liver"}, 1, 2)
    rows, _notices = compare(prediction, expert, {3: "Spleen"})
    assert [(row.label, row.name, row.dice) for row in rows] == [(2, "Liver", 1), (3, "label 2", 0)]
    with_many = Side(frozenset({2}), {2: "Liver", 32767: "Fat"})
    assert paired(with_many, Side(frozenset({1, 2}), {1: "Liver"})).second == {1: 2, 2: 3}


def test_a_name_for_a_value_that_no_label_may_have_pairs_nothing(tmp_path: Path) -> None:
    prediction = save(tmp_path / "a.seg.nrrd", {2: "Liver", 65536: "Fat"}, 2)
    rows, _notices = compare(prediction, save(tmp_path / "b.seg.nrrd", {1: "Liver", 2: "Fat"}, 1, 2))
    assert [(row.label, row.name, row.dice) for row in rows] == [(2, "Liver", 1), (3, "Fat", 0)]


def test_the_command_line_states_once_what_holds_for_many_cases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in "abc":
        save(tmp_path / "predictions" / f"{case}.seg.nrrd", {1: "Tumor"}, 1)
        save(tmp_path / "labels" / f"{case}.seg.nrrd", {1: "Lesion"}, 1)
    assert cli.main(["evaluate", str(tmp_path / "predictions"), str(tmp_path / "labels")]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "Lesion" in line]
    assert line.startswith("lightseg: a and 2 more: Label 1 is 'Tumor' in the prediction and 'Lesion'")


def test_the_model_names_what_the_prediction_leaves_without_a_name(tmp_path: Path) -> None:
    prediction = save(tmp_path / "a.seg.nrrd", {1: "Anterior"}, 1, 2)
    expert = save(tmp_path / "b.seg.nrrd", {1: "Posterior", 2: "Anterior"}, 2, 1)
    rows, notices = compare(prediction, expert, {1: "Anterior", 2: "Posterior"})
    assert [(row.name, row.dice) for row in rows] == [("Anterior", 1), ("Posterior", 1)] and not notices


def test_two_parts_of_the_body_are_not_compared_because_of_their_value(tmp_path: Path) -> None:
    """Two programs number the organs in their own order."""
    prediction = save(tmp_path / "a.seg.nrrd", {1: "Liver", 3: "Spleen"}, 1, 3)
    rows, notices = compare(prediction, save(tmp_path / "b.seg.nrrd", {1: "liver", 3: "Left kidney"}, 1, 3))
    assert [(row.label, row.name, row.is_drawn) for row in rows] == [
        (1, "Liver", True),
        (2, "Left kidney", True),
        (3, "Spleen", False),
    ]
    assert (rows[0].dice, rows[1].dice) == (1, 0)
    assert "were not compared: 3 is 'Spleen' in the prediction and 'Left kidney' in the expert's file." in notices[0]


def test_both_sides_are_compared_with_an_expert_who_names_none(tmp_path: Path) -> None:
    """Left and right are in rows of their own size; an expert's file of one region has the hippocampus as one label."""
    sided = save(tmp_path / "a.seg.nrrd", {11: "Left hippocampus", 29: "Right hippocampus", 4: "Thalamus"}, 11, 29, 4)
    whole = save(tmp_path / "b.seg.nrrd", {1: "Hippocampus", 2: "thalamus"}, 1, 1, 2)
    rows, (notice,) = compare(sided, whole)
    assert [(row.label, row.name, row.dice) for row in rows] == [(4, "Thalamus", 1), (11, "Hippocampus", 1)]
    assert "Left and right of 'Hippocampus' were compared as one" in notice
    rows, (notice,) = compare(whole, sided)
    assert [(row.label, row.name, row.dice) for row in rows] == [(1, "Hippocampus", 1), (2, "thalamus", 1)]
    assert "Left and right of 'Hippocampus' were compared as one" in notice
    without_names = save(tmp_path / "c.nii.gz", {1: "of no meaning in NIfTI"}, 1, 1)
    model = {1: "Hippocampus", 2: "Left hippocampus", 3: "Right hippocampus"}  # of which this result has no sides
    assert [row.dice for row in compare(without_names, whole, model)[0]] == [1, 0]


def test_a_crop_around_one_hippocampus_is_compared_with_that_one(tmp_path: Path) -> None:
    """The label of a crop has no side; the file of the whole head has both."""
    whole = save(tmp_path / "a.seg.nrrd", {3: "Left hippocampus", 5: "Right hippocampus"}, 3, 5)
    crop = save(tmp_path / "b.seg.nrrd", {1: "Hippocampus"}, 0, 1)
    rows, (notice,) = compare(crop, whole)
    assert [(row.name, row.dice, row.is_drawn) for row in rows] == [
        ("Right hippocampus", 1, True),
        ("Left hippocampus", 0, True),
    ]
    assert "'Hippocampus' has no side in one of the files and was compared with 'Right hippocampus', where" in notice
    rows, notices = compare(whole, crop)
    assert [(row.name, row.is_drawn) for row in rows] == [("Left hippocampus", False), ("Right hippocampus", True)]
    assert rows[1].dice == 1 and "have no score: Left hippocampus." in notices[1]


def test_a_side_that_a_prediction_missed_is_not_taken_for_one_that_an_expert_left_out(tmp_path: Path) -> None:
    """The expert's label is of both kidneys, of which the model has found the right one: 24 of 64 voxels on a slice."""
    names = {1: "Left kidney", 2: "Right kidney"}
    both = save(tmp_path / "b.seg.nrrd", {1: "Kidney"}, 1, 1)
    rows, (notice,) = compare(save(tmp_path / "a.seg.nrrd", names, 0, 2), both)
    assert [(row.name, row.dice) for row in rows] == [("Kidney", pytest.approx(2 * 24 / (24 + 64)))]
    assert "were compared as one" in notice


def test_one_side_alone_is_not_taken_for_both(tmp_path: Path) -> None:
    left = save(tmp_path / "a.seg.nrrd", {11: "Left hippocampus"}, 11)
    rows, _notices = compare(left, save(tmp_path / "b.seg.nrrd", {1: "Hippocampus"}, 1))
    assert [(row.name, row.is_drawn) for row in rows] == [("Hippocampus", True), ("Left hippocampus", False)]


def test_sides_are_compared_with_sides_where_the_other_file_has_both_together_too(tmp_path: Path) -> None:
    """Contours for radiotherapy have the lungs beside each of them, as one volume at risk."""
    prediction = save(tmp_path / "a.seg.nrrd", {1: "Left lung", 2: "Right lung"}, 1, 2)
    left, right = ([box(rows, k) for k in range(3, 8)] for rows in PARTS[:2])
    expert = structures(tmp_path, {"Lungs": left + right, "Lung_L": left, "Lung_R": right})
    rows, (notice,) = compare(prediction, expert)
    assert [(row.name, row.dice) for row in rows] == [("Left lung", 1), ("Right lung", 1)]
    assert "were not compared: Lungs." in notice
    assert [(row.name, row.dice) for row in compare(expert, prediction)[0]] == [("Lung_L", 1), ("Lung_R", 1)]


def test_a_label_on_one_side_is_compared_with_the_contours_of_that_side(tmp_path: Path) -> None:
    label = save(tmp_path / "a.seg.nrrd", {1: "Kidney"}, 1)
    left, right = ([box(rows, k) for k in range(3, 8)] for rows in PARTS[:2])
    contours = structures(tmp_path, {"Kidney_L": left, "Kidney_R": right})
    for one, other in ((label, contours), (contours, label)):
        rows, notices = compare(one, other)
        assert [(row.name, row.dice) for row in rows] == [("Kidney_L", 1)]
        assert "were not compared: Kidney_R." in notices[1]


def test_a_structure_without_contours_is_stated(tmp_path: Path) -> None:
    """A template of a planning system has all organs; which of them the physician drew is not to be seen."""
    prediction = save(tmp_path / "a.seg.nrrd", {1: "liver", 2: "spleen"}, 1, 2)
    expert = structures(tmp_path, {"Liver": [box(PARTS[0], k) for k in range(3, 8)], "Spleen": [], "Heart": []})
    rows, (notice,) = compare(prediction, expert)
    assert [(row.name, row.dice) for row in rows] == [("liver", 1), ("spleen", 0)]
    assert notice.startswith("Structures without closed contours count as empty: Spleen.")


@pytest.mark.parametrize("name", ["", " ", "ROI-1", "Segment_1", "label 1", "1"])
def test_a_name_that_is_empty_or_counted_names_nothing(tmp_path: Path, name: str) -> None:
    drawn = structures(tmp_path, {name: [box(PARTS[0], k) for k in range(3, 8)]})
    several = save(tmp_path / "a.seg.nrrd", {1: "Spleen", 2: "Liver"}, 2, 1)
    with pytest.raises(InputError, match=r"structures\.dcm has a single label without a name"):
        compare(several, drawn)
    rows, _notices = compare(drawn, save(tmp_path / "b.seg.nrrd", {1: "Liver"}, 1))
    assert [(row.name, row.dice) for row in rows] == [("Liver", 1)]
