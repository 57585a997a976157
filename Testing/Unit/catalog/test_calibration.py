"""What a card says of the Dice to expect: read, written, and refused where it makes no sense."""

from __future__ import annotations

from typing import Any

import pytest
from LightSegLib.catalog.card import Calibration
from LightSegLib.catalog.card_file import card_from_dict, card_to_dict
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.schema import FieldError

STATED = {"soft_dice": [0.4, 0.9], "dice": [0.3, 0.8], "large": [1, 2], "least_dice": 0.7, "least_information": 0.5}
STATED |= {"offsets": [0.1, -0.2], "pairs": [[1, 2]], "most_difference": 0.2}


@pytest.fixture
def data() -> dict[str, Any]:
    card = card_to_dict(find_card("hippocampus-mr-lightmedseg"))
    card["inference"]["calibration"] = dict(STATED)
    return card


def test_it_is_read_and_written(data: dict[str, Any]) -> None:
    card = card_from_dict(data)
    assert card.inference.calibration == Calibration(
        (0.4, 0.9), (0.3, 0.8), (1, 2), 0.7, 0.5, (0.1, -0.2), ((1, 2),), 0.2
    )
    assert card_from_dict(card_to_dict(card)) == card


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("soft_dice", [0.9, 0.4], "soft_dice must increase"),
        ("dice", [0.8, 0.3], "must have one number for each of soft_dice, and not fall"),
        ("dice", [0.1, 0.2, 0.3], "must have one number for each of soft_dice, and not fall"),
        ("dice", [0.1, 1.2], r"dice\[1\] must be at most 1"),
        ("offsets", [0.1], "offsets must have one number for each label"),
        ("pairs", [[1, 3]], "pairs must be values of labels"),
        ("large", [1, 7], "large must be values of labels"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(data: dict[str, Any], field: str, value: Any, message: str) -> None:
    data["inference"]["calibration"][field] = value
    with pytest.raises(FieldError, match=message):
        card_from_dict(data)


def test_regions_have_none(data: dict[str, Any]) -> None:
    """Their outputs do not exclude each other."""
    data["inference"]["regions"] = [1, 2]
    with pytest.raises(FieldError, match="must be left out where there are regions"):
        card_from_dict(data)
