"""A model of a small region in a whole image: another model's labels show the place, on both sides."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from http_server import PROXY_VARIABLES, Answer, Server
from LightSegLib.catalog.card import Preprocessing, RegionFrom, Source, Step, Weights
from LightSegLib.catalog.lookup import find_card
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError, ModelError
from LightSegLib.core.file_hash import sha256
from LightSegLib.core.progress import Progress
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.readers import read_grid, read_volume
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.statistics import structure_statistics
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.inference.finding import coarsened
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.processing.orientation import turned
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.weights.store import WeightStore
from threshold_models import UNCHANGED, write_threshold_model

LAMPS = {"left": (24.0, -8.0, 5.0), "right": (-21.0, 6.0, -7.0)}  # LPS mm
BRIGHT = {"left": 300.0, "right": 200.0}
CORE_MM, SHELL_MM, SPACING = 5.0, 9.0, 3.0
SHAPE = (30, 32, 34)
RULE = RegionFrom("lamps", (1, 2), 6.0, by_side=True)


@pytest.fixture
def models(user_models: Path) -> Path:
    """The user's models: one that finds lamps by their light, and one for the neighborhood of a lamp."""
    coarse = Preprocessing(spacing=(6.0, 6.0, 6.0), normalization=(UNCHANGED,))
    write_threshold_model(user_models / "lamps", ["Right lamp", "Left lamp"], [140, 250], preprocessing=coarse)
    near = {"roi_mm": (24.0, 24.0, 24.0), "region_from": RULE}
    write_threshold_model(user_models / "lamp-parts", ["Shell", "Core"], [100, 150], **near)
    return user_models


def picture(lit: tuple[str, ...] = ("left", "right")) -> Volume:
    """Two lamps, each a bright core in a shell, in a dim room with a bar as bright as a shell far from both."""
    matrix = np.diag([SPACING] * 3 + [1.0])
    matrix[:3, 3] = [-(length - 1) / 2 * SPACING for length in SHAPE[::-1]]
    voxels = np.full(SHAPE, 20, np.float32)
    voxels[1:4] = 120
    places = world(Geometry.from_index_to_world(matrix, SHAPE))
    for side in lit:
        away = np.linalg.norm(places - LAMPS[side], axis=-1)
        voxels[away < SHELL_MM] = 120
        voxels[away < CORE_MM] = BRIGHT[side]
    return Volume(voxels, Geometry.from_index_to_world(matrix, SHAPE), "room")


def world(geometry: Geometry) -> np.ndarray:
    """LPS mm of every voxel, [k, j, i, 3]."""
    k, j, i = np.indices(geometry.shape)
    return (np.stack([i, j, k, np.ones_like(i)], -1) @ geometry.index_to_world.T)[..., :3]


def check_lamps(result: Segmentation, volume: Volume, lit: tuple[str, ...] = ("left", "right")) -> None:
    """Every core and shell that should be there is, under its name, and nothing else is."""
    values = {label.name: label.value for label in result.labels}
    expected = np.zeros(result.voxels.shape, int)
    for side in lit:
        away = np.linalg.norm(world(volume.geometry) - LAMPS[side], axis=-1)
        expected[away < SHELL_MM] = values[f"{side.capitalize()} shell"]
        expected[away < CORE_MM] = values[f"{side.capitalize()} core"]
    assert np.array_equal(result.voxels, expected)


def segmenter(folder: Path, model: str = "lamp-parts") -> Segmenter:
    return Segmenter(find_card(str(folder / model)), InferenceOptions(device="cpu"))


@pytest.mark.slow
def test_both_sides_are_found_and_named_whatever_the_order_of_the_axes(models: Path) -> None:
    volume, made = picture(), segmenter(models)
    for order in itertools.permutations(range(3)):
        for flips in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
            stored = turned(volume, order, flips)
            result = made.segment([stored])
            assert result.geometry == stored.geometry
            check_lamps(result, stored)


def test_the_record_says_what_found_the_places(models: Path) -> None:
    result = segmenter(models).segment([picture()])
    assert [label.name for label in result.labels] == ["Left shell", "Left core", "Right shell", "Right core"]
    assert [label.value for label in result.labels] == [3, 4, 5, 6]  # 1 and 2 are those of no side
    facts = result.provenance
    assert facts["model"] == "lamp-parts" and facts["notices"] == [] and facts["settings"]["roi_lps"] is None
    assert facts["region_from"]["model"] == "lamps" and facts["region_from"]["citation"] == "lamps."
    for side, center in LAMPS.items():
        corners = np.array(facts["region_from"]["rois_lps"][side])
        assert (corners.min(0) < np.array(center) - CORE_MM).all() and (corners.max(0) > center).all()


def test_confidence_comes_from_where_the_model_looked(models: Path) -> None:
    made = segmenter(models)
    made.options = InferenceOptions(device="cpu", confidence=True)
    result = made.segment([picture()])
    assert result.confidence is not None and result.confidence[result.voxels > 0].min() > 50
    assert result.confidence[2].max() == 0  # the bar was never looked at
    assert result.provenance["low_confidence_slices"]


