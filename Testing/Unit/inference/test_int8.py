"""Int8: calibrated on each volume, used where it finds the labels of float32, the same in every run, and recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from LightSegLib.batch.case_processor import CaseProcessor
from LightSegLib.batch.settings import Batch, Settings, model_sha256
from LightSegLib.catalog.card import Inference
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import DeviceError
from LightSegLib.evaluation.reproduction import reproduce
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.imaging.writers import write_segmentation
from LightSegLib.inference.backends import accelerate, backend_choice, openvino_runner
from LightSegLib.inference.backends.accelerate import Model
from LightSegLib.inference.backends.quantization import observing, quantized, with_zero
from LightSegLib.inference.calibrated import LEAST_TILES, chosen_tiles, without_int8
from LightSegLib.inference.int8 import Quantized, _labels, _sizes, calibration_memory, quantize
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.plan import ExecutionPlan, make_sampler
from LightSegLib.inference.processing.preprocess import prepare
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.networks.linear_head import Head
from torch import Tensor, nn

CPU = torch.device("cpu")


class Steps(nn.Module):
    """Label 1 where the input is above 0, computed by three convolutions; the second sees the input plus `offset`."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv3d(1, 2, 1), nn.Conv3d(2, 2, 1), nn.Conv3d(2, 3, 1)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1, 1))
            self.first.bias.copy_(torch.tensor([offset, -offset]))
            self.second.weight.copy_(torch.eye(2).view(2, 2, 1, 1, 1))
            self.second.bias.zero_()
            self.last.weight.copy_(torch.tensor([[-1.0, 1.0], [1.0, -1.0], [0.0, 0.0]]).view(3, 2, 1, 1, 1))
            self.last.bias.copy_(torch.tensor([2.0 * offset, -2.0 * offset, -9.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x)))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has OpenVINO and a folder of his own, and networks that are large enough."""
    monkeypatch.setattr(accelerate, "user_folder", lambda: tmp_path / "home")
    monkeypatch.setattr(backend_choice, "LITTLE_WORK", 0)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    return tmp_path / "home"


@pytest.fixture
def openvino(without_openvino: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a processor on which the precision auto computes by OpenVINO in float32."""
    monkeypatch.setattr(openvino_runner, "installed", lambda: "of any version")
    monkeypatch.setattr(backend_choice, "_instructions", lambda: ["AVX2"])


@pytest.fixture
def with_network(tiny_model: Path) -> Callable[..., Segmenter]:
    """Makes a segmenter in int8 with tiles of 8 voxels, as if its weights file held this network."""

    def make(network: nn.Module, precision: str = "int8", patch: int = 8) -> Segmenter:
        card = replace(find_card(tiny_model), inference=Inference((patch,) * 3))
        segmenter = Segmenter(card, InferenceOptions("cpu", precision))
        segmenter.use_network(network.eval(), identity="a" * 64)
        return segmenter

    return make


def boxes(seed: int = 0) -> Volume:
    """Two tissues with noise, of which either is a good part."""
    random = np.random.default_rng(seed)
    voxels = 100 * (np.indices((20, 20, 20)).sum(axis=0) // 7 % 2) + random.normal(size=(20, 20, 20))
    return Volume(voxels.astype(np.float32), Geometry(voxels.shape))


def test_a_range_has_zero_as_one_of_its_256_steps() -> None:
    """By hand: from -1 to 4 zero is step 51 of 255, which is exact; from -1 to 3 it is step 64, so -1 is widened."""
    assert with_zero(-1, 4) == pytest.approx((-1, 4))
    assert with_zero(-1, 3) == pytest.approx((-64 * 3 / 191, 3))
    assert with_zero(0.5, 4) == (0, 4)
    assert with_zero(-4, -1) == pytest.approx((-4, 0))
    assert with_zero(0, 0)[1] > 0


def test_convolutions_but_the_first_and_the_last_are_computed_of_rounded_numbers(openvino: None, home: Path) -> None:
    """Beside numpy: what goes into the second convolution has steps, and so do its kernels."""
    network = Steps()
    with torch.no_grad():
        network.second.weight.copy_(torch.tensor([[1.0, 0.303], [-0.5, 0.2]]).view(2, 2, 1, 1, 1))
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    model = openvino_runner.opened(network, x.shape, home, "name")
    logits, low, high = openvino_runner.with_outputs(observing(model), 1)(x)
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(logits), network(x), rtol=0, atol=1e-5)
    largest = float(x.abs().max())
    assert (float(low), float(high)) == pytest.approx((-largest, largest))

    least, most = with_zero(-largest, largest)
    step = (most - least) / 255
    inputs = np.stack([x[0, 0].numpy(), -x[0, 0].numpy()])
    inputs = np.round((np.clip(inputs, least, most) - least) / step) * step + least
    kernels = np.array([[1, round(0.303 * 127) / 127], [-0.5, 0.2]])
    kernels[1] = np.round(kernels[1] / 0.5 * 127) / 127 * 0.5
    middle = np.einsum("oc,ckji->okji", kernels, inputs)
    expected = np.stack([middle[1] - middle[0], middle[0] - middle[1], np.full((8, 8, 8), -9.0)])
    (found,) = openvino_runner.with_outputs(quantized(model, [(float(low), float(high))]), 1)(x)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=2 * step)
    assert np.abs(found[0] - expected).mean() < 0.02 * step < np.abs(found[0] - logits[0]).mean()


