"""What a list of many models offers: each task once, no parts, and the quality that fits the computer."""

from __future__ import annotations

import pytest
from LightSegLib.catalog.families import family_cards
from LightSegLib.catalog.lookup import all_cards, find_card
from LightSegLib.catalog.offers import by_task, proposed, without_parts
from LightSegLib.core.errors import UnknownModelError


def test_a_task_is_offered_once_with_its_best_quality_first() -> None:
    tasks = by_task(reversed(family_cards()))
    assert sum(map(len, tasks)) == len(family_cards())
    (total,) = (task for task in tasks if task[0].id == "total-ct")
    assert [card.id for card in total] == ["total-ct", "total-ct-fast", "total-ct-fastest"]


def test_models_of_no_family_stay_on_their_own() -> None:
    own = [card for card in all_cards() if not card.family]
    assert by_task(own) == [(card,) for card in own]


def test_without_a_gpu_fast_is_proposed_and_never_fastest() -> None:
    (total,) = (task for task in by_task(family_cards()) if task[0].id == "total-ct")
    assert proposed(total, gpu=True).quality == "normal"
    assert proposed(total, gpu=False).quality == "fast"
    assert proposed((total[0], total[2]), gpu=False).quality == "normal"


def test_parts_are_left_out_where_what_they_are_of_is_there() -> None:
    composite = find_card("headneck-muscles-ct")
    parts = [find_card(part.model) for part in composite.parts]
    assert without_parts([*parts, composite]) == [composite]
    assert without_parts(parts) == parts


def test_a_model_that_is_not_offered_is_refused_with_the_reason() -> None:
    with pytest.raises(UnknownModelError, match="tissue_types of TotalSegmentator is not offered"):
        find_card("tissue_types")


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("hippocampus", "hippocampus-mr-unet, hippocampus-mr-lightmedseg"),  # bundled, not what must be downloaded
        ("Brain", "brain-mr-atlas-unet, "),
        ("hippodeeb", "hippodeep, hippocampus-mr-unet"),  # a slip of a finger
        ("lung-tumor", "lung-tumor-ct-unetrpp, "),  # by hand alone, but nothing else has that name
        ("xyzzy", "brain-mr-atlas-unet, hippocampus-mr-unet, "),
    ],
)
def test_what_can_be_used_at_once_is_suggested_first(typed: str, suggested: str) -> None:
    with pytest.raises(UnknownModelError, match=rf"closest names \({suggested}"):
        find_card(typed)