def test_a_region_limits_what_is_found(models: Path) -> None:
    volume = picture()
    half = RegionOfInterest.from_ras(-60, -60, -60, 0, 60, 60)  # RAS: the left half of the patient
    result = segmenter(models).segment([volume], roi=half)
    check_lamps(result, volume, ("left",))
    assert result.provenance["notices"] == []
    nowhere = segmenter(models).segment([volume], roi=RegionOfInterest.from_ras(-60, -60, 30, 60, 60, 60))
    assert not nowhere.voxels.any()
    assert "found nothing to segment" in nowhere.provenance["notices"][-1]


def test_what_the_box_of_a_finder_or_a_region_cuts_is_stated(models: Path) -> None:
    """The boxes around the lamps end where the shells do."""

    def cut(result: Segmentation) -> dict[str, bool]:
        return {row.name: row.cut_off for row in structure_statistics(result, {}) if row.volume_ml}

    found = cut(segmenter(models).segment([picture()]))
    assert found == {"Left shell": True, "Left core": False, "Right shell": True, "Right core": False}
    x, y, z = LAMPS["left"]
    half = itertools.product((x - 30, x), (y - 30, y + 30), (z - 30, z + 30))
    through = segmenter(models).segment([picture()], roi=RegionOfInterest(np.array(list(half))))
    assert cut(through) == {"Left shell": True, "Left core": True}


def test_a_region_around_the_structure_needs_no_finder(models: Path) -> None:
    (models / "lamps" / "model.json").unlink()
    right = RegionOfInterest.from_ras(8, -20, -20, 34, 8, 6)
    result = segmenter(models).segment([picture()], roi=right)
    assert [label.name for label in result.labels] == ["Shell", "Core"] and result.voxels.any()


def test_a_side_that_is_not_there_is_said(models: Path) -> None:
    volume = picture(("right",))
    result = segmenter(models).segment([volume])
    check_lamps(result, volume, ("right",))
    assert result.provenance["notices"] == ["Lamps found no Left lamp, so there is no result for it."]


def test_a_part_that_is_missing_on_one_side_is_reported(models: Path) -> None:
    """A lamp with a shell too dim, as a hippocampus of which a model for T1 finds one part alone in a T2 image."""
    volume = picture(("right",))
    volume.voxels[volume.voxels == 120] = 99
    (notice,) = segmenter(models).segment([volume]).provenance["notices"][1:]  # the first is about the left lamp
    assert notice == (
        "No Shell was found on the right, where Lamps found its place. "
        "Check whether the image is of the kind that the model was made for."
    )


def test_a_part_that_a_region_cuts_off_is_not_missed(models: Path) -> None:
    """The user asked for the outer half of the shells."""
    volume = picture()
    inside = world(volume.geometry)[..., 0] > LAMPS["left"][0] + CORE_MM
    slices = tuple(slice(int(used[0]), int(used[-1]) + 1) for used in (np.unique(axis) for axis in inside.nonzero()))
    roi = RegionOfInterest.of_slices(slices, volume.geometry)  # type: ignore[arg-type]
    result = segmenter(models).segment([volume], roi)
    assert result.voxels.any() and not any("Core" in notice for notice in result.provenance["notices"])


def test_where_nothing_is_found_the_result_is_empty_with_a_sentence(models: Path) -> None:
    result = segmenter(models).segment([picture(())])
    assert not result.voxels.any() and len(result.labels) == 4
    assert len(result.provenance["notices"]) == 3
    assert "found nothing to segment" in result.provenance["notices"][-1]
    assert result.provenance["model"] == "lamp-parts" and result.provenance["computed_in"]


def test_a_ct_is_refused_by_a_model_for_mr(models: Path) -> None:
    volume = picture()
    stated = dataclasses.replace(volume, reading={"modality": "CT"})
    for image in (stated, dataclasses.replace(volume, voxels=volume.voxels - 1000)):
        with pytest.raises(InputError, match=r"room is a CT .* set a region of interest around"):
            segmenter(models).segment([image])


def test_one_box_around_several_labels(models: Path) -> None:
    """Without sides there is one box and the model's own labels; without a size it always looks there."""
    rule = dataclasses.replace(RULE, by_side=False)
    write_threshold_model(models / "both", ["Shell", "Core"], [100, 150], region_from=rule)
    result = segmenter(models, "both").segment([picture()])
    assert [label.value for label in result.labels] == [1, 2]
    away = [np.linalg.norm(world(result.geometry) - center, axis=-1) for center in LAMPS.values()]
    assert np.array_equal(result.voxels == 2, np.minimum(*away) < CORE_MM)
    assert not result.voxels[1:4].any()  # the bar


