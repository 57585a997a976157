"""Preprocessing, sliding window and restoring: small grids checked by hand, by closed forms and by SimpleITK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from LightSegLib.catalog.card import Inference, Normalization, Preprocessing, read_card
from LightSegLib.catalog.store import CARD_NAME
from LightSegLib.errors import Cancelled, DeviceError, InputError, ModelError
from LightSegLib.networks import build
from LightSegLib.pipeline.preprocess import normalize, prepare
from LightSegLib.pipeline.region import Region
from LightSegLib.pipeline.restore import LabelRestorer, keep_largest_component
from LightSegLib.pipeline.sliding_window import TileAggregator, TileSampler
from LightSegLib.progress import Progress
from LightSegLib.segmenter import Segmenter
from LightSegLib.volume import Geometry, Volume, to_sitk
from torch import nn

OBLIQUE = tuple(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix())
LEFT_HANDED = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


def ramp(shape: tuple[int, int, int], **geometry: Sequence[float]) -> Volume:
    return Volume(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), Geometry(shape, **geometry))  # type: ignore[arg-type]


class Threshold(nn.Module):
    """Stands for a trained network: class 1 where the input is above zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((-x[:, :1], x[:, :1], torch.full_like(x[:, :1], -1e3)), dim=1)


@pytest.fixture
def threshold_segmenter(tiny_model: Path) -> Callable[..., Segmenter]:
    def make(preprocessing: Preprocessing, inference: Inference | None = None) -> Segmenter:
        card = read_card(tiny_model / CARD_NAME)
        card = replace(card, preprocessing=preprocessing, inference=inference or Inference((8, 8, 8)))
        segmenter = Segmenter(card, device="cpu")
        segmenter.use_network(Threshold())
        return segmenter

    return make


# --- orientation and geometry --------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("direction", [(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), LEFT_HANDED, OBLIQUE])
def test_orientation_agrees_with_simpleitk(orientation: str, direction: tuple[float, ...]) -> None:
    """SimpleITK's own reorientation is the judge."""
    volume = ramp((3, 4, 5), direction=direction)
    prepared = prepare([volume], Preprocessing(orientation, normalization=(Normalization("none"),)))
    judge = sitk.DICOMOrient(to_sitk(volume.voxels, volume.geometry), orientation)
    np.testing.assert_array_equal(prepared.array[0], sitk.GetArrayFromImage(judge))


@pytest.mark.parametrize("direction", [LEFT_HANDED, OBLIQUE, (0.0, 0, 1.0, 1.0, 0, 0, 0, 1.0, 0)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.5)])
def test_labels_come_back_on_the_voxels_they_were_decided_for(
    threshold_segmenter: Callable[..., Segmenter], direction: tuple[float, ...], spacing: tuple[float, float, float]
) -> None:
    """Whatever the grid, without resampling the result equals the threshold of the input, voxel by voxel."""
    values = np.random.default_rng(0).normal(size=(9, 14, 11)).astype(np.float32)
    volume = Volume(values, Geometry((9, 14, 11), spacing, (5.0, -3.0, 8.0), direction))
    result = threshold_segmenter(Preprocessing("RAS", normalization=(Normalization("none"),))).segment([volume])
    np.testing.assert_array_equal(result.voxels, values > 0)
    assert result.geometry == volume.geometry


def test_a_ball_keeps_its_place_and_size_through_resampling(threshold_segmenter: Callable[..., Segmenter]) -> None:
    """An oblique, anisotropic ball of known centre and radius, in world coordinates."""
    geometry = Geometry((24, 40, 36), (1.1, 0.9, 2.0), (-10.0, 20.0, 5.0), OBLIQUE)
    k, j, i = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")
    world = np.stack((i, j, k, np.ones_like(i)), -1) @ geometry.index_to_world[:3].T
    centre = np.array((18.0, 19.0, 12.0, 1.0)) @ geometry.index_to_world[:3].T
    distance = np.linalg.norm(world - centre, axis=-1)
    volume = Volume((12 - distance).astype(np.float32), geometry)
    rule = Preprocessing("RAS", spacing=(1.5, 1.5, 1.5), normalization=(Normalization("none"),))
    result = threshold_segmenter(rule, Inference((16, 16, 16))).segment([volume])
    found = world[result.voxels == 1]
    np.testing.assert_allclose(found.mean(axis=0), centre, atol=0.1)
    assert result.volumes_ml()[result.labels[0].name] == pytest.approx(4 / 3 * np.pi * 12**3 / 1000, rel=0.02)


