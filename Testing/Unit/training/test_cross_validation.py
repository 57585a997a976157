"""The quality of a model by cross-validation: that of all cases, from what the cards of its parts state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cross_validation
import numpy as np
import pytest
from LightSegLib.catalog.card import Card
from LightSegLib.catalog.lookup import find_card


def part(
    name: str,
    scores: Sequence[float],
    cases: Sequence[int] = (0,),
    of: int = 2,
    missed: int = 0,
    options: str = "--seed 3",
) -> Card:
    """A model of one part, with these Dice scores of its only label in `cases`, of so many as there are."""
    aside = [f"case_{number}" for number in cases]
    others = [f"case_{number}" for number in range(of) if number not in cases]
    label = {
        "dice": {"mean": round(float(np.mean(scores)), 4), "std": round(float(np.std(scores)), 4)},
        "mirrored_dice": {"mean": round(float(np.mean(scores)) - 0.01, 4)},
        "missed": missed,
    }
    command = f"lightseg train heads --out 'part {name}' --fold {name} {options}"
    return replace(
        find_card("hippocampus-mr-unet"),
        training={"command": command, "validation_cases": aside, "trained_on": others},
        performance={"cases": len(scores), "labels": {"Hippocampus": label}},
    )


def test_mean_and_deviation_are_those_of_all_cases_at_once() -> None:
    """Parts of different size and quality, where the mean of means would be another."""
    scores = [0.9, 0.8, 0.85, 0.95, 0.5, 0.6]
    found = cross_validation.joined_performance(
        [part("2/2", scores[:4], range(4), of=6), part("1/2", scores[4:], (4, 5), of=6)]
    )
    assert (found["cross_validation"], found["cases"], found["labels"]["Hippocampus"]["missed"]) == (2, 6, 0)
    dice = found["labels"]["Hippocampus"]["dice"]
    assert dice["mean"] == found["mean_dice"] == pytest.approx(np.mean(scores), abs=1e-4)
    assert dice["std"] == pytest.approx(np.std(scores), abs=1e-4)
    assert found["mean_mirrored_dice"] == pytest.approx(np.mean(scores) - 0.01, abs=1e-4)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([part("1/2", [0.9])], "not all parts"),
        ([part("1/2", [0.9]), part("1/2", [0.9])], "not all parts"),
        ([part("1/3", [0.9]), part("2/3", [0.9])], "not all parts"),
        ([part("1/2", [0.9]), part("2/2", [0.9], (1,), options="--seed 4")], "different options"),
        ([part("1/2", [0.9]), part("2/2", [0.9])], "different cases"),
        ([part("1/2", [0.9]), part("2/2", [0.9], (2,))], "different cases"),
        ([part("1/2", [0.9]), part("2/2", [0.0], (1,), missed=1)], "missed one in a case"),
        ([find_card("hippocampus-mr-lightmedseg")], "not all parts"),
    ],
)
def test_what_is_not_one_whole_cross_validation_is_refused(parts: list[Card], problem: str) -> None:
    with pytest.raises(SystemExit, match=problem):
        cross_validation.joined_performance(parts)
