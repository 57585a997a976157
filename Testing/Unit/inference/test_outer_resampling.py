"""A resampling around all else: scipy's numbers, labels at their places, the input's exact grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.catalog.card import Inference, Normalization, OuterResampling, Preprocessing
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.processing.outer_resampling import linear, nearest, resample_outside, zoomed_shape
from LightSegLib.inference.segmenter import Segmenter
from scipy import ndimage

Segmenters = Callable[..., Segmenter]

OBLIQUE = tuple(sitk.Euler3DTransform((0, 0, 0), 0.1, -0.2, 0.15).GetMatrix())
OUTSIDE = Normalization("ct", lower=-1000, upper=1000, mean=0, std=1)  # above 0 is class 1


def steps(spacing: float = 3.0, whole_numbers: bool = True, default: bool = True) -> Preprocessing:
    outer = OuterResampling((spacing, spacing, spacing), whole_numbers, default)
    return Preprocessing("RAS", normalization=(OUTSIDE,), outer_resampling=outer)


def ball(geometry: Geometry, center: np.ndarray, radius: float) -> np.ndarray:
    """500 HU within a ball in the world, -500 HU elsewhere, over an edge of 4 mm."""
    k, j, i = np.meshgrid(*map(np.arange, geometry.shape), indexing="ij")
    places = np.stack((i, j, k, np.ones_like(i)), axis=-1) @ geometry.index_to_world.T
    distance = np.linalg.norm(places[..., :3] - center, axis=-1)
    return np.rint(np.clip((radius - distance) * 250, -500, 500)).astype(np.int16)


def center_of(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    return (geometry.index_to_world @ [*np.argwhere(mask).mean(0)[::-1], 1.0])[:3]


# --- the numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64"])
@pytest.mark.parametrize("new", [(7, 40, 13), (2, 9, 52), (61, 31, 1), (23, 32, 29), (1, 4, 300)])
def test_values_are_scipys_to_the_last_bit_so_that_they_are_truncated_alike(dtype: str, new: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for image in (rng.integers(0, 200, (23, 32, 29)).astype(dtype), np.full((23, 32, 29), 100, dtype)):
        # x first, as programs that read NIfTI hold it: the order of the sum is theirs
        factors = np.divide(new, image.shape)[::-1]
        expected = ndimage.zoom(image.astype(np.float64).T, factors, order=1, mode="nearest").T
        np.testing.assert_array_equal(linear(image, new), expected.astype(np.float32))  # type: ignore[arg-type]
        np.testing.assert_array_equal(linear(image, new, whole=True), expected.astype(np.int32))  # type: ignore[arg-type]


def test_whole_numbers_are_truncated_toward_zero_and_stay_in_the_images_type() -> None:
    line = np.array([-3, 3], np.int16).reshape(2, 1, 1)
    assert linear(line, (5, 1, 1)).ravel().tolist() == [-3, -1.5, 0, 1.5, 3]
    found = linear(line, (5, 1, 1), whole=True)
    assert found.ravel().tolist() == [-3, -1, 0, 1, 3] and found.dtype == np.int16
    assert linear(line.astype(float), (5, 1, 1), whole=True).ravel().tolist() == [-3, -1, 0, 1, 3]


@pytest.mark.parametrize("length", [1, 2, 8, 29, 100, 347])
@pytest.mark.parametrize("new", [1, 2, 26, 52, 99, 101, 512])
def test_labels_are_scipys_nearest(length: int, new: int) -> None:
    line = np.arange(length, dtype=float)
    expected = ndimage.zoom(line, new / length, order=0, mode="nearest")
    assert nearest(length, new).tolist() == expected.tolist()


@pytest.mark.parametrize("spacing", [(0.7, 0.9, 5.0), (1.5, 0.9765625, 2.5)])
def test_there_are_as_many_voxels_as_scipy_would_make(spacing: tuple[float, ...]) -> None:
    stored = np.array(spacing, np.float32)
    made = ndimage.zoom(np.zeros((37, 55, 41)), stored / np.array([1.5, 3.0, 6.0]), order=1)
    assert zoomed_shape((37, 55, 41), [float(mm) for mm in stored], (1.5, 3.0, 6.0)) == made.shape


# --- the places ------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), (-1.0, 0, 0, 0, 0, 1.0, 0, 1.0, 0), OBLIQUE])
@pytest.mark.parametrize("spacing", [(1.0, 1.25, 2.5), (4.0, 3.5, 5.0), (3.0, 3.0, 1.0)])
def test_labels_are_at_the_place_of_what_they_show_on_the_images_own_grid(
    threshold_segmenter: Segmenters, direction: tuple[float, ...], spacing: tuple[float, ...]
) -> None:
    shape = tuple(round(90 / mm) for mm in spacing[::-1])
    geometry = Geometry(shape, spacing, (-31.0, 12.0, 7.0), direction)  # type: ignore[arg-type]
    middle = (geometry.index_to_world @ [*(0.45 * n for n in shape[::-1]), 1.0])[:3]
    voxels = ball(geometry, middle, 24.0)
    found = threshold_segmenter(steps()).segment([Volume(voxels, geometry)])
    assert found.geometry == geometry
    shift = center_of(found.voxels == 1, geometry) - center_of(voxels > 0, geometry)
    assert np.abs(shift).max() < 0.35, "a tenth of a voxel of the model's"
    assert (found.voxels == (voxels > 0)).mean() > 0.97


def test_a_region_is_cut_out_first_and_the_rest_is_background(threshold_segmenter: Segmenters) -> None:
    geometry = Geometry((40, 40, 40), (1.0, 1.0, 1.0))
    voxels = ball(geometry, np.array([20.0, 20.0, 20.0]), 15.0)
    box = (slice(4, 37), slice(10, 30), slice(2, 21))
    whole = Volume(voxels, geometry)
    found = threshold_segmenter(steps()).segment([whole], RegionOfInterest.of_slices(box, geometry)).voxels
    cut = np.ascontiguousarray(voxels[box])
    alone = threshold_segmenter(steps()).segment([Volume(cut, Geometry(cut.shape))]).voxels
    np.testing.assert_array_equal(found[box], alone)
    assert np.count_nonzero(found) == np.count_nonzero(alone) > 0


def test_an_empty_margin_that_the_model_crops_away_moves_nothing(threshold_segmenter: Segmenters) -> None:
    """Axes transposed and zeros cut off between the resampling and the network."""
    geometry = Geometry((48, 40, 44))
    voxels = np.zeros(geometry.shape, np.int16)
    voxels[12:36, 8:26, 6:40] = ball(geometry, np.array([22.0, 18.0, 24.0]), 9.0)[12:36, 8:26, 6:40]
    cropped = replace(steps(), crop="nonzero", transpose=(1, 2, 0))
    segmenter = threshold_segmenter(cropped)
    segmenter.options = InferenceOptions("cpu", "float32", confidence=True)
    found = segmenter.segment([Volume(voxels, geometry)])
    shift = center_of(found.voxels == 1, geometry) - center_of(voxels > 0, geometry)
    assert np.abs(shift).max() < 0.35
    assert found.confidence is not None and found.confidence[24, 18, 22] == 100 and found.confidence[0, 0, 0] == 0


def test_the_confidence_comes_back_with_the_labels(threshold_segmenter: Segmenters) -> None:
    segmenter = threshold_segmenter(steps())
    segmenter.options = InferenceOptions("cpu", "float32", confidence=True)
    geometry = Geometry((40, 40, 40))
    found = segmenter.segment([Volume(ball(geometry, np.array([20.0, 20.0, 20.0]), 15.0), geometry)])
    assert found.confidence is not None and found.confidence.shape == found.voxels.shape
    assert found.confidence[20, 20, 20] == 100 and "low_confidence_slices" in found.provenance


def test_the_largest_piece_is_chosen_among_the_models_own_voxels(threshold_segmenter: Segmenters) -> None:
    """Two balls that only voxels of 6 mm join: one piece there, two pieces in the image."""
    geometry = Geometry((60, 60, 90), (1.0, 1.0, 1.0))
    voxels = np.full(geometry.shape, -500, np.int16)
    for i in (20, 64):
        np.maximum(voxels, ball(geometry, np.array([float(i), 30.0, 30.0]), 20.0), out=voxels)
    for spacing, pieces in ((1.0, 1), (6.0, 2)):
        segmenter = threshold_segmenter(steps(spacing), Inference((8, 8, 8), largest_component="label"))
        found = segmenter.segment([Volume(voxels, geometry)]).voxels
        assert sum(bool(found[30, 30, i]) for i in (20, 64)) == pieces


# --- what is left as it is, and what is refused ----------------------------------------------------


def test_an_image_of_the_models_voxel_size_stays_as_it_is_with_its_fractions() -> None:
    volume = Volume(np.linspace(0, 500, 60, dtype=np.float32).reshape(3, 4, 5), Geometry((3, 4, 5), (3.0, 3.0, 3.0)))
    assert resample_outside([volume], steps(3.0)) is None
    assert resample_outside([volume], replace(steps(3.0), outer_resampling=None)) is None
    changed = resample_outside([volume], steps(2.5))
    assert changed is not None and changed.volumes[0].geometry.spacing == (2.5, 2.5, 2.5)
    np.testing.assert_array_equal(changed.volumes[0].voxels, np.trunc(changed.volumes[0].voxels))


def test_the_spacing_is_that_of_the_turned_axes() -> None:
    """k runs to the left: the coarse axis is the first of RAS."""
    direction = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    geometry = Geometry((5, 10, 10), (1.0, 1.0, 6.0), (0.0, 0.0, 0.0), direction)
    outer = OuterResampling((6.0, 1.0, 1.0))
    volume = Volume(np.arange(500.0).reshape(5, 10, 10), geometry)
    assert resample_outside([volume], Preprocessing("RAS", outer_resampling=outer)) is None


def test_an_image_from_0_to_1_keeps_its_fractions_and_says_so(threshold_segmenter: Segmenters) -> None:
    geometry = Geometry((40, 40, 40))
    scaled = ball(geometry, np.array([20.0, 20.0, 20.0]), 15.0) / np.float32(1000)  # -0.5 to 0.5
    found = threshold_segmenter(steps()).segment([Volume(scaled, geometry, "scaled.nii.gz")])
    assert np.count_nonzero(found.voxels) > 10000
    assert any("scaled.nii.gz has values from -0.5 to 0.5" in notice for notice in found.provenance["notices"])


def test_values_that_are_hardly_different_are_stated_as_different(threshold_segmenter: Segmenters) -> None:
    geometry = Geometry((40, 40, 40))
    offset = ball(geometry, np.array([20.0, 20.0, 20.0]), 15.0) / np.float32(1e4) + np.float32(2000)
    found = threshold_segmenter(steps()).segment([Volume(offset, geometry, "offset.nii.gz")])
    assert any("has values from 1999.9 to 2000.1" in notice for notice in found.provenance["notices"])


@pytest.mark.parametrize(("option", "default", "coarse"), [("model", True, True), ("model", False, False)])
@pytest.mark.parametrize("asked", [None, "on", "off"])
def test_the_card_names_the_default_and_an_option_decides(
    threshold_segmenter: Segmenters, option: str, default: bool, coarse: bool, asked: str | None
) -> None:
    segmenter = threshold_segmenter(steps(6.0, default=default))
    segmenter.options = InferenceOptions("cpu", "float32", outer_resampling=asked or option)
    geometry = Geometry((48, 48, 48))
    voxels = ball(geometry, np.array([24.0, 24.0, 24.0]), 17.0)
    found = segmenter.segment([Volume(voxels, geometry)])
    exact = np.array_equal(found.voxels == 1, voxels > 0)
    assert exact is not (coarse if asked is None else asked == "on")
    assert found.provenance["settings"]["outer_resampling"] == (asked or option)


def test_a_wrong_spacing_is_refused_before_anything_is_made() -> None:
    volume = Volume(np.arange(1000.0).reshape(10, 10, 10), Geometry((10, 10, 10), (1e3, 1e3, 1e3)))
    with pytest.raises(InputError, match=r"voxels of 1000 x 1000 x 1000 mm, so the model, which works at 1.5 x"):
        resample_outside([volume], steps(1.5))