def test_a_sheared_grid_is_refused(threshold_segmenter: Callable[..., Segmenter]) -> None:
    sheared = Geometry((4, 4, 4), direction=(1.0, 0, 0, 0, 1.0, 0.5, 0, 0, 0.866))
    with pytest.raises(InputError, match="sheared"):
        threshold_segmenter(Preprocessing()).segment([ramp((4, 4, 4), direction=sheared.direction)])


# --- region of interest --------------------------------------------------------------------------


def test_a_region_in_ras_selects_the_voxels_at_that_place() -> None:
    geometry = Geometry((10, 10, 10), spacing=(2.0, 2.0, 2.0), origin=(-5.0, 0.0, 3.0))
    # R 1 to 5 is x -5 to -1 in LPS: voxels 0 to 2; A -6 to 0 is y 0 to 6: 0 to 3; S 7 to 9: 2 to 3
    assert Region.from_ras(1, -6, 7, 5, 0, 9).slices(geometry) == (slice(2, 4), slice(0, 4), slice(0, 3))


def test_a_box_without_extent_is_refused() -> None:
    with pytest.raises(InputError, match="no extent"):
        Region.from_ras(8, -49, -32, 8, 0, 9)


def test_corners_in_any_order_give_the_same_region() -> None:
    geometry = Geometry((10, 10, 10))
    first, second = Region.from_ras(-8, -8, 2, -2, -3, 6), Region.from_ras(-2, -3, 6, -8, -8, 2)
    assert first.slices(geometry) == second.slices(geometry)


def test_outside_the_region_is_background_and_a_region_elsewhere_is_refused(
    threshold_segmenter: Callable[..., Segmenter],
) -> None:
    values = np.random.default_rng(1).normal(size=(12, 12, 12)).astype(np.float32)
    segmenter = threshold_segmenter(Preprocessing("RAS", normalization=(Normalization("none"),)))
    volume = Volume(values, Geometry((12, 12, 12)))
    inside = (slice(2, 9), slice(1, 6), slice(4, 12))
    result = segmenter.segment([volume], roi=Region.from_ras(-4, -1, 2, -20, -5, 8)).voxels
    np.testing.assert_array_equal(result[inside], values[inside] > 0)
    assert result.sum() == (values[inside] > 0).sum()
    with pytest.raises(InputError, match="outside the volume"):
        segmenter.segment([volume], roi=Region.from_ras(50, 50, 50, 60, 60, 60))


def test_cropping_to_the_non_zero_part_finds_it_in_any_channel() -> None:
    first, second = (Volume(np.zeros((6, 6, 6), np.float32), Geometry((6, 6, 6))) for _ in range(2))
    first.voxels[2, 3, 1] = 5
    second.voxels[4, 3, 2] = 7
    rules = (Normalization("none"), Normalization("none"))
    prepared = prepare([first, second], Preprocessing("LPS", crop="nonzero", normalization=rules))
    assert prepared.array.shape == (2, 3, 1, 2)
    back = prepared.restore(np.ones(prepared.inner_shape, np.uint8))
    assert back[2:5, 3, 1:3].all() and back.sum() == 6


# --- intensities ---------------------------------------------------------------------------------


def test_normalisations_follow_their_closed_forms() -> None:
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
    np.testing.assert_array_equal(prepared.restore(prepared.array[0]), volume.voxels)


def test_clipping_before_or_after_resampling_is_the_models_choice() -> None:
    """A bright voxel between dark ones: clipped first it counts 100, clipped last its 1000 spreads further."""
    voxels = np.zeros((1, 1, 5), np.float32)
    voxels[0, 0, 2] = 1000
    volume = Volume(voxels, Geometry(voxels.shape))
    clip = (Normalization("ct", 0, 100, 0, 1),)
    linear = Preprocessing("input", spacing=(0.5, 1, 1), normalization=clip, interpolation="linear")
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


def test_a_model_with_unpublished_normalisation_says_that_it_cannot_run() -> None:
    with pytest.raises(ModelError, match=r"have not published how .* is normalised.*preprocessing\.normalization"):
        prepare([ramp((3, 4, 5))], Preprocessing(normalization=(Normalization("unknown"),)))


