"""The one way in: labels that come back at their place, progress, canceling, memory, devices, notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from LightSegLib.catalog.card import Inference, Normalization, Preprocessing
from LightSegLib.core.errors import Canceled, DeviceError, InputError, ModelError
from LightSegLib.core.progress import Progress
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.labeling import _Evaluation
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.networks import build
from run_options import with_confidence
from threshold_network import Threshold
from torch import nn

OBLIQUE = tuple(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix())
LEFT_HANDED = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


def ramp(shape: tuple[int, int, int], **geometry: Sequence[float]) -> Volume:
    return Volume(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), Geometry(shape, **geometry))  # type: ignore[arg-type]


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
    """An oblique, anisotropic ball of known center and radius, in world coordinates."""
    geometry = Geometry((24, 40, 36), (1.1, 0.9, 2.0), (-10.0, 20.0, 5.0), OBLIQUE)
    k, j, i = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")
    world = np.stack((i, j, k, np.ones_like(i)), -1) @ geometry.index_to_world[:3].T
    center = np.array((18.0, 19.0, 12.0, 1.0)) @ geometry.index_to_world[:3].T
    distance = np.linalg.norm(world - center, axis=-1)
    volume = Volume((12 - distance).astype(np.float32), geometry)
    rule = Preprocessing("RAS", spacing=(1.5, 1.5, 1.5), normalization=(Normalization("none"),))
    result = threshold_segmenter(rule, Inference((16, 16, 16))).segment([volume])
    found = world[result.voxels == 1]
    np.testing.assert_allclose(found.mean(axis=0), center, atol=0.1)
    assert result.volumes_ml()[result.labels[0].name] == pytest.approx(4 / 3 * np.pi * 12**3 / 1000, rel=0.02)


def test_a_sheared_grid_is_refused(threshold_segmenter: Callable[..., Segmenter]) -> None:
    sheared = Geometry((4, 4, 4), direction=(1.0, 0, 0, 0, 1.0, 0.5, 0, 0, 0.866))
    with pytest.raises(InputError, match="sheared"):
        threshold_segmenter(Preprocessing()).segment([ramp((4, 4, 4), direction=sheared.direction)])


def test_outside_the_region_is_background_and_a_region_elsewhere_is_refused(
    threshold_segmenter: Callable[..., Segmenter],
) -> None:
    values = np.random.default_rng(1).normal(size=(12, 12, 12)).astype(np.float32)
    segmenter = threshold_segmenter(Preprocessing("RAS", normalization=(Normalization("none"),)))
    volume = Volume(values, Geometry((12, 12, 12)))
    inside = (slice(2, 9), slice(1, 6), slice(4, 12))
    result = segmenter.segment([volume], roi=RegionOfInterest.from_ras(-4, -1, 2, -20, -5, 8)).voxels
    np.testing.assert_array_equal(result[inside], values[inside] > 0)
    assert result.sum() == (values[inside] > 0).sum()
    with pytest.raises(InputError, match="outside the volume"):
        segmenter.segment([volume], roi=RegionOfInterest.from_ras(50, 50, 50, 60, 60, 60))


def test_progress_counts_tiles(threshold_segmenter: Callable[..., Segmenter]) -> None:
    segmenter = threshold_segmenter(Preprocessing("RAS"), Inference((8, 8, 8), overlap=0.0))
    volume = ramp((16, 16, 16))
    reports: list[Progress] = []
    segmenter.segment([volume], progress=reports.append)
    tiles = [(report.tile, report.tiles) for report in reports if report.step == "Segmenting"]
    assert tiles == [(n, 8) for n in range(9)]
    assert all(report.seconds_left is not None for report in reports if report.tile)


def test_cancel_stops_after_the_tiles_that_have_begun(threshold_segmenter: Callable[..., Segmenter]) -> None:
    """Canceled at the second of 64 tiles: what is in the threads, and one tile that waits, may still be computed."""
    calls = 0

    class Counting(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            return super().forward(x)

    segmenter = threshold_segmenter(Preprocessing("RAS"), Inference((8, 8, 8), overlap=0.0))
    network = Counting()
    segmenter.use_network(network)
    segmenter.segment([ramp((8, 8, 8))])  # what is measured before the first tile is over
    calls = 0
    with pytest.raises(Canceled):
        segmenter.segment([ramp((32, 32, 32))], canceled=lambda: calls >= 2)
    assert 2 <= calls <= 2 + torch.get_num_threads() + 1


def test_cancel_stops_before_the_next_mirror_image_of_a_tile() -> None:
    """The network is asked to stop while it computes the second of eight."""
    calls, stopped = 0, threading.Event()

    def network(tiles: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            stopped.set()
        return tiles

    rules = Inference((8, 8, 8), mirror_axes=(0, 1, 2))
    evaluate = _Evaluation(network, rules, torch.device("cpu"), stopped)
    with pytest.raises(Canceled):
        evaluate([torch.arange(8.0**3).view(1, 8, 8, 8)])
    assert calls == 2


def test_a_gpu_that_lacks_an_operation_hands_over_to_the_cpu(
    threshold_segmenter: Callable[..., Segmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's meta device represents the GPU: it takes the tensors and refuses the work."""

    class Picky(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.device.type != "cpu":
                raise NotImplementedError("max_pool3d is not implemented for this device")
            return super().forward(x)

    monkeypatch.setattr("LightSegLib.inference.backends.devices.choose_device", lambda name: torch.device("meta"))
    segmenter = threshold_segmenter(Preprocessing("RAS", normalization=(Normalization("none"),)))
    segmenter.use_network(Picky())
    values = np.random.default_rng(4).normal(size=(9, 9, 9)).astype(np.float32)
    result = segmenter.segment([Volume(values, Geometry((9, 9, 9)))])
    np.testing.assert_array_equal(result.voxels, values > 0)
    assert "CPU" in result.provenance["notices"][0]


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
    """A network that favors one end of an axis loses its preference when averaged over the flips."""

    class Biased(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            ramp = torch.linspace(-1, 1, x.shape[-1]).expand_as(x)
            return torch.cat((torch.full_like(x, 0.25), ramp, torch.full_like(x, -9)), dim=1)

    base = threshold_segmenter(Preprocessing("RAS"), Inference((8, 8, 8), mirror_axes=(2,)))
    for mirror, expected in ((False, True), (True, False)):
        segmenter = Segmenter(base.card, InferenceOptions(device="cpu", precision="float32", mirror=mirror))
        segmenter.use_network(Biased())
        assert bool(segmenter.segment([ramp((8, 8, 8))]).voxels.any()) is expected


def test_an_unavailable_device_is_refused_with_a_choice(threshold_segmenter: Callable[..., Segmenter]) -> None:
    base = threshold_segmenter(Preprocessing("RAS"))
    segmenter = Segmenter(base.card, InferenceOptions(device="cuda:97"))
    segmenter.use_network(Threshold())
    with pytest.raises(DeviceError, match="Choose"):
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
        segmenter = Segmenter(card, InferenceOptions(device="cpu", precision="float32", mirror=True))
        segmenter.use_network(Contrary())
        found[average] = set(np.unique(segmenter.segment([ramp((4, 4, 4))]).voxels))
    assert found == {"logits": {0}, "probabilities": {1}}


def test_notices_show_what_may_spoil_a_result(threshold_segmenter: Callable[..., Segmenter]) -> None:
    """A sagittal series, in a region, for an unverified model that takes whole images as they are stored."""
    sagittal = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    segmenter = threshold_segmenter(Preprocessing("input"), Inference((8, 8, 8), mirror_axes=(0, 1, 2)))
    volume, whole = ramp((6, 6, 6), direction=sagittal), ramp((6, 6, 6))
    assert segmenter.segment([whole]).provenance["notices"] == []

    segmenter.card = replace(segmenter.card, assumptions=("The spacing is not stated.",))
    notices = segmenter.segment([volume], roi=RegionOfInterest.from_ras(-9, -9, -9, 9, 9, 9)).provenance["notices"]
    assert [notice.split(". ")[0] for notice in notices] == [
        "This model is unverified because some of its properties are not known: check the result",
        "volume is not stored as axial slices, and this model uses images as they are stored",
        "The intensities were normalized within the region of interest, but the model was trained on whole images",
    ]


def test_what_was_done_to_read_a_volume_is_in_its_result(
    threshold_segmenter: Callable[..., Segmenter], noise: Volume
) -> None:
    read = replace(noise, reading={"format": "DICOM", "frames": 12}, notices=("It was straightened.",))
    segmenter = threshold_segmenter(Preprocessing(normalization=(Normalization("none"),)))
    provenance = segmenter.segment([read]).provenance
    assert provenance["reading"] == [read.reading] and "It was straightened." in provenance["notices"]
    assert "reading" not in segmenter.segment([noise]).provenance


def test_a_patch_size_that_does_not_fit_the_network_is_reported_as_such(
    threshold_segmenter: Callable[..., Segmenter],
) -> None:
    segmenter = threshold_segmenter(Preprocessing("input"), Inference((8, 8, 10), pad_to_patch=True))
    unet = {"features_per_stage": [2, 2], "kernel_sizes": [[3] * 3] * 2, "strides": [[1] * 3, [4] * 3]}
    unet |= {"n_conv_per_stage": [1, 1], "n_conv_per_stage_decoder": [1], "in_channels": 1, "classes": 3}
    segmenter.use_network(build("plain_conv_unet", unet))
    with pytest.raises(ModelError, match=r"patch size of 'tiny-1' does not fit its network \(.*multiples of 4 x 4 x 4"):
        segmenter.segment([ramp((6, 6, 6))])


# --- memory --------------------------------------------------------------------------------------


@pytest.fixture
def two_threads() -> Iterator[None]:
    """For two tiles at a time."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def refused_above(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the computer seem to have this many bytes left."""
    monkeypatch.setattr("LightSegLib.inference.memory.available_memory", lambda device: limit)


def test_with_less_memory_the_same_result_takes_another_way_and_the_numbers_are_reported(
    threshold_segmenter: Callable[..., Segmenter], two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First a tile in each thread, then one at a time, then with sums on disk; then a refusal."""
    monkeypatch.setattr("LightSegLib.inference.processing.preprocess.SLAB_BYTES", 0)
    values = np.random.default_rng(5).normal(size=(80, 120, 120)).astype(np.float32)
    volume = Volume(values, Geometry(values.shape))
    segmenter = threshold_segmenter(Preprocessing("RAS", normalization=(Normalization("none"),)), Inference((64,) * 3))
    needed, ways = [], []
    limit = 10**12
    for _ in range(3):
        refused_above(limit, monkeypatch)
        result = segmenter.segment([volume])
        np.testing.assert_array_equal(result.voxels, values > 0)
        needed.append(result.provenance["memory_estimate_mb"])
        ways.append(result.provenance["notices"])
        limit = needed[-1] * 10**6 - 10**6
    assert needed[0] > needed[1] > needed[2]
    assert ways[0] == []
    assert "a slower method was used: on cpu, one tile at a time" in ways[1][0] and "on disk" in ways[2][0]

    refused_above(limit, monkeypatch)
    with pytest.raises(DeviceError, match=r"about \d+ MB are needed, \d+ MB are free.*smaller region"):
        segmenter.segment([volume])


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("spacing", "grid"), [(1000.0, "20000 x 20000 x 20000"), (0.001, "1 x 1 x 1")])
def test_a_spacing_that_cannot_be_right_is_refused_and_named(
    threshold_segmenter: Callable[..., Segmenter], first: bool, spacing: float, grid: str
) -> None:
    """Millimeters taken for meters, and meters for millimeters."""
    volume = ramp((20, 20, 20), spacing=(spacing,) * 3)
    rules = Preprocessing("RAS", spacing=(1.0, 1.0, 1.0), normalize_first=first)
    with pytest.raises(InputError, match=rf"voxels of {spacing:g} x .* mm, .* 1 x 1 x 1 mm, would get {grid} voxels"):
        threshold_segmenter(rules, Inference((64, 64, 64))).segment([volume])


@pytest.mark.parametrize("first", [True, False])
def test_a_volume_for_which_the_memory_is_too_small_is_refused_with_the_numbers(
    threshold_segmenter: Callable[..., Segmenter], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in ("memory", "processing.preprocess"):
        monkeypatch.setattr(f"LightSegLib.inference.{user}.free_memory", lambda: 3_000_000)
    rules = Preprocessing("RAS", spacing=(0.2, 0.2, 0.2), normalize_first=first)
    with pytest.raises(DeviceError, match=r"too little memory .*MB are needed.*3 MB are free"):
        threshold_segmenter(rules, Inference((64, 64, 64))).segment([ramp((20, 20, 20))])


def test_when_memory_runs_out_all_the_same_tiles_run_one_by_one(
    threshold_segmenter: Callable[..., Segmenter], two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("LightSegLib.inference.memory.SMALL", 0)  # the estimate does not see the whole tile
    arrived = threading.Event()

    class Hungry(Threshold):
        """Too large for two at a time: the second thread finds no memory while the first has its own."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            thread = threading.current_thread().name
            if thread.endswith("_1"):
                arrived.set()
                raise torch.OutOfMemoryError("CUDA out of memory")
            assert thread == "MainThread" or arrived.wait(60)
            return super().forward(x)

    class Starving(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x[0].numel() == 8**3:
                raise MemoryError
            return super().forward(x)

    values = np.random.default_rng(3).normal(size=(16, 16, 16)).astype(np.float32)
    segmenter = threshold_segmenter(Preprocessing("RAS", normalization=(Normalization("none"),)))
    segmenter.use_network(Hungry())
    result = segmenter.segment([Volume(values, Geometry((16, 16, 16)))])
    np.testing.assert_array_equal(result.voxels, values > 0)
    assert "one tile at a time" in result.provenance["notices"][0]
    segmenter.use_network(Starving())
    with pytest.raises(DeviceError, match=r"were not enough.*smaller region"):
        segmenter.segment([Volume(values, Geometry((16, 16, 16)))])


def test_air_around_the_body_is_computed_once(
    threshold_segmenter: Callable[..., Segmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clipping makes it one value; of 4 x 4 x 4 tiles, 4 hold the body."""
    monkeypatch.setattr("LightSegLib.inference.memory.SMALL", 0)  # the estimate takes no tile of this size
    computed = 0

    class Counting(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            nonlocal computed
            computed += len(x) if x.shape[2:] == (8, 8, 8) else 0
            return super().forward(x)

    values = np.random.default_rng(6).normal(-1000, 10, (32, 32, 32)).astype(np.float32)
    values[:, 10:14, 10:14] = 40
    rule = Preprocessing("input", normalization=(Normalization("ct", -200, 300, 0, 100),))
    segmenter = threshold_segmenter(rule, Inference((8, 8, 8), overlap=0.0))
    segmenter.use_network(Counting())
    result = segmenter.segment([Volume(values, Geometry((32, 32, 32)))])
    np.testing.assert_array_equal(result.voxels, values > 0)
    assert computed == 4 + 1


# --- confidence ----------------------------------------------------------------------------------


def test_confidence_is_the_softmax_of_the_chosen_label(threshold_segmenter: Callable[..., Segmenter]) -> None:
    """Logits -x, x and -1000: two labels share the probability, by the closed form; outside the region it is 0."""
    values = np.random.default_rng(1).normal(size=(12, 12, 12)).astype(np.float32)
    volume = Volume(values, Geometry((12, 12, 12)))
    segmenter = threshold_segmenter(Preprocessing("RAS", normalization=(Normalization("none"),)))
    inside = (slice(2, 9), slice(1, 6), slice(4, 12))

    result = with_confidence(segmenter).segment([volume], roi=RegionOfInterest.from_ras(-4, -1, 2, -20, -5, 8))

    assert result.confidence is not None and result.confidence.dtype == np.uint8
    np.testing.assert_allclose(result.confidence[inside], 100 / (1 + np.exp(-2 * np.abs(values[inside]))), atol=0.51)
    assert np.count_nonzero(result.confidence) == values[inside].size
    segmenter.options = replace(segmenter.options, confidence=False)
    assert segmenter.segment([volume]).confidence is None


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_confidence_of_regions_is_that_of_the_last_that_painted(
    threshold_segmenter: Callable[..., Segmenter], average: str
) -> None:
    """Outputs -x, x and -1000 paint the labels 2, 1 and none: where one is likely the other is not."""
    values = np.random.default_rng(2).normal(size=(8, 8, 8)).astype(np.float32)
    rules = Inference((8, 8, 8), regions=(2, 1, 1), average=average)  # type: ignore[arg-type]
    segmenter = threshold_segmenter(Preprocessing("RAS", normalization=(Normalization("none"),)), rules)

    result = with_confidence(segmenter).segment([Volume(values, Geometry((8, 8, 8)))])

    np.testing.assert_array_equal(result.voxels, np.where(values > 0, 1, 2))
    np.testing.assert_allclose(result.confidence, 100 / (1 + np.exp(-np.abs(values))), atol=0.51)


def test_what_the_largest_component_rule_removes_is_as_unsure_as_its_label_was_sure(
    threshold_segmenter: Callable[..., Segmenter],
) -> None:
    values = np.full((8, 8, 8), -1.0, np.float32)
    values[1:4, 1:4, 1:4] = 1.0
    values[6, 6, 6] = 2.0
    rules = Inference((8, 8, 8), largest_component="whole")
    segmenter = threshold_segmenter(Preprocessing("RAS", normalization=(Normalization("none"),)), rules)

    result = with_confidence(segmenter).segment([Volume(values, Geometry((8, 8, 8)))])

    assert result.voxels[6, 6, 6] == 0 and result.confidence is not None
    assert result.confidence[6, 6, 6] == pytest.approx(100 - 100 / (1 + np.exp(-4)), abs=0.51)
