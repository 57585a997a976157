"""A smooth map kept at few voxels has every voxel's value."""

from __future__ import annotations

import numpy as np
import pytest
from LightSegLib.imaging.lattice import Lattice


def bend(index: np.ndarray) -> np.ndarray:
    i, j, k = index.T
    return np.stack([2 * i + 0.5 * np.sin(k / 9), j - 0.3 * k, 1.5 * np.abs(k - 13.4) + 0.01 * i], axis=-1)


@pytest.mark.parametrize("shape", [(40, 30, 50), (1, 5, 7), (17, 1, 2)])
def test_every_voxel_has_its_position(shape: tuple[int, int, int]) -> None:
    lattice = Lattice(bend, shape, 0.01)
    k, j, i = np.indices(shape)
    expected = bend(np.stack([i, j, k], axis=-1).reshape(-1, 3)).reshape(*shape, 3)
    for number in range(shape[0]):
        np.testing.assert_allclose(lattice.slice(number), expected[number], atol=0.01)
    np.testing.assert_allclose(lattice.at(np.array([0, 0, shape[0] - 1])), expected[-1, 0, 0], atol=0.01)


@pytest.mark.parametrize("center", [(8, 8, 8), (8, 24, 16), (20, 9, 25)])
def test_a_bend_at_one_place_is_not_overlooked(center: tuple[int, int, int]) -> None:
    """As a registration of a small structure leaves it: nothing moves along the edges of the coarse cells."""

    def local(index: np.ndarray) -> np.ndarray:
        return index + 4 * np.exp(-((index - center) ** 2).sum(axis=1) / 18)[:, None]

    lattice = Lattice(local, (33, 33, 33), 0.05)
    np.testing.assert_allclose(lattice.at(np.array(center)), np.add(center, 4), atol=0.05)


def test_what_does_not_bend_is_computed_at_few_voxels() -> None:
    asked = []

    def straight(index: np.ndarray) -> np.ndarray:
        asked.append(len(index))
        return index @ [[2, 0, 0], [0.4, 1, 0], [0, 0, 3]] + 7

    Lattice(straight, (160, 320, 320), 0.01)
    assert sum(asked) < 0.01 * 160 * 320 * 320
