"""Only the structures that a user wants: other labels are background, and parts without them do not run."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composite_models import write_composite
from LightSegLib.catalog.card import Label, OuterResampling, Preprocessing, RegionFrom, Rough, Step, Total
from LightSegLib.catalog.lookup import find_card
from LightSegLib.catalog.needed import all_models, needed_models
from LightSegLib.catalog.structures import chosen_labels
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError
from LightSegLib.core.progress import Progress
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.readers import read_grid
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from threshold_models import UNCHANGED, write_threshold_model

SHAPE = (24, 20, 18)
OUTER = Preprocessing(normalization=(UNCHANGED,), outer_resampling=OuterResampling((3.0, 3.0, 3.0), True))


@pytest.fixture
def models(user_models: Path) -> Path:
    """The user's models of a house: lamp and oven, cat and dog, all of them, and a rough one."""
    write_threshold_model(user_models / "things", ["Lamp", "Oven"], [50, 100])
    write_threshold_model(user_models / "animals", ["Cat", "Dog"], [200, 300])
    write_threshold_model(user_models / "rough", ["Lamp", "Oven", "Cat"], [50, 100, 200], preprocessing=OUTER)
    parts = {"things": (1, 2), "animals": (3, 4)}
    write_composite(user_models / "house", ["Lamp", "Oven", "Cat", "Dog"], parts, rough=Rough("rough", 2.5))
    return user_models


def house() -> Volume:
    """Four balls of different brightness in a dark house, and a window as bright as the oven."""
    voxels = np.zeros(SHAPE, np.float32)
    k, j, i = np.indices(SHAPE)
    for value, center in ((75, (5, 5, 5)), (150, (17, 5, 12)), (250, (6, 14, 12)), (350, (18, 14, 5))):
        voxels[(k - center[0]) ** 2 + (j - center[1]) ** 2 + (i - center[2]) ** 2 <= 9] = value
    return Volume(voxels, Geometry(SHAPE), "house")


def true(voxels: np.ndarray, *values: int) -> np.ndarray:
    """The labels of the house as all of its models find them, of these values alone."""
    labels = np.select([voxels > 300, voxels > 200, voxels > 100, voxels > 50], [4, 3, 2, 1], 0)
    return np.where(np.isin(labels, values), labels, 0)


def segmenter(model: str, *structures: str, **options: Any) -> Segmenter:
    return Segmenter(find_card(model), InferenceOptions("cpu", "float32", structures=structures, **options))


def ran(steps: list[Progress]) -> int:
    """How many networks were loaded."""
    return sum(step.step.endswith("Loading model") for step in steps)


@pytest.mark.parametrize("words", [("Oven",), ("OVEN",), ("2",), ("oven", "Oven")])
def test_of_any_model_only_what_is_wanted_is_left(models: Path, words: tuple[str, ...]) -> None:
    volume = house()
    made = segmenter("things", *words, confidence=True)
    made.card = replace(made.card, totals=(Total("Both", (1, 2)), Total("Hot", (2,))))
    result = made.segment([volume])
    np.testing.assert_array_equal(result.voxels, np.where((volume.voxels > 100), 2, 0))
    assert [label.name for label in result.labels] == ["Oven"] and [total.name for total in result.totals] == ["Hot"]
    assert result.provenance["settings"]["structures"] == list(words)
    assert set(result.volumes_ml()) == {"Oven", "Hot"}


def test_only_the_parts_that_have_it_run_in_the_box_of_the_rough_model(models: Path) -> None:
    volume, steps = house(), list[Progress]()
    result = segmenter("house", "cat").segment([volume], progress=steps.append)
    np.testing.assert_array_equal(result.voxels, true(volume.voxels, 3))
    assert [part["model"] for part in result.provenance["parts"]] == ["animals"] and ran(steps) == 2
    box = np.array(result.provenance["region_from"]["rois_lps"][""])
    assert result.provenance["region_from"]["model"] == "rough"
    assert np.prod(np.ptp(box, axis=0)) < np.prod(SHAPE) / 2
    shares = [step.tile / step.tiles for step in steps if step.tiles]
    assert shares == sorted(shares) and shares[-1] == 1


def test_each_part_is_cited_where_the_rough_model_showed_the_place(models: Path) -> None:
    (part,) = segmenter("house", "cat").segment([house()]).provenance["parts"]
    assert part["citation"] == "animals." and part["computed_in"] == "float32"


