"""A model that goes on from the weights of another one states what these have seen, through any number of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from LightSegLib.catalog.card import Card, Weights
from LightSegLib.catalog.card_file import write_card
from LightSegLib.catalog.lookup import CARD_NAME, find_card, weights_path
from LightSegLib.core.file_hash import sha256
from LightSegLib.training.earlier_runs import earlier_runs, images_of, seen, with_earlier


def write_model(folder: Path, training: dict[str, Any]) -> Path:
    """A model folder whose weights file is of this training."""
    folder.mkdir()
    weights = folder / "weights.pt"
    weights.write_text(folder.name)
    base = find_card("hippocampus-mr-lightmedseg")
    file = Weights(weights.name, weights.stat().st_size, sha256(weights))
    write_card(replace(base, id=folder.name, weights=file, training=training), folder / CARD_NAME)
    return weights


def continued(weights: Path, training: dict[str, Any]) -> dict[str, Any]:
    digest = sha256(weights)
    return with_earlier(training, digest, earlier_runs(weights, digest))


def test_the_runs_of_a_model_are_stated_one_after_the_other(tmp_path: Path) -> None:
    first = write_model(tmp_path / "first", {"label_maps": ["a", "b"], "images": 100})
    second = write_model(tmp_path / "second", continued(first, {"label_maps": ["b"], "images": 20}))
    third = continued(second, {"label_maps": ["c"], "images": 3})
    assert [(run["label_maps"], run["images"]) for run in third["earlier_runs"]] == [(["a", "b"], 100), (["b"], 20)]
    assert [run["weights_sha256"] for run in third["earlier_runs"]] == [sha256(first), sha256(second)]
    assert third["images_of_all_runs"] == 123 and third["images"] == 3
    assert third["initial_weights_sha256"] == third["earlier_runs"][-1]["weights_sha256"]


def test_what_the_first_of_several_runs_has_seen_is_no_validation_of_the_last(tmp_path: Path) -> None:
    first = write_model(tmp_path / "first", {"label_maps": ["a", "b"]})
    second = write_model(tmp_path / "second", continued(first, {"label_maps": ["b"]}))
    assert seen(earlier_runs(second, sha256(second)), "label_maps", ["a", "c"]) == ["a"]


def test_the_runs_of_a_bundled_model_are_known_by_its_weights_alone(tmp_path: Path) -> None:
    card: Card = find_card("brain-mr-atlas-unet")
    copy = tmp_path / "brain.pt"
    copy.write_bytes(weights_path(card).read_bytes())
    *_before, last = runs = earlier_runs(copy, sha256(copy))
    assert last["images"] == card.training["images"] and images_of(runs) == card.training["images_of_all_runs"]
    heads = [f"head_{number:02}" for number in range(1, 17)]
    assert [name for name in heads if name not in seen(runs, "label_maps", heads)] == last["validation_maps"]


def test_nothing_is_stated_of_weights_of_which_nothing_is_known(tmp_path: Path) -> None:
    """Beside them is the card of other weights, as after the file was replaced."""
    weights = write_model(tmp_path / "first", {"images": 100})
    weights.write_text("replaced")
    assert continued(weights, {"images": 3}) == {"images": 3, "initial_weights_sha256": sha256(weights)}
    weights = write_model(tmp_path / "odd", {"images": 100, "earlier_runs": "three"})
    assert continued(weights, {"images": 3})["images_of_all_runs"] == 103
