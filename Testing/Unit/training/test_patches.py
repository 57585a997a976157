"""Patches of labeled images, and how they are changed at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from LightSegLib.training.augment import Augmentation, random_patch

STILL = Augmentation(spatial_probability=0, intensity_probability=0)


class Middle:
    """Random numbers that are always the middle of what is asked for."""

    def random(self) -> float:
        return 0.9

    def uniform(self, low: Any, high: Any, size: Any = ()) -> Any:
        middle = (np.asarray(low) + np.asarray(high)) / 2
        return np.broadcast_to(middle, size or middle.shape) if size or middle.ndim else float(middle)

    def standard_normal(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.ones(shape, dtype)


def test_a_patch_of_the_whole_volume_is_the_volume() -> None:
    """No flips, no changes, and no room to move: sampling must not shift anything by half a voxel."""
    image, labels = torch.randn(1, 6, 8, 7), torch.randint(0, 3, (6, 8, 7))
    patch, target = random_patch(image, labels, (6, 8, 7), False, Middle(), STILL)  # type: ignore[arg-type]
    torch.testing.assert_close(patch, image, atol=1e-5, rtol=1e-5)
    assert torch.equal(target, labels)


def test_augmentation_of_no_strength_changes_nothing_and_of_half_the_strength_half_as_much() -> None:
    image, labels = torch.randn(1, 6, 8, 7), torch.randint(0, 3, (6, 8, 7))
    always = Augmentation(spatial_probability=0, intensity_probability=1)
    same, _target = random_patch(image, labels, (6, 8, 7), False, Middle(), always.times(0))  # type: ignore[arg-type]
    torch.testing.assert_close(same, image, atol=1e-5, rtol=1e-5)
    half = Augmentation().times(0.5)
    assert (half.rotation_degrees, half.noise, half.blur_sigma) == (10, 0.075, (0.2, 0.6))
    assert np.prod(half.scale) == pytest.approx(1) and half.scale[1] ** 2 == pytest.approx(Augmentation().scale[1])
    assert half.gamma[0] ** 2 == pytest.approx(Augmentation().gamma[0])


def test_image_and_labels_move_together() -> None:
    """The label is where the image exceeds zero, and stays so under rotation, scaling and flips."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (30, 36, 32)), indexing="ij")
    image = (0.5 - axes[0] ** 2 - axes[1] ** 2 + 0.3 * axes[2])[None]
    labels = (image[0] > 0).short()
    random = np.random.default_rng(0)
    changes = Augmentation(spatial_probability=1, intensity_probability=0, flip_axes=(0, 1, 2))
    for _ in range(20):
        patch, target = random_patch(image, labels, (20, 20, 20), True, random, changes)
        outside = (patch[0] > 0) & (target == 0)  # beyond the volume the labels are background
        agreement = ((patch[0] > 0) == (target > 0))[~outside].float().mean()
        assert agreement > 0.98 and outside.float().mean() < 0.5


def test_patches_centered_on_labels_find_a_rare_structure() -> None:
    labels = torch.zeros(60, 60, 60, dtype=torch.int16)
    labels[50:53, 8:11, 30:33] = 1
    random = np.random.default_rng(1)
    hits = [
        bool(random_patch(torch.zeros(1, 60, 60, 60), labels, (16, 16, 16), found, random, STILL)[1].any())
        for found in [True] * 20 + [False] * 20
    ]
    assert all(hits[:20]) and sum(hits[20:]) < 10
