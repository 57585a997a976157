"""The bundled model of the brain on real heads: found, left is left, and what is not a head is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from damaged_heads import damaged
from LightSegLib.catalog.lookup import find_card, template_path, weights_path
from LightSegLib.core.errors import NothingToAlignError
from LightSegLib.core.paths import resources_folder
from LightSegLib.imaging.readers import read_grid, read_volume
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.rendering.covers import find_covers
from LightSegLib.rendering.layers import list_layers

MODEL = "brain-mr-atlas-unet"
UNSURE = "The model is unsure of"
MIDDLE_OF_THE_SAMPLE = np.array([0.0, 20.0, 10.0])  # of its brain, LPS mm


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(find_card(MODEL), InferenceOptions(device="cpu"))


def center(result: Segmentation, name: str) -> np.ndarray:
    """The position of a label, LPS mm."""
    value = next(label.value for label in result.labels if label.name == name)
    k, j, i = np.argwhere(result.voxels == value).mean(axis=0)
    return (result.geometry.index_to_world @ [i, j, k, 1])[:3]


def check_anatomy(result: Segmentation) -> None:
    """What holds in every adult head, in the world."""
    for name in ("hippocampus", "thalamus", "putamen", "cerebral cortex", "cerebellar cortex"):
        left, right = center(result, f"Left {name}"), center(result, f"Right {name}")
        assert left[0] - right[0] > 15, name  # L is +x
        assert abs(left[2] - right[2]) < 12, name
    assert center(result, "Brain stem")[2] < center(result, "Third ventricle")[2]
    assert center(result, "Fourth ventricle")[1] > center(result, "Third ventricle")[1]  # P is +y
    ml = result.volumes_ml()
    assert 700 < ml["Brain without ventricles"] < 1800
    assert 0.75 < ml["Left hippocampus"] / ml["Right hippocampus"] < 1.33
    assert ml["Hippocampi"] == pytest.approx(ml["Left hippocampus"] + ml["Right hippocampus"])


def test_the_card_keeps_its_promises() -> None:
    card = find_card(MODEL)
    assert "preview quality" in card.title
    assert len(card.labels) == 32
    assert all(label.terminology is not None for label in card.labels)
    template = template_path(card)
    assert template is not None
    assert weights_path(card).stat().st_size + template.stat().st_size <= 4_000_000


def test_the_bundled_head_is_found_and_left_is_left(segmenter: Segmenter) -> None:
    volume = read_volume(resources_folder() / "SampleData" / "icbm152_t1_1mm.nii.gz")
    result = segmenter.segment([volume])
    assert result.geometry == volume.geometry
    check_anatomy(result)
    assert list(result.expected_dice) == [label.name for label in result.labels]
    assert min(result.expected_dice.values()) > 0.3 and max(result.expected_dice.values()) < 1
    assert not any(UNSURE in notice for notice in result.provenance["notices"])
    covers = [entry.name for entry in find_covers(list_layers([result]))]
    assert covers == ["Cerebral white matter", "Cerebral cortex", "Cerebrospinal fluid"]  # of its picture in 3D


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dark ball", "strong noise", "half missing"])
def test_a_damaged_image_is_refused_or_gets_a_warning(segmenter: Segmenter, form: str) -> None:
    volume = read_volume(resources_folder() / "SampleData" / "icbm152_t1_1mm.nii.gz")
    spoiled = dict(damaged(volume, MIDDLE_OF_THE_SAMPLE))[form]
    try:
        result = segmenter.segment([spoiled])
    except NothingToAlignError:
        return
    assert any(UNSURE in notice for notice in result.provenance["notices"])


@pytest.mark.slow
@pytest.mark.parametrize("head", ["head_a_t1", "head_b_t1", "ms_t1", "ms_t2", "stroke_t1_stripped_oblique"])
def test_a_good_image_gets_no_warning(segmenter: Segmenter, head: str, shared_data: Path) -> None:
    result = segmenter.segment([read_volume(shared_data / "heads" / f"{head}.nii.gz")])
    assert not any(UNSURE in notice for notice in result.provenance["notices"])


@pytest.mark.slow
def test_a_head_agrees_with_another_model(segmenter: Segmenter, shared_data: Path) -> None:
    result = segmenter.segment([read_volume(shared_data / "heads" / "head_b_t1.nii.gz")])
    check_anatomy(result)
    expected = shared_data.parent / "models" / "expected"
    if not expected.is_dir():
        pytest.skip("the real volumes are not on this machine (the labels of MeshNet)")
    theirs, _ = read_grid(expected / "brain-structures-meshnet__head_b.nii.gz")
    for names, number, least in (
        (("Left thalamus", "Right thalamus"), 7, 0.75),
        (("Left putamen", "Right putamen"), 9, 0.75),
        (("Brain stem",), 13, 0.8),
        (("Left hippocampus", "Right hippocampus"), 14, 0.65),
    ):
        ours = np.isin(result.voxels, [label.value for label in result.labels if label.name in names])
        assert 2 * (ours & (theirs == number)).sum() / (ours.sum() + (theirs == number).sum()) > least, names


@pytest.mark.slow
@pytest.mark.parametrize("order", ["RAI", "ASL", "LIP"])
def test_the_order_of_the_axes_changes_nothing(segmenter: Segmenter, order: str, shared_data: Path) -> None:
    result = segmenter.segment([read_volume(shared_data / "other" / "orientations" / f"{order}.nii.gz")])
    check_anatomy(result)


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        "ct/ct_abdomen_3mm.nii.gz",
        "mr_body_small.nii.gz",
        "other/cord_t2star_oblique_thick.nii.gz",
        "other/cord_4d.nii.gz",
        "hippocampus/images/hippocampus_001.nii.gz",
    ],
)
def test_what_is_not_a_head_is_refused(segmenter: Segmenter, file: str, shared_data: Path) -> None:
    with pytest.raises(NothingToAlignError, match="No head was found"):
        segmenter.segment([read_volume(shared_data / file, frame=1 if "4d" in file else None)])
