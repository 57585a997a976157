"""The structures of a model with 117 of them, told in a few lines."""

from __future__ import annotations

from LightSegLib.catalog.condensed import condensed
from LightSegLib.catalog.lookup import find_card


def test_sides_and_numbers_are_told_together() -> None:
    names = ["Spleen", "Right kidney", "Left kidney", "Upper lobe of left lung", "Upper lobe of right lung"]
    assert condensed(names) == ["Spleen", "Kidney (left, right)", "Upper lobe of lung (left, right)"]
    ribs = [f"{side} rib {number}" for side in ("Left", "Right") for number in range(1, 13)]
    assert condensed(ribs) == ["Rib 1 to 12 (left, right)"]
    assert condensed(["Vertebra C2", "Vertebra L2", "Vertebra C1", "Vertebra C3"]) == [
        "Vertebra C1 to C3",
        "Vertebra L2",
    ]


def test_what_has_one_side_or_gaps_keeps_its_names() -> None:
    names = ["Left atrial appendage", "Middle lobe of right lung", "Tooth 11", "Tooth 13", "Tooth 14"]
    assert condensed(names) == ["Left atrial appendage", "Middle lobe of right lung", "Tooth 11, 13, 14"]
    assert condensed([]) == []


def test_a_whole_body_needs_less_than_half_of_its_names() -> None:
    names = [label.name for label in find_card("total-ct").labels]
    told = condensed(names)
    assert len(names) == 117 and len(told) < 60
    assert "Rib 1 to 12 (left, right)" in told and "Liver" in told