# --- sliding window ------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "tile", "overlap"), [((5, 7, 9), (3, 3, 4), 0.5), ((4, 4, 4), (8, 2, 4), 0.0)])
def test_tiles_cover_every_voxel_and_overlap_as_asked(
    shape: tuple[int, int, int], tile: tuple[int, int, int], overlap: float
) -> None:
    sampler = TileSampler(shape, tile, overlap)
    seen = np.zeros(shape, int)
    positions = list(sampler)
    for k, j, i in positions:
        depth, height, width = sampler.tile_size
        assert seen[k : k + depth, j : j + height, i : i + width].shape == sampler.tile_size
        seen[k : k + depth, j : j + height, i : i + width] += 1
    assert seen.min() >= 1 and len(positions) == len(sampler)
    for axis in range(3):
        starts = sorted({position[axis] for position in positions})
        steps = np.diff(starts)
        assert (steps <= np.ceil(tile[axis] * (1 - overlap))).all()  # whole voxels, as even as they can be


def test_streamed_slabs_equal_the_weighted_mean_over_the_whole_volume() -> None:
    """The aggregator that forgets finished rows against a plain sum over the full volume."""
    shape, classes = (13, 6, 7), 3
    sampler = TileSampler(shape, (4, 4, 4), 0.5)
    random = torch.Generator().manual_seed(0)
    tiles = [torch.randn(classes, *sampler.tile_size, generator=random) for _ in sampler]
    aggregator = TileAggregator(classes, shape, sampler.importance(), torch.device("cpu"))
    slabs = [slab for tile, at in zip(tiles, sampler, strict=True) for slab in aggregator.add(tile, at)]
    slabs += aggregator.finish()
    total, weights = torch.zeros(classes, *shape), torch.zeros(shape)
    axis = torch.exp(-0.5 * ((torch.arange(4) - 2) / 0.5) ** 2)
    bell = axis[:, None, None] * axis[:, None] * axis
    for tile, (k, j, i) in zip(tiles, sampler, strict=True):
        total[:, k : k + 4, j : j + 4, i : i + 4] += tile * bell
        weights[k : k + 4, j : j + 4, i : i + 4] += bell
    torch.testing.assert_close(torch.cat(slabs, dim=1), total / weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("working", "shape"), [((4, 5, 6), (9, 10, 7)), ((9, 8, 7), (4, 4, 11)), ((6, 6, 6), (6, 6, 6))]
)
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_labels_decided_slab_by_slab_equal_one_interpolation(
    working: tuple[int, int, int], shape: tuple[int, int, int], rows: int
) -> None:
    logits = torch.randn(3, *working, generator=torch.Generator().manual_seed(1))
    restorer = LabelRestorer(working, shape, outputs=3)
    restorer._batch = 2  # a slab smaller than the volume, as it is for a large one
    for first in range(0, working[0], rows):
        restorer.add(logits[:, first : first + rows])
    whole = torch.nn.functional.interpolate(logits[None], size=shape, mode="trilinear", align_corners=False)
    np.testing.assert_array_equal(restorer.labels, whole[0].argmax(dim=0).numpy())


def test_a_small_image_is_padded_with_zeros_all_around_up_to_the_patch() -> None:
    volume = torch.ones(1, 3, 9, 4)
    sampler = TileSampler((3, 9, 4), (6, 4, 4), 0.5, pad=True)
    tiles = [sampler.tile(volume, position) for position in sampler]
    assert all(tile.shape == (1, 6, 4, 4) for tile in tiles)
    assert all(tile[0, :, 0, 0].tolist() == [0, 1, 1, 1, 0, 0] for tile in tiles)
    aggregator = TileAggregator(1, (3, 9, 4), sampler.importance(), torch.device("cpu"))
    slabs = [
        slab for tile, at in zip(tiles, sampler, strict=True) for slab in aggregator.add(sampler.covered(tile), at)
    ]
    slabs += aggregator.finish()
    torch.testing.assert_close(torch.cat(slabs, dim=1), volume)


@pytest.mark.parametrize("probabilities", [False, True])
def test_later_regions_are_painted_over_earlier_ones(probabilities: bool) -> None:
    """Whole tumour, core, enhancing part: each lies in the one before, as in BraTS."""
    inside = torch.tensor([[0, 1, 1, 1, 1], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0]])[:, None, None, :]
    values = inside * 0.8 + 0.1 if probabilities else inside * 2.0 - 1
    restorer = LabelRestorer((1, 1, 5), (1, 1, 5), 3, regions=(2, 1, 3), threshold=0.5 if probabilities else 0)
    restorer.add(values)
    assert restorer.labels.ravel().tolist() == [0, 2, 1, 3, 2]


