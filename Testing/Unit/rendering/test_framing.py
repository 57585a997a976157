"""Which voxels of a large label decide what a picture shows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from LightSegLib.rendering import framing


def test_of_a_large_label_a_regular_choice_counts_in_less_memory_than_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(framing, "MOST_POINTS", 1000)
    monkeypatch.setattr(framing, "SLAB_VOXELS", 1 << 12)
    mask = np.random.default_rng(0).random((100, 63, 65)) < 0.6
    all_places = np.argwhere(mask)
    tracemalloc.start()
    chosen = framing._places(mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(chosen, all_places[:: 1 + len(all_places) // 1000])
    assert peak < mask.nbytes < all_places.nbytes / 10
