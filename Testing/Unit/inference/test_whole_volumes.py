"""A network over a whole volume in bounded memory: the numbers of the whole volume at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

import numpy as np
import pytest
import torch
from LightSegLib.catalog.card import Inference
from LightSegLib.core.progress import Reporter
from LightSegLib.inference.by_layers import ByLayers
from LightSegLib.inference.by_rows import ByRows, Computer
from LightSegLib.inference.labeling import InferenceResult
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.row_boxes import computed, filled, row_boxes, whole
from LightSegLib.inference.row_layers import row_layers
from LightSegLib.inference.threads import InlineExecutor, one_thread_each, pool
from LightSegLib.inference.whole_image import Report, WholeImage, run_whole_image
from LightSegLib.networks.cpu.winograd import Scratch
from LightSegLib.networks.meshnet import MeshNet
from torch import nn

AIR = 0.25
SHAPE = (40, 33, 37)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As where a model is run."""
    with one_thread_each():
        yield


def network(norm: str, dilations: tuple[int, ...] = (1, 2, 4, 2, 1), activation: str = "elu") -> MeshNet:
    torch.manual_seed(0)
    made = MeshNet(1, 3, 4, dilations, activation, norm, bias=norm != "instance").eval()
    if norm == "batch":
        for each in made.norms:
            each.running_mean.normal_()
            each.running_var.uniform_(0.5, 2)
    return made


