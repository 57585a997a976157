"""The hippocampus models that ship: what their cards promise, on the sample and, where present, on real cases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from LightSegLib.catalog.card import Card
from LightSegLib.catalog.lookup import find_card, weights_path
from LightSegLib.core.errors import InputError, NothingToAlignError
from LightSegLib.core.paths import resources_folder
from LightSegLib.evaluation.metrics import dice
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.readers import read_grid, read_volume
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.processing.orientation import oriented, turned
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.training.dataset import read_dataset
from scipy import ndimage

SAMPLE = resources_folder() / "SampleData"


def value_of(result: Segmentation, name: str) -> int:
    return next(label.value for label in result.labels if label.name == name)


LEAST_DICE = {"hippocampus-mr-lightmedseg": 0.875, "hippocampus-mr-unet": 0.88}  # on cases that were not trained on


@pytest.fixture(scope="module", params=[*LEAST_DICE])
def card(request: pytest.FixtureRequest) -> Card:
    return find_card(request.param)


@pytest.fixture(scope="module")
def unet() -> Card:
    """For what both models have in common."""
    return find_card("hippocampus-mr-unet")


@pytest.fixture(scope="module")
def both_sides(card: Card) -> dict[str, Segmentation]:
    """The sample's hippocampi, by side."""
    volume = read_volume(SAMPLE / "icbm152_t1_1mm.nii.gz")
    rois = json.loads((SAMPLE / "icbm152_rois.json").read_text(encoding="utf-8"))["rois"]
    segmenter = Segmenter(card, InferenceOptions(device="cpu", precision="float32"))
    return {
        roi["side"]: segmenter.segment([volume], roi=RegionOfInterest.from_ras(*roi["corners"][0], *roi["corners"][1]))
        for roi in rois
    }


def test_the_weights_are_small_half_precision_and_as_described(card: Card) -> None:
    path = weights_path(card)
    assert path.stat().st_size == card.weights.size <= 1_200_000
    assert {tensor.dtype for tensor in torch.load(path, weights_only=True).values()} == {torch.float16}
    assert "CC-BY-SA" in card.license and "Decathlon" in card.citation


def test_both_hippocampi_of_the_sample_are_plausible(both_sides: dict[str, Segmentation]) -> None:
    """2 to 5 ml in one piece on either side; the template is symmetric, so both must agree."""
    volumes = {side: sum(result.volumes_ml().values()) for side, result in both_sides.items()}
    assert all(2 < ml < 5 for ml in volumes.values()), volumes
    assert all(ndimage.label(result.voxels)[1] == 1 for result in both_sides.values())
    assert volumes["left"] == pytest.approx(volumes["right"], rel=0.05)


def test_the_anterior_part_is_in_front_of_and_below_the_posterior_one(both_sides: dict[str, Segmentation]) -> None:
    for side, result in both_sides.items():
        to_world = result.geometry.index_to_world
        anterior, posterior = (
            (np.argwhere(result.voxels == value)[:, ::-1].mean(axis=0) @ to_world[:3, :3].T + to_world[:3, 3])
            for value in (1, 2)
        )
        assert anterior[1] < posterior[1] - 10  # LPS: forward is toward smaller y
        assert anterior[2] < posterior[2] - 3
        assert anterior[0] * (1 if side == "left" else -1) > 15  # and left toward larger x


@pytest.mark.slow
def test_in_the_whole_sample_it_finds_both_sides_by_itself(card: Card, both_sides: dict[str, Segmentation]) -> None:
    volume = read_volume(SAMPLE / "icbm152_t1_1mm.nii.gz")
    result = Segmenter(card, InferenceOptions(device="cpu", precision="float32")).segment([volume])
    assert result.geometry == volume.geometry and result.provenance["notices"] == []
    for side, alone in both_sides.items():
        for part in ("anterior", "posterior"):
            found = result.voxels == value_of(result, f"{side.capitalize()} {part} hippocampus")
            assert dice(found, alone.voxels == value_of(alone, f"{part.capitalize()} hippocampus")) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("head", ["head_a", "head_b"])