def test_only_the_largest_piece_stays_of_every_label_or_of_all_together() -> None:
    labels = np.zeros((5, 5, 9), np.uint8)
    labels[1:4, 1:4, 1:3], labels[1:4, 1:4, 3] = 1, 2
    labels[2, 2, 7] = 2  # away from everything
    labels[0, 2, 2] = 2  # away from the other voxels of label 2, but on label 1
    expected = {"none": 0, "whole": 1, "label": 2}
    for mode, removed in expected.items():
        kept = keep_largest_component(labels, mode)
        assert (kept != labels).sum() == removed and (kept[kept != labels] == 0).all()
    assert not keep_largest_component(np.zeros_like(labels), "label").any()


# --- the one way in ------------------------------------------------------------------------------


def test_progress_counts_tiles_and_cancel_stops_within_one(threshold_segmenter: Callable[..., Segmenter]) -> None:
    segmenter = threshold_segmenter(Preprocessing("RAS"), Inference((8, 8, 8), overlap=0.0))
    volume = ramp((16, 16, 16))
    reports: list[Progress] = []
    segmenter.segment([volume], progress=reports.append)
    tiles = [(report.tile, report.tiles) for report in reports if report.step == "Segmenting"]
    assert tiles == [(n, 8) for n in range(9)]
    assert all(report.seconds_left is not None for report in reports if report.tile)


