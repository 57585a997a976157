"""However an image is stored, a network sees it in the directions that its card states, and the result comes back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog.card import Inference, Normalization, Preprocessing
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.paths import resources_folder
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.processing.orientation import orientation_steps, oriented, turned
from LightSegLib.inference.processing.preprocess import prepare
from LightSegLib.inference.segmenter import Segmenter

HIPPOCAMPUS = "hippocampus-mr-lightmedseg"
OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)  # 16 degrees about the third axis
LETTERS = [
    "".join(letters) for axes in itertools.permutations(("RL", "AP", "SI")) for letters in itertools.product(*axes)
]
STEPS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in range(4))
]
Step = tuple[tuple[int, int, int], tuple[int, ...]]


def raw(orientation: str, transpose: tuple[int, int, int] = (0, 1, 2)) -> Preprocessing:
    return Preprocessing(orientation, normalization=(Normalization("none"),), transpose=transpose)


@pytest.fixture
def volume() -> Volume:
    voxels = np.random.default_rng(4).normal(size=(5, 6, 7)).astype(np.float32)
    return Volume(voxels, Geometry((5, 6, 7), (1.0, 2.0, 3.0), (10.0, -20.0, 30.0), OBLIQUE))


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(find_card(HIPPOCAMPUS), InferenceOptions(device="cpu", precision="float32"))


@pytest.fixture(scope="module")
def around_a_hippocampus() -> Volume:
    """A box cut out of the bundled head, on an oblique grid."""
    head = read_volume(resources_folder() / "SampleData" / "icbm152_t1_1mm.nii.gz")
    part = RegionOfInterest.from_ras(12, -45, -32, 44, 2, 4).slices(head.geometry)
    voxels = np.ascontiguousarray(head.voxels[part])
    k, j, i = voxels.shape
    return Volume(voxels, Geometry((k, j, i), origin=(3.0, 4.0, 5.0), direction=OBLIQUE))


def test_there_are_48_orders_and_a_turned_voxel_stays_at_its_place(volume: Volume) -> None:
    assert len(set(STEPS)) == 48
    index = np.argwhere(np.ones(volume.voxels.shape))
    for order, flips in STEPS:
        other = turned(volume, order, flips)
        for k, j, i in index[:: len(index) // 10]:
            world = volume.geometry.index_to_world @ [i, j, k, 1]
            x, y, z = np.rint((np.linalg.inv(other.geometry.index_to_world) @ world)[:3]).astype(int)
            assert np.allclose(other.geometry.index_to_world @ [x, y, z, 1], world)
            assert other.voxels[z, y, x] == volume.voxels[k, j, i]


@pytest.mark.parametrize("orientation", ["LPS", "PIR", "SAL"])
@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_the_network_sees_the_same_whatever_the_order(
    volume: Volume, orientation: str, transpose: tuple[int, int, int]
) -> None:
    """The order of the axes within the network, as nnU-Net plans it, follows the orientation."""
    steps = raw(orientation, transpose)
    seen = prepare([volume], steps)
    for order, flips in STEPS:
        other = prepare([turned(volume, order, flips)], steps)
        np.testing.assert_array_equal(other.array, seen.array)
        assert other.spacing == pytest.approx(seen.spacing)
        full, part = other.blank(np.float32)
        part[...] = other.array[0]
        np.testing.assert_array_equal(full, oriented(volume.voxels, order, flips))
    np.testing.assert_array_equal(prepare([volume], raw("LPS")).array[0], volume.voxels)
    transposed = prepare([volume], raw("input", transpose)).array[0]
    np.testing.assert_array_equal(prepare([volume], raw("LPS", transpose)).array[0], transposed)


def check_same(segmenter: Segmenter, volume: Volume, orders: list[Step]) -> None:
    expected = segmenter.segment([volume])
    assert len(np.unique(expected.voxels)) == 3
    for order, flips in orders:
        stored = turned(volume, order, flips)
        found = segmenter.segment([stored])
        assert found.geometry == stored.geometry
        assert np.array_equal(found.voxels, oriented(expected.voxels, order, flips)), (order, flips)


def test_a_bundled_model_finds_the_same_in_some_orders(segmenter: Segmenter, around_a_hippocampus: Volume) -> None:
    check_same(segmenter, around_a_hippocampus, STEPS[3::13])


@pytest.mark.slow
def test_a_bundled_model_finds_the_same_in_all_orders(segmenter: Segmenter, around_a_hippocampus: Volume) -> None:
    check_same(segmenter, around_a_hippocampus, STEPS)


def in_lps(result: Segmentation) -> Volume:
    return turned(Volume(result.voxels, result.geometry), *orientation_steps(result.geometry, "LPS"))


@pytest.mark.slow
def test_one_head_stored_in_48_orders(segmenter: Segmenter, shared_data: Path) -> None:
    box = RegionOfInterest.from_ras(10, -45, -35, 46, 5, 5)
    results = {}
    for letters in LETTERS:
        volume = read_volume(shared_data / "other" / "orientations" / f"{letters}.nii.gz")
        results[letters] = in_lps(segmenter.segment([volume], box))
    assert len(results) == 48
    expected = results["LPS"]
    assert np.count_nonzero(expected.voxels) > 50
    for letters, found in results.items():
        assert found.geometry.matches(expected.geometry), letters
        assert np.array_equal(found.voxels, expected.voxels), letters


@pytest.mark.slow
def test_the_brain_model_finds_the_same_in_other_orders(shared_data: Path) -> None:
    """Its images are turned, too, before a template is registered to them."""
    segmenter = Segmenter(find_card("brain-mr-atlas-unet"), InferenceOptions(device="cpu", precision="float32"))
    head = read_volume(shared_data / "other" / "orientations" / "LPS.nii.gz")
    expected = segmenter.segment([head]).voxels
    for order, flips in STEPS[7::33]:
        found = segmenter.segment([turned(head, order, flips)]).voxels
        assert np.array_equal(found, oriented(expected, order, flips)), (order, flips)


def test_the_option_replaces_the_orientation_of_the_model(
    threshold_segmenter: Callable[..., Segmenter], volume: Volume
) -> None:
    sagittal = turned(volume, (2, 0, 1), (1,))
    segmenter = threshold_segmenter(raw("input"), Inference((8, 8, 8)))
    notice = segmenter.segment([sagittal]).provenance["notices"][0]
    assert "not stored as axial slices" in notice and "--orientation LAS or RAS, as the training images" in notice
    segmenter.options = replace(segmenter.options, orientation="LPS")
    found = segmenter.segment([sagittal])
    assert found.provenance["notices"] == []
    assert found.provenance["settings"]["orientation"] == "LPS"
    assert found.geometry == sagittal.geometry
    upright = segmenter.segment([volume])
    assert np.array_equal(found.voxels, oriented(upright.voxels, (2, 0, 1), (1,)))


def test_an_image_that_is_stored_the_other_way_round_gets_a_notice(
    threshold_segmenter: Callable[..., Segmenter], volume: Volume
) -> None:
    """As a DICOM series and its NIfTI file from dcm2niix are, for a model that knows one of the two."""

    def notices(stored: str, rules: Inference, steps: Preprocessing) -> list[str]:
        image = turned(volume, *orientation_steps(volume.geometry, stored))
        return threshold_segmenter(steps, rules).segment([image]).provenance["notices"]

    one_way = Inference((8, 8, 8))
    assert notices("LAS", one_way, raw("input")) == notices("LPS", one_way, raw("LAS")) == []
    for stored in ("LPS", "RAS", "LAI", "RPI"):
        (notice,) = notices(stored, one_way, raw("input"))
        assert f"in the directions {stored}, and this model uses images as they are stored" in notice
        assert notice.endswith("; 'lightseg import --orientation' states it for every image.")
        first_alone = "Both directions of the first axis are common, so the training images decide"
        either = "trained on NIfTI files with the directions LAS or RAS: the option --orientation with those of"
        assert (first_alone if stored == "RAS" else either) in notice
        assert notices(stored, Inference((8, 8, 8), mirror_axes=(0, 1, 2)), raw("input")) == []
    # the axes of the patch, of which the last is here the image's j
    in_rows = Inference((8, 8, 8), mirror_axes=(2,))
    assert notices("LPS", in_rows, raw("input", (0, 2, 1))) == []
    assert len(notices("LPS", in_rows, raw("input"))) == 1
    (notice,) = notices("RPS", in_rows, raw("input", (0, 2, 1)))
    assert "Both directions of the first axis are common" in notice


def test_a_result_shows_how_its_volumes_were_read(
    threshold_segmenter: Callable[..., Segmenter], volume: Volume
) -> None:
    segmenter = threshold_segmenter(raw("LPS"), Inference((8, 8, 8)))
    assert "reading" not in segmenter.segment([volume]).provenance
    read = replace(volume, notices=("It was interpolated.",), reading={"matrix": "sform"})
    provenance = segmenter.segment([read]).provenance
    assert provenance["notices"] == ["It was interpolated."]
    assert provenance["reading"] == [{"matrix": "sform"}]