def test_in_a_whole_head_it_agrees_with_another_program(card: Card, head: str, shared_data: Path) -> None:
    expected = shared_data.parent / "models" / "expected"
    if not expected.is_dir():
        pytest.skip("the real volumes are not on this machine (the masks of hippodeep)")
    volume = read_volume(shared_data / "heads" / f"{head}_t1.nii.gz")
    result = Segmenter(card, InferenceOptions(device="cpu")).segment([volume])
    for side in ("Left", "Right"):
        mask = read_grid(expected / f"hippodeep_{side[0]}__{head}.nii.gz")[0] > 0
        ours = np.isin(result.voxels, [label.value for label in result.labels if label.name.startswith(side)])
        assert dice(ours, mask) >= 0.8, side
        box = RegionOfInterest(np.array(result.provenance["region_from"]["rois_lps"][side.lower()])).slices(
            volume.geometry
        )
        assert mask[box].sum() == mask.sum(), side


@pytest.mark.slow
def test_the_order_of_the_axes_changes_nothing_in_a_whole_head(unet: Card, shared_data: Path) -> None:
    segmenter = Segmenter(unet, InferenceOptions(device="cpu"))
    volume = read_volume(shared_data / "heads" / "head_b_t1.nii.gz")
    expected = segmenter.segment([volume]).voxels
    for order, flips in (((2, 0, 1), (0,)), ((1, 0, 2), ()), ((0, 2, 1), (0, 1, 2))):
        found = segmenter.segment([turned(volume, order, flips)]).voxels
        assert np.array_equal(found, oriented(expected, order, flips))


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        "ct/ct_abdomen_3mm.nii.gz",
        "mr_body_small.nii.gz",
        "dicom/ct_head_small",
        "dicom/ct_head_tilted_uneven",
        "other/ct_sheared_affine.nii.gz",
        "other/cord_4d.nii.gz",
    ],
)
def test_it_refuses_what_is_no_head_in_mri(unet: Card, file: str, shared_data: Path) -> None:
    segmenter = Segmenter(unet, InferenceOptions(device="cpu"))
    with pytest.raises(InputError, match=r"(No head was found|is a CT) .* set a region of interest around"):
        segmenter.segment([read_volume(shared_data / file, frame=1 if "4d" in file else None)])


def test_another_scanner_s_intensities_give_nearly_the_same_result(
    card: Card, both_sides: dict[str, Segmentation]
) -> None:
    """Other units, another contrast curve, and a receive coil that sees the front brighter than the back."""
    volume = read_volume(SAMPLE / "icbm152_t1_1mm.nii.gz")
    coil = np.linspace(0.7, 1.3, volume.voxels.shape[1])[None, :, None]
    other = 57 * coil * (volume.voxels / 255.0) ** 1.3 + 900
    rois = json.loads((SAMPLE / "icbm152_rois.json").read_text(encoding="utf-8"))["rois"]
    left = next(roi["corners"] for roi in rois if roi["side"] == "left")
    result = Segmenter(card, InferenceOptions(device="cpu", precision="float32")).segment(
        [Volume(other.astype(np.float32), volume.geometry)], roi=RegionOfInterest.from_ras(*left[0], *left[1])
    )
    assert dice(result.voxels > 0, both_sides["left"].voxels > 0) > 0.93


def test_what_is_larger_and_shows_no_head_is_refused(card: Card, both_sides: dict[str, Segmentation]) -> None:
    small = Volume(np.random.default_rng(0).normal(size=(16, 6, 6)), Geometry((16, 6, 6), (8.0, 8.0, 8.0)))
    with pytest.raises(NothingToAlignError, match=r"No head was found .* set a region of interest around it"):
        Segmenter(card, InferenceOptions(device="cpu", precision="float32")).segment([small])
    assert both_sides["left"].provenance["notices"] == []


