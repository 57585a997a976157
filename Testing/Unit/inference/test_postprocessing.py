"""Steps after the network: each beside an independent computation, then composed by a card, on the grid it names."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.catalog.card import Inference, Normalization, OuterResampling, Preprocessing, Step
from LightSegLib.catalog.card_file import STEPS
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.finishing import RUN, apply, on_grid
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.postprocessing import distance
from LightSegLib.inference.postprocessing.distance import dilate, keep_within
from LightSegLib.inference.postprocessing.pieces import keep_largest, remove_labels, remove_small
from LightSegLib.inference.postprocessing.vertebrae import number_vertebrae
from LightSegLib.inference.segmenter import Segmenter
from run_options import with_confidence

SHAPE = (13, 17, 15)
SPACING = (2.0, 0.75, 1.5)  # k, j, i
UNCHANGED = Preprocessing("RAS", normalization=(Normalization("none"),))
SIDEWAYS = (0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # i to the front, j to the feet, k to the left


@pytest.fixture
def crumbs() -> np.ndarray:
    """Three labels in many pieces."""
    noise = np.random.default_rng(3).integers(0, 9, SHAPE)
    return np.where(noise > 3, 0, noise).astype(np.uint8)


def pieces_by_sitk(mask: np.ndarray) -> np.ndarray:
    """Face-connected pieces, 1 for the largest."""
    image = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), False)
    return sitk.GetArrayFromImage(sitk.RelabelComponent(image))


# --- pieces ----------------------------------------------------------------------------------------


def test_only_the_largest_piece_stays_of_every_label_or_of_all_together() -> None:
    labels = np.zeros((5, 5, 9), np.uint8)
    labels[1:4, 1:4, 1:3], labels[1:4, 1:4, 3] = 1, 2
    labels[2, 2, 7] = 2  # away from everything
    labels[0, 2, 2] = 2  # away from the other voxels of label 2, but on label 1
    for together, removed in ((True, 1), (False, 2)):
        kept = labels.copy()
        keep_largest(kept, together=together)
        assert (kept != labels).sum() == removed and (kept[kept != labels] == 0).all()
    nothing = np.zeros_like(labels)
    keep_largest(nothing)
    assert not nothing.any()


def test_the_largest_piece_is_that_of_another_program(crumbs: np.ndarray) -> None:
    expected = crumbs.copy()
    expected[(crumbs == 2) & (pieces_by_sitk(crumbs == 2) != 1)] = 0
    assert np.bincount(pieces_by_sitk(crumbs == 2).ravel())[1:3].tolist() != [1, 1]
    keep_largest(crumbs, (2,))
    assert np.count_nonzero(crumbs != expected) == 0


@pytest.mark.parametrize("together", [False, True])
def test_pieces_up_to_a_volume_are_removed_and_larger_ones_stay(crumbs: np.ndarray, together: bool) -> None:
    voxel = float(np.prod(SPACING))
    expected = crumbs.copy()
    for values in ((1, 3),) if together else ((1,), (3,)):
        pieces = pieces_by_sitk(np.isin(crumbs, values))
        small = np.bincount(pieces.ravel()) <= 2
        expected[(pieces > 0) & small[pieces]] = 0
    assert 0 < np.count_nonzero(expected) < np.count_nonzero(crumbs)
    remove_small(crumbs, voxel, 2 * voxel, (1, 3), together)
    np.testing.assert_array_equal(crumbs, expected)


def test_labels_that_only_helped_the_network_are_removed(crumbs: np.ndarray) -> None:
    expected = np.where(crumbs == 2, 2, 0)
    remove_labels(crumbs, (1, 3, 7))
    np.testing.assert_array_equal(crumbs, expected)


# --- distances -------------------------------------------------------------------------------------


def offsets(reach: int) -> np.ndarray:
    return np.array(list(itertools.product(range(-reach, reach + 1), repeat=3)))


def shifted(mask: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """A mask moved by whole voxels; what leaves the array is lost."""
    wide = np.pad(mask, 5)
    return np.roll(wide, offset, (0, 1, 2))[5:-5, 5:-5, 5:-5]


@pytest.mark.parametrize("slab_voxels", [1, 1 << 22])
@pytest.mark.parametrize("mm", [0.5, 2.0, 3.1])
def test_labels_grow_by_millimeters_into_the_background_alone(
    mm: float, slab_voxels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distance, "SLAB_VOXELS", slab_voxels)
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:5, 4:8, 5:7], labels[3:6, 9, 5:7], labels[12, 16, 14] = 3, 1, 2
    near = [offset for offset in offsets(4) if np.linalg.norm(offset * SPACING) <= mm + 1e-9]
    expected = labels.copy()
    for value in (1, 2, 3):
        grown = np.any([shifted(labels == value, offset) for offset in near], axis=0)
        expected[grown & (expected == 0)] = value
    dilate(labels, SPACING, mm)
    np.testing.assert_array_equal(labels, expected)


def test_a_distance_of_whole_voxels_reaches_them_whatever_the_spacings_last_digit() -> None:
    for spacing in (1.5, float(np.float32(1.1)), np.nextafter(1.5, 2), np.nextafter(1.5, 1)):
        labels = np.zeros((7, 7, 7), np.uint8)
        labels[3, 3, 3] = 1
        dilate(labels, (spacing,) * 3, 2 * round(spacing, 3))
        assert labels[3, 3].tolist() == [0, 1, 1, 1, 1, 1, 0]
        assert labels.sum() == 33  # voxels in a ball of two


@pytest.mark.parametrize(("mm", "steps"), [(0.0, 0), (1.0, 0), (1.5, 1), (3.0, 2)])
def test_what_is_outside_a_grown_organ_is_removed(crumbs: np.ndarray, mm: float, steps: int) -> None:
    """The mean voxel size is 1.417 mm; a step goes across a face, so n of them reach a diamond."""
    organ = np.zeros(SHAPE, bool)
    organ[5:8, 6:8, 3:9] = True
    diamond = [offset for offset in offsets(2) if np.abs(offset).sum() <= steps]
    near = np.any([shifted(organ, offset) for offset in diamond], axis=0)
    expected = np.where((crumbs != 3) & ~near, 0, crumbs)
    keep_within(crumbs, organ, SPACING, mm, (1, 2))
    np.testing.assert_array_equal(crumbs, expected)


# --- vertebrae -------------------------------------------------------------------------------------

SPINE = tuple(range(1, 25))  # C1 to L5
BODY = 60  # voxels


def spine(*bodies: tuple[int, ...]) -> np.ndarray:
    """Vertebral bodies from the feet upwards, apart from each other; one of several labels is cut into halves."""
    labels = np.zeros((8 * len(bodies), 9, 9), np.uint8)
    for n, values in enumerate(bodies):
        labels[8 * n + 2 : 8 * n + 6, 2:5, 2:7] = values[0]
        labels[8 * n + 4 : 8 * n + 6, 2:5, 2:7] = values[-1]
    return labels


def numbers(labels: np.ndarray) -> list[list[int]]:
    """The labels of each body, from the feet upwards."""
    return [[int(v) for v in np.unique(labels[k : k + 8]) if v] for k in range(0, len(labels), 8)]


def test_vertebrae_that_do_not_touch_stay_as_they_are() -> None:
    labels = spine((24,), (22,), (5,))
    number_vertebrae(labels, 1.0, 100.0, SPINE)
    assert numbers(labels) == [[24], [22], [5]]


@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        (((24,), (23, 22), (22,)), [[24], [23], [22]]),  # from the bottom up
        (((24,), (24, 23), (1,)), [[24], [23], [22]]),  # also where the highest is there
        (((20,), (19, 18), (18,)), [[20], [19], [18]]),  # from the lowest that is there
        (((4,), (3, 2), (1,)), [[3], [2], [1]]),  # a head: from the top down
        (((2, 1), (1,), (1,)), [[3], [2], [1]]),
        (((2, 3), (2,), (2,), (2,)), [[3], [2], [1], []]),  # there is none above the first
    ],
)
def test_vertebrae_in_touch_are_counted_along_the_spine(
    bodies: tuple[tuple[int, ...], ...], expected: list[list[int]]
) -> None:
    labels = spine(*bodies)
    number_vertebrae(labels, 1.0, float(BODY), SPINE)
    assert numbers(labels) == expected


def test_small_pieces_are_no_vertebrae() -> None:
    labels = spine((24,), (23, 22), (22,), (21,))
    labels[18:22, 4, 2:7] = 0  # leaves 40 voxels
    number_vertebrae(labels, 2.0, 100.0, SPINE)
    assert numbers(labels) == [[24], [23], [], [22]]
    number_vertebrae(labels, 2.0, 100.0, SPINE)
    assert numbers(labels) == [[24], [23], [], [22]]  # now nothing touches
    only_small = spine((24, 23))
    number_vertebrae(only_small, 1.0, 100.0, SPINE)
    assert not only_small.any()


def test_other_labels_are_not_counted() -> None:
    labels = spine((24,), (22, 23), (100,))
    number_vertebrae(labels, 1.0, 10.0, SPINE)
    assert numbers(labels) == [[24], [23], [100]]


# --- composed --------------------------------------------------------------------------------------


def test_every_step_that_a_card_may_name_is_there() -> None:
    assert RUN.keys() == STEPS.keys()


def test_the_answer_does_not_depend_on_how_an_image_is_stored() -> None:
    """Vertebrae are counted towards the head, and millimeters along each axis, in any order of the axes."""
    labels = spine((24,), (23, 22), (22,))
    upright = Geometry(labels.shape, (0.75, 1.5, 2.0))
    steps = [Step("number_vertebrae", SPINE, volume_mm3=50.0), Step("dilate", distance_mm=3.0)]
    expected = labels.copy()
    apply(steps, expected, upright)
    assert numbers(expected) == [[24], [23], [22]] and expected[1].any() and not expected[:, -1].any()

    stored = np.ascontiguousarray(labels[::-1].transpose(2, 0, 1))  # [i, feetwards, j]
    lying = Geometry(stored.shape, (1.5, 2.0, 0.75), direction=(0, 0, 1, 1, 0, 0, 0, -1, 0))
    apply(steps, stored, lying)
    np.testing.assert_array_equal(stored.transpose(1, 2, 0)[::-1], expected)


@pytest.mark.parametrize("direction", [(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), SIDEWAYS])
def test_labels_on_a_coarser_and_turned_grid_are_those_at_the_same_places(direction: tuple[float, ...]) -> None:
    """Against SimpleITK."""
    source = Geometry((7, 8, 9), (3.0, 4.0, 5.0), (-12.0, 3.0, 5.0), direction)
    voxels = np.random.default_rng(1).integers(0, 200, source.shape).astype(np.uint8)
    target = Geometry((14, 20, 16), (2.1, 1.7, 3.3), (-16.0, -20.0, -20.0))
    image, grid = sitk.GetImageFromArray(voxels), sitk.Image(16, 20, 14, sitk.sitkUInt8)
    for one, geometry in ((image, source), (grid, target)):
        one.SetSpacing(geometry.spacing)
        one.SetOrigin(geometry.origin)
        one.SetDirection(geometry.direction)
    expected = sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0))
    assert 0 < np.count_nonzero(expected) < expected.size / 2
    np.testing.assert_array_equal(on_grid(voxels, source, target), expected)


def test_the_confidence_of_what_was_wrong_is_turned_round_and_of_all_else_stays() -> None:
    labels = np.zeros((5, 5, 9), np.uint8)
    labels[2, 2, 1:4], labels[2, 2, 6], labels[0, 0, 8] = 1, 1, 2
    sure = np.full(labels.shape, 90, np.uint8)
    steps = (Step("keep_largest", (1,)), Step("remove_labels", (2,)), Step("dilate", distance_mm=1.0))
    apply(steps, labels, Geometry(labels.shape), sure)
    assert labels.sum() == 3 + 2 + 3 * 4
    assert np.argwhere(sure == 10).tolist() == [[2, 2, 6]] and np.count_nonzero(sure == 90) == sure.size - 1


def blobs() -> Volume:
    """A body of 27 voxels, a limb of 8, a crumb of 1."""
    values = np.full((12, 12, 12), -1.0, np.float32)
    values[1:4, 1:4, 1:4] = values[6:8, 6:8, 6:8] = values[10, 10, 10] = 1.0
    return Volume(values, Geometry(values.shape, (2.0, 2.0, 2.0)))


@pytest.fixture
def finished(threshold_segmenter: Callable[..., Segmenter]) -> Callable[..., Segmenter]:
    """A model with steps after its network."""

    def make(*steps: Step, **rules: str) -> Segmenter:
        segmenter = threshold_segmenter(UNCHANGED, Inference((12, 12, 12), **rules))  # type: ignore[arg-type]
        segmenter.card = replace(segmenter.card, postprocessing=steps)
        return segmenter

    return make


def test_a_card_composes_steps_and_the_result_lists_them(finished: Callable[..., Segmenter]) -> None:
    steps = Step("remove_small", (1,), volume_mm3=8.0), Step("dilate", distance_mm=2.0, grid="image")
    segmenter = finished(*steps)
    result = with_confidence(segmenter).segment([blobs()])
    assert np.count_nonzero(result.voxels) == 27 + 6 * 9 + 8 + 6 * 4
    assert result.voxels[10, 10, 10] == 0
    assert result.provenance["postprocessing"] == [
        {"step": "remove_small", "labels": (1,), "volume_mm3": 8.0},
        {"step": "dilate", "distance_mm": 2.0, "grid": "image"},
    ]


def test_the_option_of_the_largest_component_is_the_last_step(finished: Callable[..., Segmenter]) -> None:
    segmenter = finished(Step("remove_labels", (2,)), Step("dilate", distance_mm=4.0))
    segmenter.options = InferenceOptions(largest_component="whole")
    result = segmenter.segment([blobs()])
    assert [step["step"] for step in result.provenance["postprocessing"]] == ["remove_labels", "dilate", "keep_largest"]
    assert pieces_by_sitk(result.voxels > 0).max() == 1


def test_labels_that_are_removed_are_not_in_the_table_of_a_result(finished: Callable[..., Segmenter]) -> None:
    segmenter = finished(Step("remove_labels", (1,)))
    result = segmenter.segment([blobs()])
    assert not result.voxels.any()
    assert result.labels == segmenter.card.result_labels == segmenter.card.labels[1:]


@pytest.mark.parametrize(
    ("grid", "mm", "further"), [("model", 2.0, (0,)), ("model", 3.0, (3, 4)), ("image", 2.0, (2,))]
)
def test_a_step_runs_on_the_grid_that_the_card_names(
    finished: Callable[..., Segmenter], grid: str, mm: float, further: tuple[int, ...]
) -> None:
    """The model's voxels have 3 mm, the image's 1 mm."""
    values = np.full((31, 31, 31), -1.0, np.float32)
    values[9:22, 9:22, 9:22] = 1.0
    outer = replace(UNCHANGED, outer_resampling=OuterResampling((3.0, 3.0, 3.0)))
    lines = []
    for steps in ((), (Step("dilate", distance_mm=mm, grid=grid),)):
        segmenter = finished(*steps)
        segmenter.card = replace(segmenter.card, preprocessing=outer)
        found = segmenter.segment([Volume(values, Geometry(values.shape))]).voxels
        lines.append(np.flatnonzero(found[15, 15]))
    assert lines[0][0] - lines[1][0] in further and lines[1][-1] - lines[0][-1] in further


def test_without_steps_there_is_no_word_of_them(finished: Callable[..., Segmenter]) -> None:
    assert "postprocessing" not in finished().segment([blobs()]).provenance