def test_parts_that_a_step_looks_at_run_though_their_labels_are_not_wanted(models: Path) -> None:
    """The lamp is kept where it is near a cat, which is of another part."""
    made = segmenter("house", "lamp")
    near = Step("keep_within", (1,), distance_mm=100, reference=(3,), grid="image")
    made.card = replace(made.card, rough=None, postprocessing=(near,))
    made = Segmenter(made.card, made.options)
    volume = house()
    np.testing.assert_array_equal(made.segment([volume]).voxels, true(volume.voxels, 1))


def test_an_image_with_very_low_values_is_not_refused_for_the_sake_of_a_choice(models: Path) -> None:
    volume = house()
    volume.voxels[0, 0, 0] = -1000
    card = replace(find_card("house"), modality="MR")
    result = Segmenter(card, InferenceOptions("cpu", "float32", structures=("cat",))).segment([volume])
    np.testing.assert_array_equal(result.voxels, true(volume.voxels, 3))


def test_what_the_rough_model_does_not_know_is_looked_for_everywhere(models: Path) -> None:
    volume, steps = house(), list[Progress]()
    result = segmenter("house", "Dog", "Lamp").segment([volume], progress=steps.append)
    assert set(np.unique(result.voxels)) == {0, 1, 4} and "region_from" not in result.provenance
    assert ran(steps) == 2 and len(result.provenance["parts"]) == 2


def test_what_the_rough_model_does_not_find_gives_an_empty_result_with_a_sentence(models: Path) -> None:
    volume = house()
    volume.voxels[volume.voxels > 200] = 0
    result = segmenter("house", "Cat").segment([volume])
    assert not result.voxels.any() and [label.name for label in result.labels] == ["Cat"]
    assert result.provenance["notices"][0] == "Rough found no Cat, so there is no result for it."
    assert "found nothing" in result.provenance["notices"][-1]


def test_a_word_that_names_nothing_is_refused_before_anything_runs(models: Path) -> None:
    steps: list[Progress] = []
    with pytest.raises(InputError, match=r"'House' has no structure 'Catt'\. Choose one of the closest names \(Cat"):
        segmenter("house", "Catt").segment([house()], progress=steps.append)
    assert not steps


def test_names_of_the_authors_are_understood(models: Path) -> None:
    card = find_card("things")
    oven = Label(2, "Oven", (1, 2, 3), original="kitchen_oven")
    assert chosen_labels(replace(card, labels=(card.labels[0], oven)), ["Kitchen_Oven"]) == (oven,)


def test_a_word_for_both_sides_or_for_a_total_names_all_of_its_labels() -> None:
    card = find_card("brain-mr-atlas-unet")
    names: Callable[..., list[str]] = lambda *words: [label.name for label in chosen_labels(card, words)]  # noqa: E731
    assert names("thalamus") == ["Left thalamus", "Right thalamus"] == names("THALAMI")
    assert names("Left thalamus", "thalamus") == ["Left thalamus", "Right thalamus"]
    assert names("hippocampi") == names("Hippocampus") == ["Left hippocampus", "Right hippocampus"]
    assert len(names("ventricles")) == 6 and "Third ventricle" in names("Ventricles")  # a total of the card
    for unknown in ("left", "ventricle"):  # neither is one structure
        with pytest.raises(InputError, match="see all with 'lightseg info brain-mr-atlas-unet --labels'"):
            names(unknown)
    with pytest.raises(InputError, match=r"no structure 'Ventrickles'.* closest names \(Ventricles, "):
        names("Ventrickles")


def test_sides_that_a_model_adds_can_be_chosen_or_left_open(models: Path) -> None:
    """The finder's labels have sides; 'Shell' means those of both, 'Left shell' that one."""
    rule = RegionFrom("lamps", (1, 2), 3.0, by_side=True)
    write_threshold_model(models / "lamps", ["Right lamp", "Left lamp"], [120, 220])
    write_threshold_model(models / "lamp-parts", ["Shell", "Core"], [50, 100], region_from=rule)
    voxels = np.zeros((20, 20, 40), np.float32)
    for x, value in ((8, 150), (30, 250)):
        voxels[6:14, 6:14, x - 4 : x + 4] = 75
        voxels[8:12, 8:12, x - 2 : x + 2] = value
    volume = Volume(voxels, Geometry((20, 20, 40)), "room")
    everything = segmenter("lamp-parts").segment([volume])
    values = {label.name: label.value for label in everything.labels}
    assert set(values) == {"Left shell", "Left core", "Right shell", "Right core"}

    def check(words: tuple[str, ...], names: set[str]) -> None:
        result = segmenter("lamp-parts", *words).segment([volume])
        assert {label.name for label in result.labels} == names
        wanted = [values[name] for name in names]
        np.testing.assert_array_equal(result.voxels, np.where(np.isin(everything.voxels, wanted), everything.voxels, 0))
        assert result.voxels.any()

    check(("Shell",), {"Left shell", "Right shell"})
    check(("left shell",), {"Left shell"})
    check(("Right core", "2"), {"Left core", "Right core"})


