"""The border head at an image's own voxels: what it sees of the image, and what becomes of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from LightSegLib.catalog.lookup import find_card
from LightSegLib.evaluation.metrics import dice
from LightSegLib.inference.alignment import aligned_restore
from LightSegLib.inference.alignment.aligned_restore import AlignedRestorer
from LightSegLib.inference.alignment.borders import Patches, Unit
from LightSegLib.inference.alignment.guided import Guide
from LightSegLib.inference.loaded_networks import LoadedNetworks
from LightSegLib.inference.processing.restore import Decision
from LightSegLib.networks import build
from scipy.spatial.transform import Rotation
from test_guided import COARSE, INTENSITY, SHAPE, restored, turned_by, what_a_network_saw

Answer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of patches and tissues


class Head:
    """Stands for a trained border head; it keeps what it is asked, and changes nothing without an answer."""

    tissues = (0, 1, 2)

    def __init__(self, answer: Answer | None = None) -> None:
        self._answer = answer
        self.patches: list[torch.Tensor] = []
        self.on_left: list[torch.Tensor] = []

    def border_changes(
        self,
        logits: torch.Tensor,
        evidence: torch.Tensor,
        patches: torch.Tensor,
        tissues: torch.Tensor,
        on_left: torch.Tensor,
    ) -> torch.Tensor:
        self.patches.append(patches)
        self.on_left.append(on_left)
        return torch.zeros_like(logits) if self._answer is None else self._answer(patches, tissues)


def by_the_middle(patches: torch.Tensor, tissues: torch.Tensor) -> torch.Tensor:
    """The label whose intensity is nearest to that of the place itself."""
    # the tissues' intensities are 90 and 60, and the background's, 30, is as far below 60 as that is below 90
    shell, core = tissues[0]
    means = torch.stack((2 * core - shell, shell, core))
    return -20 * (patches[1, 1, 1] - means[:, None]).abs() / (shell - core)


def guided_by(head: Head, image: np.ndarray, coarse: torch.Tensor, threads: int = 1) -> Guide:
    return Guide(image, coarse, border_network=head, spacing=(2.0, 2.0, 2.0), threads=threads)


def test_the_head_decides_borders_by_the_voxels_of_the_image() -> None:
    image, truth, coarse, logits = what_a_network_saw()
    found = restored(logits, guided_by(Head(by_the_middle), image, coarse))
    guided = restored(logits, Guide(image, coarse))
    for label in (1, 2):
        assert dice(found == label, truth == label) > max(0.97, dice(guided == label, truth == label))


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_patches_lie_along_the_axes_of_the_grid(flips: tuple[int, int, int]) -> None:
    """Where the image is brighter toward the left, so is every patch, however the image is stored and turned."""
    _, _, coarse, logits = what_a_network_saw()
    to_grid = turned_by(20.0) @ np.diag([*flips, 1.0])
    to_grid[:3, 3] = [(n - 1) / 2 for n in COARSE[::-1]] - to_grid[:3, :3] @ [(n - 1) / 2 for n in SHAPE[::-1]]
    k, j, i = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    on_grid = np.einsum("ab,b...->a...", to_grid[:3, :3], np.stack([i, j, k])) + to_grid[:3, 3, None, None, None]
    for axis in range(3):
        asked = Head()
        guide = guided_by(asked, 100 * on_grid[axis], coarse)
        AlignedRestorer(COARSE, to_grid, np.zeros(SHAPE, np.uint8), Decision(), None, guide).add(logits)
        patches = torch.cat(asked.patches, -1)
        # 1 mm is half a voxel of the grid: 50 of the image
        unit = Unit(coarse, logits.softmax(0), Head.tissues)
        expected = 50 / unit.spread
        if axis == 0:  # along which places are left or right of the middle
            middle = unit.of(torch.tensor(100 * (COARSE[2] - 1) / 2))
            assert torch.equal(torch.cat(asked.on_left), patches[1, 1, 1] > middle)
        for other in range(3):
            step = float(patches.diff(dim=2 - other).median())  # but for places at the edge of the image
            assert step == pytest.approx(expected if other == axis else 0.0, abs=2e-3)


def test_the_side_of_a_place_follows_from_the_grid() -> None:
    """i runs to the left of the template, whatever it does in the image."""
    image, _, coarse, logits = what_a_network_saw()
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = SHAPE[2] - 1
    sides = []
    for stored, to_grid in ((image, turned_by(0.0)), (image[..., ::-1].copy(), turned_by(0.0) @ flip)):
        asked = Head()
        guide = guided_by(asked, stored, coarse)
        AlignedRestorer(COARSE, to_grid, np.zeros(SHAPE, np.uint8), Decision(), None, guide).add(logits)
        sides.append(torch.cat(asked.on_left))
    assert 0 < sides[0].sum() < len(sides[0])
    assert sides[0].sum() == sides[1].sum()
    assert not torch.equal(*sides)  # the image is gone through in the other direction


def test_where_probabilities_are_wanted_the_head_is_asked_at_borders_alone() -> None:
    image, _, coarse, logits = what_a_network_saw(noise=10.0)
    counts, labels = [], []
    for confidence in (None, np.zeros(SHAPE, np.uint8)):
        asked = Head()
        labels.append(restored(logits, guided_by(asked, image, coarse), confidence))
        counts.append(sum(len(part) for part in asked.on_left))
    assert counts[0] == counts[1] > 0 and np.array_equal(*labels)


def test_a_part_of_an_image_gets_the_labels_that_the_whole_gets() -> None:
    """The head looks beyond the region of interest."""
    image, _, coarse, logits = what_a_network_saw(noise=10.0)
    start, size = (6, 9, 4), (20, 21, 22)
    to_grid = turned_by(7.0)
    labels = []
    for first, shape in (((0, 0, 0), SHAPE), (start, size)):
        shift = np.eye(4)
        shift[:3, 3] = first[::-1]
        found = np.zeros(shape, np.uint8)
        guide = Guide(image, coarse, first, Head(by_the_middle), (2.0, 2.0, 2.0))
        AlignedRestorer(COARSE, to_grid @ shift, found, Decision(), None, guide).add(logits)
        labels.append(found)
    whole, part = labels
    assert np.array_equal(whole[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))], part)


def test_the_answer_is_the_same_for_any_number_of_threads_and_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _, coarse, logits = what_a_network_saw(noise=10.0)
    labels = []
    for threads, points, batch in ((1, 1 << 20, 1 << 20), (3, 5000, 300)):
        monkeypatch.setattr(aligned_restore, "POINTS", points)
        monkeypatch.setattr(aligned_restore, "BATCH", batch)
        labels.append(restored(logits, guided_by(Head(by_the_middle), image, coarse, threads)))
    assert labels[0].any() and np.array_equal(*labels)


@pytest.mark.parametrize("degrees", [0.0, 33.0])
def test_patches_of_a_ramp_are_the_ramp(degrees: float) -> None:
    """Linear interpolation of a linear function is exact, so every sample is known in a closed form."""
    slope = np.array([0.3, -0.7, 1.1])  # along i, j, k
    k, j, i = np.meshgrid(*(np.arange(n) for n in (12, 14, 16)), indexing="ij")
    image = torch.from_numpy(slope[0] * i + slope[1] * j + slope[2] * k).float()
    steps = 0.8 * Rotation.from_euler("xyz", [degrees, -degrees, degrees / 2], degrees=True).as_matrix()
    voxels = [torch.tensor([7, 4]), torch.tensor([6, 5]), torch.tensor([5, 8])]  # k, j, i
    found = Patches(image, steps)(voxels)
    for n in range(2):
        place = np.array([int(axis[n]) for axis in voxels[::-1]])
        for offset in np.ndindex(3, 3, 3):
            away = steps @ (np.array(offset[::-1]) - 1)
            assert float(found[offset][n]) == pytest.approx(slope @ (place + away), abs=1e-4)


def test_patches_are_those_of_linear_interpolation() -> None:
    """Beside torch's own, which goes on at the border of the image, too."""
    random = torch.Generator().manual_seed(0)
    image = torch.randn(9, 8, 7, generator=random)
    steps = 1.7 * Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
    voxels = [torch.randint(n, (40,), generator=random) for n in image.shape]
    found = Patches(image, steps)(voxels)
    for offset in np.ndindex(3, 3, 3):
        away = torch.tensor(steps @ (np.array(offset[::-1]) - 1)).float()
        index = torch.stack([axis.float() for axis in voxels[::-1]], -1) + away
        grid = ((2 * index + 1) / torch.tensor(image.shape[::-1]) - 1)[None, None, None]
        expected = torch.nn.functional.grid_sample(image[None, None], grid, padding_mode="border", align_corners=False)
        assert torch.allclose(found[offset], expected.flatten(), atol=1e-5)