def test_what_is_away_from_an_organ_of_the_finder_is_removed(models: Path) -> None:
    """The left lamp is the organ; the finder's voxels have 6 mm."""
    rule = dataclasses.replace(RULE, by_side=False)
    near = Step("keep_within", reference=(2,), distance_mm=18.0, grid="image")
    write_threshold_model(models / "near", ["Shell", "Core"], [100, 150], region_from=rule, postprocessing=(near,))
    result = segmenter(models, "near").segment([picture()])
    away = np.linalg.norm(world(result.geometry) - LAMPS["left"], axis=-1)
    assert np.array_equal(result.voxels > 0, away < SHELL_MM)
    assert [step["step"] for step in result.provenance["postprocessing"]] == ["keep_within"]

    whole = RegionOfInterest.from_ras(-60, -60, -60, 60, 60, 60)
    result = segmenter(models, "near").segment([picture()], roi=whole)
    assert (result.voxels[away > 2 * SHELL_MM] > 0).any()
    assert any("only without a region of interest" in notice for notice in result.provenance["notices"])


def test_without_region_and_finder_it_refuses_before_it_reads_any_weights(models: Path) -> None:
    card = write_threshold_model(models / "blind", ["Shell"], [100], roi_mm=(24.0, 24.0, 24.0))
    (models / "blind" / card.weights.file).unlink()
    with pytest.raises(InputError, match=r"region of 24 x 24 x 24 mm.* Set a region of interest around the structure"):
        segmenter(models, "blind").segment([picture()])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "torches"}, "with the model 'torches', which is not on this computer"),
        ({"labels": (1, 9)}, "with label 9 of the model 'lamps'"),
        ({"model": "lamp-parts"}, "need each other in a circle: 'lamp-parts' needs 'lamp-parts'"),
        ({"model": "blind"}, "which needs a region of interest itself"),
    ],
)
def test_a_finder_that_cannot_find_is_named(models: Path, change: dict[str, object], words: str) -> None:
    write_threshold_model(models / "blind", ["Right lamp", "Left lamp"], [140, 250], roi_mm=(24.0, 24.0, 24.0))
    card = dataclasses.replace(find_card("lamp-parts"), region_from=dataclasses.replace(RULE, **change))
    with pytest.raises(ModelError, match=words):
        Segmenter(card, InferenceOptions(device="cpu")).segment([picture()])


def test_a_finder_that_is_not_on_this_computer_is_downloaded(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXY_VARIABLES, "LIGHTSEG_MIRROR", "LIGHTSEG_OFFLINE", "LIGHTSEG_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    file = models / "lamps" / "weights.pt"
    content, digest = file.read_bytes(), sha256(file)
    steps: list[Progress] = []
    with Server() as server:
        server.answers["/lamps"] = Answer(content)
        source = Source("url", url=f"{server.url}/lamps")
        weights = Weights("lamps.pt", len(content), digest, sources=(source,))
        write_threshold_model(models / "far-lamps", ["Right lamp", "Left lamp"], [140, 250], weights=weights)
        card = dataclasses.replace(find_card("lamp-parts"), region_from=dataclasses.replace(RULE, model="far-lamps"))
        volume = picture()
        result = Segmenter(card, InferenceOptions(device="cpu")).segment([volume], progress=steps.append)
    check_lamps(result, volume)
    assert WeightStore().state(find_card("far-lamps")) == "downloaded"
    assert any(step.received == len(content) and "Finding the place" in step.step for step in steps)


@pytest.mark.slow
def test_command_line_and_batch_find_it_too(models: Path, tmp_path: Path) -> None:
    import SimpleITK as sitk

    volume = picture()
    cases = tmp_path / "cases"
    cases.mkdir()
    image = cases / "room.nii.gz"
    sitk.WriteImage(to_sitk(volume.voxels, volume.geometry), str(image))
    out = tmp_path / "result.nii.gz"
    model = ["--model", "lamp-parts", "--device", "cpu"]
    assert main(["segment", str(image), *model, "--out", str(out)]) == 0
    expected = segmenter(models).segment([read_volume(image)])
    assert np.array_equal(read_grid(out)[0], expected.voxels)
    assert main(["batch", str(cases), *model, "--out", str(tmp_path / "all"), "--workers", "1"]) == 0
    (row,) = csv.DictReader((tmp_path / "all" / "results.csv").open(encoding="utf-8"))
    ml = expected.volumes_ml()
    assert [name for name in row if name.endswith("(ml)")] == [f"{name} (ml)" for name in ml]
    assert float(row["Left core (ml)"]) == pytest.approx(ml["Left core"], abs=0.01)


def test_a_coarse_copy_has_the_means_at_the_right_places() -> None:
    turn = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    geometry = Geometry((6, 5, 8), (1.0, 2.0, 0.9), (10.0, -20.0, 30.0), turn)
    voxels = np.random.default_rng(0).normal(size=geometry.shape)
    coarse = coarsened(Volume(voxels, geometry), 2.0)
    assert coarse.voxels.shape == coarse.geometry.shape == (3, 5, 4)
    assert coarse.voxels[1, 2, 3] == pytest.approx(voxels[2:4, 2, 6:8].mean(), abs=1e-6)
    assert np.allclose(world(coarse.geometry)[1, 2, 3], world(geometry)[2:4, 2, 6:8].mean((0, 1)))
    assert coarsened(Volume(voxels, geometry), None).voxels is voxels
