"""The slices that most want a look."""

from __future__ import annotations

import numpy as np
import pytest
from LightSegLib.inference.confidence import lowest_confidence_slices

SHAPE = (12, 20, 20)


def column(means: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and confidence of a square column, sure but for the slices in `means`; its first slice has a single,
    hopeless voxel.
    """
    labels, confidence = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 99, np.uint8)
    labels[1:, 5:11, 5:11] = 1
    labels[0, 9, 9], confidence[0, 9, 9] = 1, 10
    for k, mean in means.items():
        confidence[k, 5:11, 5:11] = 100 * mean
    return labels, confidence


def test_doubtful_slices_come_first_and_neighbors_once() -> None:
    found = lowest_confidence_slices(*column({4: 0.6, 5: 0.55, 9: 0.7}), count=2)
    assert [(place.index[2], pytest.approx(place.confidence)) for place in found] == [(5, 0.55), (9, 0.7)]
    np.testing.assert_allclose(found[0].index, (7.5, 7.5, 5))


def test_the_place_is_where_the_doubt_is() -> None:
    labels, confidence = column({})
    confidence[:] = 100
    confidence[6, 10, 5] = 20
    assert lowest_confidence_slices(labels, confidence, count=1)[0].index == (5, 10, 6)


def test_without_labels_there_is_nothing_to_show() -> None:
    assert lowest_confidence_slices(np.zeros(SHAPE, np.uint8), np.full(SHAPE, 100, np.uint8)) == []