def test_the_unit_does_not_depend_on_gain_and_offset_of_the_image() -> None:
    _, _, coarse, logits = what_a_network_saw()
    probabilities = logits.softmax(0)
    first, second = Unit(coarse, probabilities, (0, 1, 2)), Unit(5 * coarse - 700, probabilities, (0, 1, 2))
    assert torch.allclose(first.tissues, second.tissues, atol=1e-4)
    absent = logits.clone()
    absent[2] = -30  # a tissue that is not there, as where the field of view cuts the head
    probabilities = absent.softmax(0)
    absent_first, absent_second = (Unit(c, probabilities, (0, 1, 2)) for c in (coarse, 5 * coarse - 700))
    assert torch.allclose(absent_first.tissues, absent_second.tissues, atol=1e-4)
    assert absent_first.tissues[0, 1] == 0
    values = torch.tensor(INTENSITY).float()
    assert torch.allclose(first.of(values), second.of(5 * values - 700), atol=1e-4)


def test_a_head_stays_on_the_cpu_when_its_network_moves() -> None:
    """The image is there, whatever computes the network."""
    card = find_card("brain-mr-atlas-unet")
    network = build(card.network, card.network_arguments)
    loaded = LoadedNetworks(card, (network,), None)
    head: Any = loaded.border_network
    network.to("meta")  # as to a GPU
    assert {parameter.device.type for parameter in head.parameters()} == {"cpu"}