def test_where_it_finds_the_labels_of_float32_it_computes_and_the_record_says_so(
    openvino: None, with_network: Callable[..., Segmenter]
) -> None:
    volume = boxes()
    expected = with_network(Steps(), "float32").segment([volume])
    found = with_network(Steps()).segment([volume])
    assert found.provenance["computed_in"] == "OpenVINO int8" and found.provenance["notices"] == []
    assert found.provenance["int8"]["mean_dice"] >= 0.995 and found.provenance["int8"]["compared_tiles"] == 4
    assert np.mean(found.voxels == expected.voxels) > 0.99 and len(np.unique(found.voxels)) == 2


def test_other_labels_than_those_of_float32_are_not_taken(
    openvino: None, with_network: Callable[..., Segmenter]
) -> None:
    """256 steps from 0 to 1000 do not tell -1 from 1."""
    volume = boxes()
    expected = with_network(Steps(1000.0), "OpenVINO float32").segment([volume])
    found = with_network(Steps(1000.0)).segment([volume])
    assert found.provenance["computed_in"] == "OpenVINO float32"
    assert found.provenance["int8"]["mean_dice"] < 0.995
    (notice,) = found.provenance["notices"]
    assert "does not find the labels of float32" in notice
    assert np.array_equal(found.voxels, expected.voxels)


