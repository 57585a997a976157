"""What a user is told of a model's time before it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from LightSegLib.catalog.card import Measured
from LightSegLib.catalog.duration import duration, warning
from LightSegLib.catalog.lookup import all_cards, find_card

MEASURED = Measured("a chest CT", 90.0, 95.0, 3200, 4, "Laptop i5", "float32")


@pytest.mark.parametrize(("seconds", "long"), [(59.0, False), (61.0, True)])
def test_a_measured_time_decides_at_a_minute(seconds: float, long: bool) -> None:
    card = replace(find_card("total-ct"), measured=replace(MEASURED, seconds=seconds))
    assert str(duration(card)) == f"{seconds:.0f} s and 3.2 GB on 4 cores of Laptop i5"
    assert bool(warning(card)) is long
    assert not long or f"{seconds:.0f} s and 3.2 GB" in str(warning(card))


def test_else_what_the_authors_publish_is_told() -> None:
    assert "25 minutes with 8 threads" in str(warning(find_card("siam-head")))
    assert "published: 77 s" in str(warning(find_card("total-ct")))
    assert "Nvidia A100" in str(duration(find_card("mrsegmentator")))


def test_without_any_figure_large_networks_may_take_long_and_small_ones_say_nothing() -> None:
    assert "not measured yet" in str(warning(find_card("moose-ct-lungs")))
    assert warning(find_card("total-ct-fastest")) is None
    small = [card for card in all_cards() if not card.family and card.measured is None]
    assert small and not any(warning(card) for card in small)