@pytest.mark.parametrize(
    ("words", "notices"),
    [
        (
            ("left shell",),
            ["Left shell was asked for, but the side of what was found is not known, so Shell of either"],
        ),
        (("Left shell", "right core"), ["Left shell was asked for", "Right core was asked for"]),
        (("Left shell", "Right shell"), []),
        (("Left shell", "shell"), []),
        (("Shell",), []),
    ],
)
def test_a_side_that_a_crop_does_not_show_is_not_promised(
    models: Path, words: tuple[str, ...], notices: list[str]
) -> None:
    """A box around one lamp is small enough to be segmented as it is, and nobody looks which one it is."""
    rule = RegionFrom("lamps", (1, 2), 3.0, by_side=True)
    write_threshold_model(models / "lamps", ["Right lamp", "Left lamp"], [120, 220])
    write_threshold_model(models / "parts", ["Shell", "Core"], [50, 100], region_from=rule, roi_mm=(20.0, 20.0, 20.0))
    voxels = np.zeros((20, 20, 20), np.float32)
    voxels[6:14, 6:14, 6:14] = 75
    voxels[8:12, 8:12, 8:12] = 250
    result = segmenter("parts", *words).segment([Volume(voxels, Geometry((20, 20, 20)), "corner")])
    found = [notice for notice in result.provenance["notices"] if "asked for" in notice]
    assert len(found) == len(notices) and all(map(str.startswith, found, notices))
    assert result.voxels.any()


def test_the_weights_of_a_run_are_those_that_it_needs(models: Path) -> None:
    card = find_card("house")
    names: Callable[..., list[str]] = lambda *words: [one.id for one in needed_models(card, words)]  # noqa: E731
    assert names() == ["things", "animals"] and names("Oven") == ["rough", "things"]
    assert names("Dog") == ["animals"] and [one.id for one in all_models(card)] == ["rough", "things", "animals"]


def test_a_region_of_the_user_needs_no_rough_model(models: Path) -> None:
    from LightSegLib.imaging.roi import RegionOfInterest

    volume, steps = house(), list[Progress]()
    region = RegionOfInterest.of_slices((slice(0, 12),) * 3, volume.geometry)
    result = segmenter("house", "Lamp").segment([volume], region, steps.append)
    assert ran(steps) == 1 and result.voxels.any()


def check_table(table: Path, result: Segmentation) -> None:
    (row,) = csv.DictReader(table.open(encoding="utf-8"))
    assert [name for name in row if name.endswith("(ml)")] == ["Cat (ml)"]
    assert float(row["Cat (ml)"]) == pytest.approx(result.volumes_ml()["Cat"], abs=1e-3)


@pytest.mark.slow
def test_command_line_and_batch_take_them(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import SimpleITK as sitk

    volume = house()
    cases, out = tmp_path / "cases", tmp_path / "out.seg.nrrd"
    cases.mkdir()
    sitk.WriteImage(to_sitk(volume.voxels, volume.geometry), str(cases / "house.nii.gz"))
    expected = segmenter("house", "Cat").segment([volume])
    model = ["--model", "house", "--device", "cpu", "--structures", "cat"]
    assert main(["segment", str(cases / "house.nii.gz"), *model, "--out", str(out)]) == 0
    assert np.array_equal(read_grid(out)[0], expected.voxels)
    assert "Cat" in capsys.readouterr().out
    assert main(["reproduce", str(out), str(cases / "house.nii.gz")]) == 0
    assert main(["batch", str(cases), *model, "--out", str(tmp_path / "all"), "--workers", "1"]) == 0
    check_table(tmp_path / "all" / "results.csv", expected)
    wrong = [*model[:-1], "catt", "--out", str(tmp_path / "none")]
    assert main(["batch", str(cases), *wrong]) == 2
    assert "no structure 'catt'" in capsys.readouterr().err and not (tmp_path / "none").exists()