def test_volumes_before_it_threads_and_what_was_kept_change_no_voxel(
    openvino: None, with_network: Callable[..., Segmenter], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a probability, which shows every digit: after another volume, and with a home that keeps nothing."""
    volume, network, seen = boxes(), Steps(), set()
    monkeypatch.setattr("LightSegLib.inference.threads.cores", lambda: 3)
    before = torch.get_num_threads()
    try:
        for threads, others in ((1, []), (3, [boxes(5)]), (2, [])):
            torch.set_num_threads(threads)
            segmenter = with_network(network)
            segmenter.options = replace(segmenter.options, confidence=True)
            found = [segmenter.segment([one]) for one in (*others, volume)][-1]
            assert found.provenance["computed_in"] == "OpenVINO int8"
            seen.add((found.voxels.tobytes(), found.confidence.tobytes()))
        home.rename(home.with_name("before"))
        home.write_text("a file", encoding="utf-8")
        found = with_network(network).segment([volume])
        assert {found.voxels.tobytes()} == {labels for labels, _ in seen}
    finally:
        torch.set_num_threads(before)
    assert len(seen) == 1


def test_a_result_in_int8_is_reproduced(
    openvino: None, tmp_path: Path, with_network: Callable[..., Segmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process it would be calibrated again, on the same volume, with the same outcome."""
    volume = boxes()
    segmenter = with_network(Steps())
    path = tmp_path / "result.seg.nrrd"
    write_segmentation(segmenter.segment([volume]), path)
    asked: list[InferenceOptions] = []

    def again(card: object, options: InferenceOptions) -> Segmenter:
        asked.append(options)
        return with_network(Steps(), options.precision)

    monkeypatch.setattr("LightSegLib.evaluation.reproduction.Segmenter", again)
    found = reproduce(path, [volume], str(segmenter.card.folder))
    assert asked[0].precision == "OpenVINO int8"
    assert (found.different, found.changes) == (0, [])


def air_below() -> Volume:
    """The lowest of the four heights shows nothing."""
    voxels = boxes().voxels.copy()
    voxels[:8] = 0
    return Volume(voxels, Geometry(voxels.shape))


def one_corner() -> Volume:
    """All air but for a cube in one of the tiles."""
    voxels = np.zeros((20, 20, 20), np.float32)
    voxels[:3, :3, :3] = np.arange(27).reshape(3, 3, 3)
    return Volume(voxels, Geometry(voxels.shape))


@pytest.mark.parametrize(("volume", "patch"), [(boxes, 16), (air_below, 8), (one_corner, 8)])
def test_a_volume_of_few_tiles_or_of_air_is_computed_as_by_default(
    openvino: None,
    with_network: Callable[..., Segmenter],
    monkeypatch: pytest.MonkeyPatch,
    volume: Callable[[], Volume],
    patch: int,
) -> None:
    """On a processor on which nothing is known to be faster than float32."""
    monkeypatch.setattr(backend_choice, "_instructions", list)
    segmenter = with_network(Steps(), patch=patch)
    assert segmenter.backend() == "OpenVINO int8"
    found = segmenter.segment([volume()])
    assert found.provenance["computed_in"] == "float32" and "int8" not in found.provenance
    assert f"volumes of at least {LEAST_TILES} tiles" in found.provenance["notices"][0]


def test_tiles_that_it_was_not_calibrated_on_must_agree_by_themselves(openvino: None) -> None:
    """By hand: of 2 x 110 voxels of label 1 in the held-out tiles 2 x 5 are lost, of 2 x 500 in the others none."""
    network = Steps().eval()
    with torch.no_grad():
        network.last.bias[0] = 1e-5  # what becomes 0 is no label 1
    tiles = []
    for labeled, faint in ((500, 0), (110, 5), (500, 0), (110, 5)):
        x = torch.full((512,), -1.0)
        x[:labeled] = 1
        x[:faint] = 1e-4  # far less than a step
        tiles.append(x.view(1, 1, 8, 8, 8))
    found = quantize(Model([network], 1, (8, 8, 8), "a" * 64), tiles, 1, lambda: None)
    assert found.dice == pytest.approx(2 * 210 / (220 + 210))
    assert 2 * 1210 / (1220 + 1210) > 0.995, "which all four together would have"


def test_where_memory_is_for_one_tile_at_a_time_it_is_calibrated_so(
    openvino: None, with_network: Callable[..., Segmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_a_time: list[int] = []

    def seen(model: Model, tiles: list[Tensor], threads: int, check_canceled: Callable[[], None]) -> Quantized:
        at_a_time.append(threads)
        return quantize(model, tiles, threads, check_canceled)

    monkeypatch.setattr("LightSegLib.inference.calibrated.quantize", seen)
    monkeypatch.setattr("LightSegLib.inference.threads.cores", lambda: 3)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        plenty = with_network(Steps()).segment([boxes()])
        one = ExecutionPlan(CPU, 1)
        monkeypatch.setattr("LightSegLib.inference.plan.execution_plans", lambda *_, **__: [one])
        short = with_network(Steps()).segment([boxes()])
    finally:
        torch.set_num_threads(before)
    assert at_a_time == [3, 1]
    assert np.array_equal(plenty.voxels, short.voxels)


def test_many_outputs_are_decided_a_few_rows_at_a_time() -> None:
    """Beside a convolution of all rows at once; and so are regions."""

    class FewRows(Head):
        def __call__(self, features: Tensor) -> Tensor:
            assert features.shape[2] <= 8
            return super().__call__(features)

    random = torch.Generator().manual_seed(0)
    weight, features = (torch.randn(size, generator=random) for size in ((20, 2), (1, 2, 19, 4, 5)))
    expected = nn.functional.conv3d(features, weight.view(20, 2, 1, 1, 1))
    model = Model([], 1, (19, 4, 5), None, head=FewRows(weight, None))
    assert torch.equal(_labels(model, features), expected.argmax(1).flatten().short())
    by_region = _labels(replace(model, regions=True), features)
    assert by_region.bincount()[1:].tolist() == (expected > 0).sum(dim=(0, 2, 3, 4)).tolist()


def test_calibration_needs_memory_for_its_tiles_their_labels_and_its_models() -> None:
    """By hand: 6 weights of 4 bytes, five times; four tiles of 512 voxels with 4 bytes of input and 2 of a label."""
    model = Model([nn.Conv3d(1, 3, 1)], 1, (8, 8, 8), None)
    assert calibration_memory(model, (8, 8, 8), 3) == 5 * 6 * 4 + 4 * 512 * (4 + 2)
    assert calibration_memory(replace(model, regions=True), (8, 8, 8), 3) == 5 * 6 * 4 + 4 * 512 * (4 + 3 * 2)


def test_without_openvino_the_automatic_choice_computes_and_the_user_reads_how_to_get_it(
    without_openvino: None, with_network: Callable[..., Segmenter]
) -> None:
    found = with_network(Steps()).segment([boxes()])
    assert not found.provenance["computed_in"].startswith("OpenVINO")
    assert any("pip install openvino" in notice for notice in found.provenance["notices"])
    with pytest.raises(DeviceError, match="Choose the precision float32"):
        with_network(Steps(), "OpenVINO int8").segment([boxes()])


@pytest.mark.parametrize("installed", ["of any version", None])
def test_a_small_model_is_computed_as_by_default_and_nothing_is_to_be_installed(
    openvino: None, with_network: Callable[..., Segmenter], monkeypatch: pytest.MonkeyPatch, installed: str | None
) -> None:
    monkeypatch.setattr(openvino_runner, "installed", lambda: installed)
    monkeypatch.setattr(backend_choice, "LITTLE_WORK", 10**9)
    found = with_network(Steps()).segment([boxes()])
    assert found.provenance["computed_in"] == "float32"
    (notice,) = found.provenance["notices"]
    assert "int8 is for large models" in notice


def test_nor_for_a_model_on_a_graphics_card_or_one_that_sees_an_image_at_once(without_openvino: None) -> None:
    (notice,) = without_int8(InferenceOptions("auto", "int8"), "float16", None)
    assert "computed in float16: int8 is for large models" in notice


def test_a_batch_that_does_not_compute_in_int8_says_so_in_each_case(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_choice, "LITTLE_WORK", 10**12)
    processor, sha256 = CaseProcessor(), model_sha256(find_card(tiny_model))
    for precision, said in (("int8", 1), ("auto", 0)):
        batch = Batch(str(tiny_model), sha256, tmp_path, Settings(InferenceOptions("cpu", precision)))
        decided = replace(batch, backend=processor.backend(batch))
        found = processor.segment([boxes()], decided, 1, print)
        assert found.provenance["computed_in"] == "float32"
        assert sum("The batch was computed in float32" in text for text in found.provenance["notices"]) == said


def test_a_batch_knows_beforehand_that_it_computes_in_int8(
    openvino: None, with_network: Callable[..., Segmenter]
) -> None:
    segmenter = with_network(Steps())
    assert segmenter.backend() == "OpenVINO int8"
    alone = segmenter.segment([boxes()])
    in_batch = with_network(Steps(), "OpenVINO int8").segment([boxes()])
    assert np.array_equal(alone.voxels, in_batch.voxels) and in_batch.provenance["computed_in"] == "OpenVINO int8"


def test_tiles_to_compare_come_from_all_heights_and_none_is_air(with_network: Callable[..., Segmenter]) -> None:
    """The lower half is air; in the upper one a corner has a larger contrast."""
    voxels = boxes().voxels.copy()
    voxels[:9, 4:] = 0
    voxels[12:, 12:, 12:] *= 5
    card = with_network(Steps()).card
    prepared = prepare([Volume(voxels, Geometry(voxels.shape))], card.preprocessing, None)
    tiles = chosen_tiles(prepared, make_sampler(prepared, card.inference))
    assert len(tiles) == 4 and all(tile.shape == (1, 1, 8, 8, 8) for tile in tiles)
    assert all(float(tile.std()) > 0 for tile in tiles)
    assert len({tile.numpy().tobytes() for tile in tiles}) == 4


def test_voxels_are_counted_by_label() -> None:
    """By hand: label 2 has two voxels here, three there, and one in both."""
    counts = _sizes(torch.tensor([0, 1, 2, 2], dtype=torch.short), torch.tensor([2, 2, 2, 0], dtype=torch.short))
    assert counts[:, :3].tolist() == [[1, 2, 0], [0, 3, 0], [0, 1, 0]]


def test_a_network_that_openvino_cannot_compute_in_int8_is_refused_in_a_sentence(
    openvino: None, with_network: Callable[..., Segmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("Exception from core.cpp:117:\nNo suitable implementations.")

    monkeypatch.setattr("LightSegLib.inference.int8.quantized", refused)
    with pytest.raises(DeviceError, match=r"OpenVINO cannot run this model \(No suitable implementations"):
        with_network(Steps()).segment([boxes()])


def test_a_last_convolution_that_takes_time_is_rounded_too(home: Path) -> None:
    """As where the layer that makes outputs is computed later, on the sums of features."""
    for kernel, rounded in ((1, 1), (3, 2)):
        network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv3d(2, 2, 3), nn.Conv3d(2, 2, kernel)).eval()
        model = openvino_runner.opened(network, (1, 1, 8, 8, 8), home, f"kernel-{kernel}")
        assert len(observing(model).outputs) == 1 + 2 * rounded