def ball(shape: tuple[int, int, int], middle: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.indices(shape)
    return sum((axis - place) ** 2 for axis, place in zip(grid, middle, strict=True)) < radius**2


def image(body: np.ndarray) -> torch.Tensor:
    volume = torch.full(body.shape, AIR)
    volume[torch.from_numpy(body)] = torch.rand(int(body.sum()), generator=torch.Generator().manual_seed(1))
    return volume


class Logits:
    """What a run decides on, put together; NaN where it did not compute."""

    def __init__(self, outputs: int, shape: tuple[int, int, int]) -> None:
        self.values = torch.full((outputs, *shape), torch.nan)

    def __call__(self, logits: torch.Tensor, row: int, j: int, i: int) -> None:
        _, height, width = logits.shape
        part = self.values[:, row, j : j + height, i : i + width]
        assert part.isnan().all()  # nothing twice
        part[:] = logits


def run(
    net: MeshNet,
    volume: torch.Tensor,
    body: np.ndarray,
    executor: Executor,
    step: int = 4,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    shape = tuple(volume.shape)
    computer = Computer(executor, torch.device("cpu"), dtype, step)
    wanted, varied = row_boxes(body), row_boxes((volume != AIR).numpy())
    if net.arguments["norm"] == "instance":
        whole_volume: ByRows | ByLayers = ByLayers(net, wanted, shape, computer)
    else:
        whole_volume = ByRows(net, wanted, varied, AIR, shape, computer)
    logits, done = Logits(3, shape), []
    whole_volume.run(lambda start, stop: volume[start:stop], logits, done.append)
    assert done == sorted(done) and done[-1] == shape[0]
    return logits.values


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
@pytest.mark.parametrize(
    ("middle", "radius"), [((20, 16, 18), 5), ((20, 16, 18), 12), ((6, 30, 3), 9), ((39, 0, 18), 7), ((0, 0, 0), 99)]
)
def test_the_logits_are_those_of_the_whole_volume(norm: str, middle: tuple[int, ...], radius: int) -> None:
    net, body = network(norm), ball(SHAPE, middle, radius)
    volume = image(body)
    with torch.inference_mode():
        expected = net(volume[None, None])[0]
    found = run(net, volume, body, InlineExecutor())
    computed_there = ~found.isnan()
    assert computed_there[:, torch.from_numpy(body)].all()
    torch.testing.assert_close(found[computed_there], expected[computed_there], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("middle", [(24, 26, 25), (43, 5, 8)])
def test_air_near_the_border_of_the_volume_is_known_without_computing_it(middle: tuple[int, ...]) -> None:
    net, shape = network("none", (1, 2, 4)), (48, 52, 50)
    body = ball(shape, middle, 4)
    volume = image(body)
    with torch.inference_mode():
        expected = net(volume[None, None])[0]
    wanted = np.ones(shape, bool)  # everywhere, so that every layer is wanted at the border
    found = run(net, volume, wanted, InlineExecutor())
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    boxes = row_boxes(wanted), row_boxes(ball(shape, (24, 26, 25), 4))  # 7 rows
    layers = row_layers(net, boxes, AIR, shape, torch.empty(0), Scratch(2, 64, 64, 4))
    assert [filled(layer.boxes).sum() for layer in layers] == [7 + 2 * 1, 7 + 2 * 3, 48]


def test_other_digits_are_computed_without_quick_forms() -> None:
    net, body = network("none").double(), ball(SHAPE, (20, 16, 18), 9)
    volume = image(body)
    with torch.inference_mode():
        expected = net(volume[None, None].double())[0]
    found = run(net, volume, body, InlineExecutor(), dtype=torch.float64).double()
    inside = torch.from_numpy(body)
    torch.testing.assert_close(found[:, inside], expected[:, inside], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_threads_and_steps_change_no_digit(norm: str) -> None:
    net, body = network(norm, (4, 1, 2), "gelu"), ball(SHAPE, (20, 16, 18), 14)
    volume = image(body)
    first = run(net, volume, body, InlineExecutor())
    with pool(3) as three:
        for step in (2, 6):
            assert torch.equal(run(net, volume, body, three, step).nan_to_num(9), first.nan_to_num(9))


def test_voxels_that_change_nothing_are_left_out_and_no_others() -> None:
    shape, body = (64, 60, 62), ball((64, 60, 62), (32, 30, 31), 6)
    boxes = row_boxes(body)
    sizes = {}
    for reach in ((9, 1), (5, 5), (1, 9)):
        layer = computed(boxes, boxes, reach, shape)
        sizes[reach] = int(filled(layer).sum())
        assert sizes[reach] == int(filled(boxes).sum()) + 2 * min(reach)
    border = computed(boxes, boxes, (27, 3), shape)  # the zeros outside the volume matter here
    assert filled(border)[:3].all() and (border[32] == (0, 60, 0, 62)).all()


def test_a_noisy_image_is_computed_wherever_it_is_seen() -> None:
    shape, body = (40, 36, 38), ball((40, 36, 38), (20, 18, 19), 4)
    layer = computed(row_boxes(body), whole(shape), (6, 3), shape)
    assert layer[20].tolist() == [18 - 3 - 6, 18 + 4 + 6, 19 - 3 - 6, 19 + 4 + 6]


def memory(net: MeshNet, shape: tuple[int, int, int], threads: int, dtype: torch.dtype = torch.float32) -> int:
    """What a run on all voxels takes."""
    computer = Computer(InlineExecutor(), torch.device("cpu"), dtype, 4, threads)
    if net.arguments["norm"] == "instance":
        return ByLayers(net, whole(shape), shape, computer).nbytes
    return ByRows(net, whole(shape), whole(shape), AIR, shape, computer).nbytes


@pytest.mark.parametrize(
    ("channels", "dilations", "width", "lines"),
    [(4, (1, 4, 1), 37, 32), (30, (1, 16, 1), 256, 64)],  # lines: at least 32, in whole groups of 4 dilations
)
def test_each_thread_has_its_own_scratch(channels: int, dilations: tuple[int, ...], width: int, lines: int) -> None:
    """By hand: sums of three rows each and their products, six of both for four lines; results; and twice logits."""
    net, widest = MeshNet(1, 3, channels, dilations, "elu", "none").eval(), max(dilations)
    one, four = (memory(net, (8, 9, width), threads) for threads in (1, 4))
    sums = 6 * 2 * 3 * lines // 4 * (width + 2 * widest) * channels
    assert four - one == 3 * 4 * (sums + sums // 3 + 2 * lines * width * channels + 2 * lines * width * 3)


def test_a_thread_without_quick_forms_has_what_its_piece_sees() -> None:
    """By hand, in bytes: three rows around each of two, the result before and after the activation, logits."""
    net = network("none", (1, 4, 1))
    one, four = (memory(net, (8, 9, 37), threads, torch.bfloat16) for threads in (1, 4))
    seen = 2 * 3 * (32 + 8) * (37 + 8) * 4 * 2
    assert four - one == 3 * (seen + 2 * 2 * 32 * 37 * 4 * 2 + 2 * 32 * 37 * 3 * 4)


def test_with_a_norm_a_volume_of_features_is_held_besides() -> None:
    """By hand: all rows with room to shift them, strips of 64 lines, the results of four rows, logits of one."""
    found = memory(network("instance", (1, 4, 1)), (20, 9, 37), 3)
    pieces = 3 * 2 * 3 * (64 + 8) * (37 + 8) * 4
    assert found == 4 * ((20 + 2 * 8) * 9 * 37 * 4 + pieces + 4 * 9 * 37 * 4 + 2 * 9 * 37 * 3)


class Image(WholeImage):
    """Needs as many bytes as there are threads."""

    def bytes_needed(self, network: nn.Module, rules: Inference, computer: Computer) -> int:
        return computer.threads

    def label(
        self, network: nn.Module, rules: Inference, computer: Computer, confidence: bool, report: Report
    ) -> InferenceResult:
        labels = np.zeros((1, 1, 1), np.uint8)
        return InferenceResult(labels, labels, None, None)


def test_the_threads_of_a_run_are_counted() -> None:
    rules, options, reporter = Inference((8, 8, 8)), InferenceOptions("cpu"), Reporter(None, None)
    assert run_whole_image(Image(), nn.Identity(), rules, options, reporter, 3).needed == 3
