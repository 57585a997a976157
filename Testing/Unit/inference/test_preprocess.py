"""Preprocessing: small grids checked by hand, by closed forms, by SimpleITK and by scipy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from LightSegLib.catalog.card import Normalization, Preprocessing, Resampling
from LightSegLib.core.errors import InputError, ModelError
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.processing.normalization import fit_normalization
from LightSegLib.inference.processing.preprocess import prepare
from scipy import ndimage

OBLIQUE = tuple(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix())
LEFT_HANDED = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
AS_IT_IS = (Normalization("none"),)


def ramp(shape: tuple[int, int, int], **geometry: Sequence[float]) -> Volume:
    return Volume(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), Geometry(shape, **geometry))  # type: ignore[arg-type]


def normalize(channel: np.ndarray, rule: Normalization) -> np.ndarray:
    return fit_normalization(channel[None, None], rule)(torch.from_numpy(channel.copy())).numpy()


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("direction", [(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), LEFT_HANDED, OBLIQUE])
def test_orientation_agrees_with_simpleitk(orientation: str, direction: tuple[float, ...]) -> None:
    """SimpleITK's own reorientation is the judge."""
    volume = ramp((3, 4, 5), direction=direction)
    prepared = prepare([volume], Preprocessing(orientation, normalization=(Normalization("none"),)))
    judge = sitk.DICOMOrient(to_sitk(volume.voxels, volume.geometry), orientation)
    np.testing.assert_array_equal(prepared.array[0], sitk.GetArrayFromImage(judge))


def test_a_region_in_ras_selects_the_voxels_at_that_place() -> None:
    geometry = Geometry((10, 10, 10), spacing=(2.0, 2.0, 2.0), origin=(-5.0, 0.0, 3.0))
    # R 1 to 5 is x -5 to -1 in LPS: voxels 0 to 2; A -6 to 0 is y 0 to 6: 0 to 3; S 7 to 9: 2 to 3
    assert RegionOfInterest.from_ras(1, -6, 7, 5, 0, 9).slices(geometry) == (slice(2, 4), slice(0, 4), slice(0, 3))


def test_a_box_without_extent_is_refused() -> None:
    with pytest.raises(InputError, match="region of interest is empty"):
        RegionOfInterest.from_ras(8, -49, -32, 8, 0, 9)


def test_corners_in_any_order_give_the_same_region() -> None:
    geometry = Geometry((10, 10, 10))
    first, second = RegionOfInterest.from_ras(-8, -8, 2, -2, -3, 6), RegionOfInterest.from_ras(-2, -3, 6, -8, -8, 2)
    assert first.slices(geometry) == second.slices(geometry)


def test_cropping_to_the_non_zero_part_finds_it_in_any_channel() -> None:
    first, second = (Volume(np.zeros((6, 6, 6), np.float32), Geometry((6, 6, 6))) for _ in range(2))
    first.voxels[2, 3, 1] = 5
    second.voxels[4, 3, 2] = 7
    rules = (Normalization("none"), Normalization("none"))
    prepared = prepare([first, second], Preprocessing("LPS", crop="nonzero", normalization=rules))
    assert prepared.array.shape == (2, 3, 1, 2)
    full, part = prepared.blank(np.uint8)
    part[...] = 1
    assert full[2:5, 3, 1:3].all() and full.sum() == 6


def test_normalizations_follow_their_closed_forms() -> None:
    channel = np.array([-2000.0, -100.0, 50.0, 200.0, 3000.0], np.float32)
    ct = normalize(channel, Normalization("ct", -1000.0, 1000.0, 50.0, 100.0))
    np.testing.assert_allclose(ct, [-10.5, -1.5, 0.0, 1.5, 9.5])
    scaled = normalize(channel, Normalization("minmax"))
    np.testing.assert_allclose(scaled, (channel + 2000) / 5000, rtol=1e-6)
    zscore = normalize(channel, Normalization("zscore"))
    assert zscore.mean() == pytest.approx(0, abs=1e-6) and zscore.std() == pytest.approx(1)
    percent = normalize(np.arange(101, dtype=np.float32), Normalization("percentile", 10.0, 90.0))
    np.testing.assert_allclose(percent[[0, 10, 50, 90, 100]], [0, 0, 0.5, 1, 1], atol=1e-6)