def test_a_region_that_is_too_large_is_named_as_such(unet: Card) -> None:
    """Someone draws a generous box in an image without a head: the advice is about that box, not to draw one."""
    small = Volume(np.random.default_rng(0).normal(size=(16, 6, 6)), Geometry((16, 6, 6), (8.0, 8.0, 8.0)), "knee")
    box = RegionOfInterest.of_slices((slice(0, 11), slice(0, 5), slice(0, 6)), small.geometry)
    alone = Segmenter(unet, InferenceOptions(device="cpu", precision="float32"))
    with pytest.raises(NothingToAlignError) as refused:
        alone.segment([small], roi=box)
    assert str(refused.value) == (
        f"The region of interest covers 48 x 40 x 88 mm of the image, but the model '{unet.title}' was made for one of "
        "35 x 50 x 40 mm and takes at most 70 x 100 x 80 mm, so it looked for its place in the whole image. "
        "No head was found in knee, or only a small part of one. "
        "If the structure is in the image, set a smaller region around it."
    )
    ct = replace(small, voxels=small.voxels - 1000)
    with pytest.raises(InputError, match=r"is a CT .* covers 48 x 40 x 88 mm .* at most 70 x 100 x 80 mm around"):
        alone.segment([ct], roi=box)


def test_a_region_that_is_too_small_gets_a_notice(card: Card, both_sides: dict[str, Segmentation]) -> None:
    """A box that was drawn in a hurry has a few slices of one direction alone."""
    alone = Segmenter(card, InferenceOptions(device="cpu", precision="float32"))
    volume = read_volume(SAMPLE / "icbm152_t1_1mm.nii.gz")
    for corners, seen in (
        ((10, -50, -20, 45, 0, -17), "36 x 51 x 4"),
        ((25, -50, -30, 30, 0, 10), "6 x 51 x 41"),
    ):
        box = RegionOfInterest.from_ras(*corners)
        notices = alone.segment([volume], roi=box).provenance["notices"]
        assert f"covers {seen} mm of the image, but this model was made for one of 35 x 50 x 40 mm" in notices[-1]
        assert "Set a larger region" in notices[-1]
    assert both_sides["right"].provenance["notices"] == []


def test_without_a_finder_a_region_that_is_too_large_gets_a_notice_and_an_image_is_refused(unet: Card) -> None:
    alone = Segmenter(replace(unet, region_from=None), InferenceOptions(device="cpu", precision="float32"))
    small = Volume(np.random.default_rng(0).normal(size=(16, 6, 6)), Geometry((16, 6, 6), (8.0, 8.0, 8.0)))
    with pytest.raises(InputError, match=r"35 x 50 x 40 mm.* Set a region of interest around the structure"):
        alone.segment([small])
    everything = RegionOfInterest.of_slices((slice(0, 16), slice(0, 6), slice(0, 6)), small.geometry)
    notices = alone.segment([small], roi=everything).provenance["notices"]
    assert "covers 48 x 48 x 128 mm of the image" in notices[-1] and "35 x 50 x 40 mm" in notices[-1]
    assert "Set a smaller region" in notices[-1]


@pytest.mark.slow
def test_real_cases_reach_the_quality_on_the_card(card: Card, shared_data: Path) -> None:
    """On cases that it was trained on, the model is no worse than its siblings on cases that they had not seen."""
    cases = {case.name: case for case in read_dataset(shared_data / "hippocampus").cases}
    segmenter = Segmenter(card, InferenceOptions(device="cpu", precision="float32"))
    scores = []
    for name in card.training["validation_cases"] or card.training["trained_on"][:30]:
        volumes, labels = cases[name].load()
        predicted = segmenter.segment(volumes).voxels
        scores += [dice(predicted == label.value, labels == label.value) for label in card.labels]
    assert np.mean(scores) >= card.performance["mean_dice"] >= LEAST_DICE[card.id]
    assert card.performance["mean_mirrored_dice"] >= LEAST_DICE[card.id]
