"""The border head at an image's own voxels: what it sees of the image, and what becomes of its answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from LightSegLib.evaluation.metrics import dice
from LightSegLib.inference.alignment.aligned_restore import AlignedRestorer
from LightSegLib.inference.alignment.borders import Unit, sampled
from LightSegLib.inference.alignment.guided import Guide
from LightSegLib.inference.processing.restore import Decision
from scipy.spatial.transform import Rotation
from test_guided import COARSE, INTENSITY, SHAPE, turned_by, what_a_network_saw


class ByTheMiddle:
    """Stands for a trained border head: the label whose intensity is nearest to that of the place itself."""

    tissues = (0, 1, 2)

    def border_changes(
        self,
        logits: torch.Tensor,
        evidence: torch.Tensor,
        patches: torch.Tensor,
        tissues: torch.Tensor,
        on_left: torch.Tensor,
    ) -> torch.Tensor:
        # of the three intensities 30, 90 and 60 the tissues' are 90 and 60: as far below these lies the background
        shell, core = tissues[0]
        means = torch.stack((2 * core - shell, shell, core))
        return -20 * (patches[1, 1, 1] - means[:, None]).abs() / (shell - core)


def test_the_head_decides_borders_by_the_voxels_of_the_image() -> None:
    image, truth, coarse, logits = what_a_network_saw()
    found = np.zeros(SHAPE, np.uint8)
    guide = Guide(image, coarse, network=ByTheMiddle(), spacing=(2.0, 2.0, 2.0))
    AlignedRestorer(COARSE, turned_by(7.0), found, Decision(), None, guide).add(logits)
    guided = np.zeros(SHAPE, np.uint8)
    AlignedRestorer(COARSE, turned_by(7.0), guided, Decision(), None, Guide(image, coarse)).add(logits)
    for label in (1, 2):
        assert dice(found == label, truth == label) > max(0.97, dice(guided == label, truth == label))


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
        guide = Guide(image, coarse, first, ByTheMiddle(), (2.0, 2.0, 2.0))
        AlignedRestorer(COARSE, to_grid @ shift, found, Decision(), None, guide).add(logits)
        labels.append(found)
    whole, part = labels
    assert np.array_equal(whole[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))], part)


def test_the_answer_is_the_same_for_any_number_of_threads() -> None:
    image, _, coarse, logits = what_a_network_saw(noise=10.0)
    labels = []
    for threads in (1, 3):
        found = np.zeros(SHAPE, np.uint8)
        guide = Guide(image, coarse, network=ByTheMiddle(), spacing=(2.0, 2.0, 2.0), threads=threads)
        AlignedRestorer(COARSE, turned_by(7.0), found, Decision(), None, guide).add(logits)
        labels.append(found)
    assert labels[0].any() and np.array_equal(*labels)


@pytest.mark.parametrize("degrees", [0.0, 33.0])
def test_patches_of_a_ramp_are_the_ramp(degrees: float) -> None:
    """Linear interpolation of a linear function is exact, so every sample is known in a closed form."""
    slope = np.array([0.3, -0.7, 1.1])  # along i, j, k
    k, j, i = np.meshgrid(*(np.arange(n) for n in (12, 14, 16)), indexing="ij")
    image = torch.from_numpy(slope[0] * i + slope[1] * j + slope[2] * k).float()
    steps = 0.8 * Rotation.from_euler("xyz", [degrees, -degrees, degrees / 2], degrees=True).as_matrix()
    places = [torch.tensor([5.0, 8.0]), torch.tensor([6.0, 5.5]), torch.tensor([7.25, 4.0])]  # i, j, k
    found = sampled(image, places, steps)
    for n in range(2):
        place = np.array([float(axis[n]) for axis in places])
        for offset in np.ndindex(3, 3, 3):
            away = steps @ (np.array(offset[::-1]) - 1)
            assert float(found[offset][n]) == pytest.approx(slope @ (place + away), abs=1e-4)


def test_beyond_the_image_its_border_goes_on() -> None:
    image = torch.arange(27.0).reshape(3, 3, 3)
    corner = [torch.zeros(1)] * 3
    assert sampled(image, corner, np.eye(3))[0, 0, 0, 0] == 0
    assert sampled(image, [torch.full((1,), 2.0)] * 3, np.eye(3))[2, 2, 2, 0] == 26


def test_the_unit_does_not_depend_on_gain_and_offset_of_the_image() -> None:
    _, _, coarse, logits = what_a_network_saw()
    probabilities = logits.softmax(0)
    first, second = Unit(coarse, probabilities, (0, 1, 2)), Unit(5 * coarse - 700, probabilities, (0, 1, 2))
    assert torch.allclose(first.tissues, second.tissues, atol=1e-4)
    values = torch.tensor(INTENSITY).float()
    assert torch.allclose(first.of(values), second.of(5 * values - 700), atol=1e-4)