def test_two_orders_of_magnitude_between_scanners_make_no_difference() -> None:
    channel = np.random.default_rng(2).gamma(3, 100, (8, 8, 8)).astype(np.float32)
    rule = Normalization("zscore", 0.5, 99.5)
    np.testing.assert_allclose(normalize(channel * 130 + 17, rule), normalize(channel, rule), atol=1e-3)


def test_of_a_clipped_image_the_statistics_are_clipped_too() -> None:
    """A piece of metal, a thousand times as bright as the tissue, counts as much as the brightest tissue."""
    channel = np.random.default_rng(2).gamma(3, 100, (8, 8, 8)).astype(np.float32)
    channel[4, 4, 4] = 1e6
    clipped = np.clip(channel, *np.percentile(channel, (0.5, 99.5)))
    expected = (clipped - clipped.mean(dtype=np.float64)) / clipped.std(dtype=np.float64)
    np.testing.assert_allclose(normalize(channel, Normalization("zscore", 0.5, 99.5)), expected, atol=1e-4)


def test_statistics_of_the_content_alone_leave_the_empty_surroundings_at_zero() -> None:
    """A skull-stripped head: the hole inside it counts as content, the air around it does not."""
    voxels = np.zeros((9, 10, 11), np.float32)
    voxels[2:7, 2:8, 2:9] = np.random.default_rng(0).normal(500, 50, (5, 6, 7))
    voxels[4, 4, 4] = 0
    inside = np.zeros(voxels.shape, bool)
    inside[2:7, 2:8, 2:9] = True
    expected = np.zeros_like(voxels)
    expected[inside] = (voxels[inside] - voxels[inside].mean()) / voxels[inside].std()
    rule = Preprocessing("input", normalization=(Normalization("zscore", masked=True),))
    prepared = prepare([Volume(voxels, Geometry(voxels.shape))], rule)
    np.testing.assert_allclose(prepared.array[0], expected, atol=1e-4)


def test_an_array_is_taken_as_stored_and_transposed_as_asked() -> None:
    volume = ramp((3, 4, 5), direction=OBLIQUE, spacing=(1.0, 2.0, 3.0))
    rule = Preprocessing("input", spacing=(2.0, 1.0, 3.0), normalization=(Normalization("none"),), transpose=(0, 2, 1))
    prepared = prepare([volume], rule)
    np.testing.assert_array_equal(prepared.array[0], volume.voxels.transpose(0, 2, 1))
    full, part = prepared.blank(np.float32)
    part[...] = prepared.array[0]
    np.testing.assert_array_equal(full, volume.voxels)


def test_clipping_before_or_after_resampling_is_the_models_choice() -> None:
    """A bright voxel between dark ones: clipped first it counts 100, clipped last its 1000 spreads further."""
    voxels = np.zeros((1, 1, 5), np.float32)
    voxels[0, 0, 2] = 1000
    volume = Volume(voxels, Geometry(voxels.shape))
    clip = (Normalization("ct", 0, 100, 0, 1),)
    linear = Preprocessing("input", spacing=(0.5, 1, 1), normalization=clip, resampling=Resampling("linear"))
    last = prepare([volume], linear).array[0, 0, 0]
    first = prepare([volume], replace(linear, normalize_first=True)).array[0, 0, 0]
    np.testing.assert_allclose(first, [0, 0, 0, 25, 75, 75, 25, 0, 0, 0], atol=1e-4)
    np.testing.assert_allclose(last, [0, 0, 0, 100, 100, 100, 100, 0, 0, 0], atol=1e-4)


def test_splines_do_not_invent_intensities_beyond_those_of_the_image() -> None:
    """Cubic splines overshoot at the edge of a bone; no voxel may become brighter than the brightest one."""
    voxels = np.zeros((4, 4, 12), np.float32)
    voxels[:, :, 6:] = 100
    rule = Preprocessing("input", spacing=(0.4, 1, 1), normalization=(Normalization("none"),))
    resampled = prepare([Volume(voxels, Geometry(voxels.shape))], rule).array
    assert resampled.shape == (1, 4, 4, 30)
    assert (resampled.min(), resampled.max()) == (0, 100)
    assert np.unique(resampled).size > 4  # still a spline, not a step


def test_a_model_with_unpublished_normalization_states_that_it_cannot_run() -> None:
    with pytest.raises(ModelError, match=r"have not published how .* is normalized.*preprocessing\.normalization"):
        prepare([ramp((3, 4, 5))], Preprocessing(normalization=(Normalization("unknown"),)))


