"""The objective of a training on labeled images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from LightSegLib.training.loss import SegmentationLoss, boundary_region


def test_the_boundary_region_is_the_dilated_class_border() -> None:
    """Two half spaces: with radius d, d layers on either side of the border belong to the region."""
    labels = torch.zeros(1, 4, 4, 10, dtype=torch.long)
    labels[..., 5:] = 1
    target = torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float()
    for dilation in (1, 2):
        region = boundary_region(target, dilation)[0, 0]
        expected = torch.zeros(4, 4, 10)
        expected[..., 5 - dilation : 5 + dilation] = 1
        torch.testing.assert_close(region, expected)


@pytest.mark.parametrize("dilation", [1, 2])
def test_the_boundary_region_reaches_around_corners(dilation: int) -> None:
    """As one maximum over the cube of neighbors finds it, in labels without any order."""
    labels = torch.randint(0, 3, (2, 9, 7, 8), generator=torch.Generator().manual_seed(dilation))
    labels[labels > 0] *= torch.rand(labels[labels > 0].shape, generator=torch.Generator().manual_seed(0)) < 0.03
    target = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    around = torch.nn.functional.max_pool3d(target, 2 * dilation + 1, stride=1, padding=dilation)
    expected = (around.sum(dim=1, keepdim=True) > 1).float()
    assert 0 < expected.mean() < 1
    assert torch.equal(boundary_region(target, dilation), expected)


def test_the_loss_is_zero_for_a_perfect_answer_and_weighs_classes_by_inverse_frequency() -> None:
    labels = torch.zeros(1, 6, 6, 6, dtype=torch.long)
    labels[:, :3] = 1
    loss = SegmentationLoss([0.75, 0.25])
    torch.testing.assert_close(loss.weights, torch.tensor([0.5, 1.5]))
    perfect = 50 * torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float()
    assert float(loss(perfect, labels)) == pytest.approx(0, abs=1e-3)


def test_an_undecided_network_costs_what_the_formulas_say() -> None:
    """Equal probabilities for two classes: cross-entropy and boundary term are log 2, Dice one half."""
    labels = torch.zeros(1, 6, 6, 6, dtype=torch.long)
    labels[:, :3] = 1
    loss = SegmentationLoss([0.5, 0.5])
    expected = (1 - (2 * 54 + 1) / (108 + 108 + 1)) + 2 * np.log(2)
    assert float(loss(torch.zeros(1, 2, 6, 6, 6), labels)) == pytest.approx(expected, rel=1e-5)


def test_a_class_without_voxels_does_not_drown_the_others() -> None:
    weights = SegmentationLoss([0.9, 0.1, 0.0]).weights
    torch.testing.assert_close(weights, torch.tensor([0.2, 1.8, 0.0]))
