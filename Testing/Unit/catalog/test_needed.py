"""Which other models a model needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from LightSegLib.catalog.lookup import all_cards
from LightSegLib.catalog.needed import all_models, needed_models, own_models, own_size
from LightSegLib.weights.store import WeightStore


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the models and weights of the user who runs it."""
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))


def test_of_all_models_that_ship_the_others_that_they_need_are_there_and_fit() -> None:
    known = {card.id: card for card in all_cards()}
    for card in known.values():
        needed = [one.id for one in all_models(card, known)]
        assert len(needed) == len(set(needed)) and all(not known[model].parts for model in needed)
        assert card.parts or needed[-1] == card.id
        assert {one.id for one in own_models(card, known)} <= {one.id for one in needed_models(card, (), known)}


def test_sizes_and_states_are_those_of_all_parts() -> None:
    known = {card.id: card for card in all_cards()}
    total, store = known["total-ct"], WeightStore()
    parts = own_models(total, known)
    assert [part.id for part in parts] == [part.model for part in total.parts] and len(parts) == 5
    assert own_size(total, known) == sum(part.weights.size or 0 for part in parts) > 1e9
    assert store.state(total) == "available" and store.to_download(parts) == parts