# --- resampling ----------------------------------------------------------------------------------


def by_scipy(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A spline through voxel centers on grids that share their outer faces, kept within the array's range."""
    zoom = [new / old for new, old in zip(shape, array.shape, strict=True)]
    result = ndimage.zoom(array.astype(float), zoom, order=3, mode="nearest", grid_mode=True)
    return np.clip(result, array.min(), array.max())


@pytest.mark.parametrize(
    ("spacing", "target", "separate", "axis"),
    [
        ((1.0, 1.2, 1.5), (1.3, 0.8, 1.0), "anisotropic", None),  # nearly cubes
        ((1.0, 1.1, 5.0), (1.3, 0.8, 3.0), "anisotropic", 0),  # thick slices, more of them afterwards
        ((0.9, 1.0, 2.0), (1.3, 0.8, 4.0), "anisotropic", 0),  # thick slices afterwards only
        ((1.0, 5.0, 1.1), (0.8, 6.5, 1.4), "anisotropic", 1),  # coronal slices
        ((5.0, 1.0, 1.1), (4.0, 0.8, 1.4), "anisotropic", 2),  # sagittal slices
        ((0.2, 1.0, 1.0), (0.3, 0.8, 1.2), "anisotropic", None),  # two coarse axes are none
        ((1.0, 1.2, 1.5), (1.3, 0.8, 1.0), "always", 0),
        ((1.0, 1.0, 5.0), (1.3, 0.8, 3.0), "never", None),
    ],
)
def test_a_coarse_axis_is_resampled_on_its_own_as_the_model_asks(
    spacing: tuple[float, float, float], target: tuple[float, float, float], separate: str, axis: int | None
) -> None:
    """Each slice across it by a spline of its own, then the nearest slice, a hair of a voxel aside if in between."""
    shape = (11, 12, 13)
    voxels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    rule = Preprocessing("input", "none", target, AS_IT_IS, resampling=Resampling("cubic", separate))
    found = prepare([Volume(voxels, Geometry(shape, spacing))], replace(rule, normalize_first=True)).array[0]

    new = [round(s / t * n) for n, s, t in zip(shape, spacing[::-1], target[::-1], strict=True)]
    if axis is None:
        expected = by_scipy(voxels, new)
    else:
        within = new[:axis] + new[axis + 1 :]
        slices = [by_scipy(part, within) for part in np.moveaxis(voxels, axis, 0)]
        picked = np.floor((np.arange(new[axis]) + 0.5) * shape[axis] / new[axis]).astype(int)
        expected = np.moveaxis(np.stack(slices)[picked], 0, axis)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(prepare([Volume(voxels, Geometry(shape, spacing))], rule).array[0], found, atol=1e-6)


def test_rows_asked_for_later_are_those_of_the_whole_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a few rows at a time are computed for a large CT, and they do not depend on how many."""
    shape = (40, 9, 10)
    volume = Volume(np.random.default_rng(1).integers(-1000, 1000, shape).astype(np.int16), Geometry(shape))
    rule = Preprocessing("RAI", "none", (1.2, 0.9, 0.7), (Normalization("zscore"),), normalize_first=True)
    whole = prepare([volume], rule).array
    monkeypatch.setattr("LightSegLib.inference.processing.preprocess.CHUNK_VOXELS", 300)
    few = prepare([volume], rule)
    np.testing.assert_allclose(few.array, whole, atol=1e-5)
    np.testing.assert_allclose(few.rows(17, 23).numpy(), whole[:, 17:23], atol=1e-5)


def test_the_input_is_left_as_it_was() -> None:
    voxels = np.random.default_rng(2).normal(100, 20, (6, 7, 8)).astype(np.float32)
    before = voxels.copy()
    rule = Preprocessing("input", "nonzero", None, (Normalization("ct", 90, 110, 100, 5),), normalize_first=True)
    assert prepare([Volume(voxels, Geometry(voxels.shape))], rule).array.max() == 2
    np.testing.assert_array_equal(voxels, before)


def test_a_model_of_single_slices_keeps_their_number() -> None:
    """Two-dimensional configurations state no spacing across the slices."""
    volume = ramp((5, 8, 8), spacing=(1.0, 1.0, 7.0))
    rule = Preprocessing("input", "none", (0.5, 2.0, None), AS_IT_IS, resampling=Resampling("cubic", "anisotropic"))
    assert prepare([volume], rule).shape == (5, 4, 16)