def test_cancel_stops_before_the_next_network_call(
    threshold_segmenter: Callable[..., Segmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles as large as a batch, so that each is a call: cancelled during the second, there is no third."""
    calls = 0

    class Counting(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            return super().forward(x)

    monkeypatch.setattr("LightSegLib.segmenter.BATCH_VOXELS", 8**3)
    segmenter = threshold_segmenter(Preprocessing("RAS"), Inference((8, 8, 8), overlap=0.0))
    segmenter.use_network(Counting())
    with pytest.raises(Cancelled):
        segmenter.segment([ramp((16, 16, 16))], cancelled=lambda: calls == 2)
    assert calls == 2


def test_a_gpu_that_lacks_an_operation_hands_over_to_the_cpu(
    threshold_segmenter: Callable[..., Segmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's meta device stands for the GPU: it takes the tensors and refuses the work."""

    class Picky(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.device.type != "cpu":
                raise NotImplementedError("max_pool3d is not implemented for this device")
            return super().forward(x)

    monkeypatch.setattr("LightSegLib.pipeline.devices.choose_device", lambda name: torch.device("meta"))
    segmenter = threshold_segmenter(Preprocessing("RAS", normalization=(Normalization("none"),)))
    segmenter.use_network(Picky())
    values = np.random.default_rng(4).normal(size=(9, 9, 9)).astype(np.float32)
    result = segmenter.segment([Volume(values, Geometry((9, 9, 9)))])
    np.testing.assert_array_equal(result.voxels, values > 0)
    assert "CPU" in result.provenance["notices"][0]


def test_when_memory_runs_out_smaller_tiles_give_the_same_result_and_a_notice(
    threshold_segmenter: Callable[..., Segmenter],
) -> None:
    class Hungry(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x[0, 0].numel() > 40**3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    values = np.random.default_rng(3).normal(size=(50, 50, 50)).astype(np.float32)
    segmenter = threshold_segmenter(Preprocessing("RAS", normalization=(Normalization("none"),)), Inference((64,) * 3))
    segmenter.use_network(Hungry())
    result = segmenter.segment([Volume(values, Geometry((50, 50, 50)))])
    np.testing.assert_array_equal(result.voxels, values > 0)
    assert "smaller tiles" in result.provenance["notices"][0]
    segmenter.use_network(_AlwaysOutOfMemory())
    with pytest.raises(DeviceError, match="smaller region"):
        segmenter.segment([Volume(values, Geometry((50, 50, 50)))])


class _AlwaysOutOfMemory(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise MemoryError


def test_an_ordinary_failure_of_the_network_is_not_mistaken_for_lack_of_memory(
    threshold_segmenter: Callable[..., Segmenter],
) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    segmenter = threshold_segmenter(Preprocessing("RAS"))
    segmenter.use_network(Broken())
    with pytest.raises(RuntimeError, match="mat1"):
        segmenter.segment([ramp((8, 8, 8))])


def test_mirroring_averages_over_all_allowed_flips(threshold_segmenter: Callable[..., Segmenter]) -> None:
    """A network that favours one end of an axis loses its preference when averaged over the flips."""

    class Biased(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            ramp = torch.linspace(-1, 1, x.shape[-1]).expand_as(x)
            return torch.cat((torch.full_like(x, 0.25), ramp, torch.full_like(x, -9)), dim=1)

    base = threshold_segmenter(Preprocessing("RAS"), Inference((8, 8, 8), mirror_axes=(2,)))
    for mirror, expected in ((False, True), (True, False)):
        segmenter = Segmenter(base.card, device="cpu", mirror=mirror)
        segmenter.use_network(Biased())
        assert bool(segmenter.segment([ramp((8, 8, 8))]).voxels.any()) is expected


def test_an_unavailable_device_is_refused_with_a_choice(threshold_segmenter: Callable[..., Segmenter]) -> None:
    base = threshold_segmenter(Preprocessing("RAS"))
    segmenter = Segmenter(base.card, device="abacus")
    segmenter.use_network(Threshold())
    with pytest.raises(DeviceError, match="auto, cpu"):
        segmenter.segment([ramp((8, 8, 8))])


@pytest.mark.parametrize(("shift", "same"), [(0.001, True), (0.2, False)])
def test_geometries_a_hundredth_of_a_voxel_apart_count_as_one(shift: float, same: bool) -> None:
    assert Geometry((5, 5, 5)).matches(Geometry((5, 5, 5), origin=(shift, 0.0, 0.0))) is same


def test_probabilities_and_logits_are_averaged_as_the_model_asks(
    threshold_segmenter: Callable[..., Segmenter],
) -> None:
    """One of eight flips is certain of the background, seven are mildly for label 1.

    The mean logit of the background, (20 - 7 * 1.5) / 8, is positive; its mean probability,
    (1 + 7 / (1 + e^1.5)) / 8 = 0.28, is below one half.
    """

    class Contrary(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            unflipped = bool(x[0, 0, 0, 0, 0] == x.min())
            margin = torch.full_like(x[:, :1], 20.0 if unflipped else -1.5)
            return torch.cat((margin, torch.zeros_like(margin), torch.full_like(margin, -1e3)), dim=1)

    found = {}
    for average in ("logits", "probabilities"):
        rules = Inference((4, 4, 4), mirror_axes=(0, 1, 2), average=average)
        card = threshold_segmenter(Preprocessing("input", normalization=(Normalization("none"),)), rules).card
        segmenter = Segmenter(card, device="cpu", mirror=True)
        segmenter.use_network(Contrary())
        found[average] = set(np.unique(segmenter.segment([ramp((4, 4, 4))]).voxels))
    assert found == {"logits": {0}, "probabilities": {1}}


def test_notices_tell_what_may_spoil_a_result(threshold_segmenter: Callable[..., Segmenter]) -> None:
    """A sagittal series, in a region, for an unverified model that takes whole images as they are stored."""
    sagittal = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    segmenter = threshold_segmenter(Preprocessing("input"), Inference((8, 8, 8)))
    volume, whole = ramp((6, 6, 6), direction=sagittal), ramp((6, 6, 6))
    assert segmenter.segment([whole]).provenance["notices"] == []

    segmenter.card = replace(segmenter.card, not_known=("The spacing is not stated.",))
    notices = segmenter.segment([volume], roi=Region.from_ras(-9, -9, -9, 9, 9, 9)).provenance["notices"]
    assert [notice.split(". ")[0] for notice in notices] == [
        "This model is unverified, since not everything about it is known: check the result",
        "volume is not stored as axial slices, and this model takes images as they are stored",
        "The intensities were normalised within the region, while the model was trained on whole images",
    ]


def test_a_patch_size_that_does_not_fit_the_network_is_told_as_such(
    threshold_segmenter: Callable[..., Segmenter],
) -> None:
    segmenter = threshold_segmenter(Preprocessing("input"), Inference((8, 8, 10), pad_to_patch=True))
    unet = {"features_per_stage": [2, 2], "kernel_sizes": [[3] * 3] * 2, "strides": [[1] * 3, [4] * 3]}
    unet |= {"n_conv_per_stage": [1, 1], "n_conv_per_stage_decoder": [1], "in_channels": 1, "classes": 3}
    segmenter.use_network(build("plain_conv_unet", unet))
    with pytest.raises(ModelError, match=r"patch size of 'tiny-1' does not fit its network\..*multiples of 4 x 4 x 4"):
        segmenter.segment([ramp((6, 6, 6))])
