"""The catalog: finding a model, and the models of the user."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from LightSegLib.catalog.card import Card
from LightSegLib.catalog.card_file import card_to_dict
from LightSegLib.catalog.lookup import CARD_NAME, all_cards, find_card
from LightSegLib.catalog.search import search
from LightSegLib.core.errors import UnknownModelError

SLIM = "heart-ct-slim-unetrv2"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the models and weights of the user who runs it."""
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))


def found(words: str | list[str]) -> list[str]:
    """Of the models that are in no family; those of families have a test of their own."""
    return [card.id for card in search([card for card in all_cards() if not card.family], words)]


# --- search --------------------------------------------------------------------------------------


def test_a_clinician_searches_for_the_liver() -> None:
    assert found("liver") == ["abdomen-ct-unetrpp"]


def test_a_clinician_searches_for_the_heart_in_mri() -> None:
    assert set(found("heart mr")) == {"heart-mr-slim-unetrv2", "heart-mr-unetrpp"}
    assert found("heart mr") == found("MRI Heart") == found(["heart", "mr"])
    assert found("heart")[0].startswith("heart-") and "heart-ct-slim-unetrv2" in found("heart")


@pytest.mark.parametrize("words", ["Hippocampus", "hippo", "HIPPOCAMPUS t1", "Híppocampus", "anterior hippo"])
def test_capitals_accents_order_and_the_end_of_a_word_do_not_matter(words: str) -> None:
    first = ["hippocampus-mr-unet", "hippocampus-mr-lightmedseg"]
    others = {"hippodeep", "brain-mr-atlas-unet", "brain-structures-meshnet", "brain-atlas-104"}
    assert found(words)[:2] == first and set(found(words)[2:]) <= others


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("hippocampi", "hippocampus"),
        ("thalami", "thalamus"),
        ("cortices", "cortex"),
        ("putamina", "putamen"),
        ("atria", "atrium"),
        ("ventricles", "ventricle"),
        ("lateral ventricles", "lateral ventricle"),
        ("arteries", "artery"),
        ("vertebrae", "vertebra"),
        ("kidneys", "kidney"),
        ("lungs", "lung"),
        ("sinuses", "sinus"),
        ("teeth", "tooth"),
        ("femora", "femur"),
    ],
)
def test_a_plural_finds_what_the_singular_does(plural: str, singular: str) -> None:
    fewer, more = sorted(({card.id for card in search(all_cards(), one)} for one in (plural, singular)), key=len)
    assert fewer and fewer <= more  # of which some have a word that begins alike, such as "vertebral"


def test_a_singular_is_a_word_of_its_own() -> None:
    """What begins like one is another word: "axis" is no plural of "axi", with which "axial" begins."""
    named = dataclasses.replace(all_cards()[0], title="Axial slices of kidneys")
    assert not search([named], "axis") and search([named], "kidney") == search([named], "kidneys") == [named]


def test_models_that_were_run_with_their_weights_come_first() -> None:
    was_run = [card.was_run for card in all_cards()]
    assert was_run == sorted(was_run, reverse=True) and {True, False} == set(was_run)
    assert not {card.id for card in all_cards() if card.was_run} & {"abdomen-ct-unetrpp", "wholebody-tumor-ct-flare24"}


@pytest.mark.parametrize(
    ("british", "american"), [("tumour", "tumor"), ("oesophagus", "esophagus"), ("oedema", "edema")]
)
def test_british_and_american_spelling_find_the_same_models(british: str, american: str) -> None:
    assert found(british) == found(american) != []


def test_structures_are_found_by_their_standard_name_and_data_sets_by_theirs() -> None:
    assert "lung-tumor-ct-unetrpp" in found("neoplasm ct")
    assert found("left kidney") == found("kidney left") == ["abdomen-ct-unetrpp"]
    assert found("acdc") == ["heart-mr-unetrpp"]


def test_all_words_must_fit_and_no_word_fits_everything() -> None:
    assert found("liver mr") == []
    assert len(search(all_cards(), "")) == len(search(all_cards(), [])) == len(all_cards()) >= 9


def test_a_model_with_the_word_in_its_title_comes_first() -> None:
    cards = [dataclasses.replace(card, title="x", id="x") for card in all_cards()]
    named = dataclasses.replace(cards[-1], title="Model of the aorta")
    assert search([*cards[:-1], named], "aorta")[0] is named


def test_words_that_do_not_distinguish_models_hide_none():
    found = [card.id for card in search(all_cards(), "brain segmentation")]
    assert "brain-mr-atlas-unet" in found and found == [card.id for card in search(all_cards(), "brain")]
    assert search(all_cards(), "segmentation"), "alone it is a word like others"


# --- the models of the user ----------------------------------------------------------------------


def install(folder: Path, card: Card, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / CARD_NAME).write_text(json.dumps(card_to_dict(card) | changes), encoding="utf-8")
    return folder


def test_a_users_model_is_listed_after_those_that_ship_and_hides_none(tmp_path: Path) -> None:
    hippocampus = find_card("hippocampus-mr-lightmedseg")
    install(tmp_path / "models" / "mine", hippocampus, id="mine", title="Lëber")
    install(tmp_path / "models" / "copy", hippocampus, title="Not the one that ships")
    assert [card.id for card in all_cards()][-1] == "mine" and found("leber") == ["mine"]
    assert find_card("hippocampus-mr-lightmedseg") == hippocampus
    assert find_card("mine").folder == tmp_path / "models" / "mine"


def test_a_users_card_with_a_misspelled_field_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path / "models" / "mine", all_cards()[0], id="mine", licens="CC0")
    with caplog.at_level(logging.WARNING), pytest.raises(UnknownModelError, match="no model 'mine'"):
        find_card("mine")
    assert "licens is not a known field (did you mean license?)" in caplog.text


def test_a_model_that_described_itself_at_the_first_read_replaces_the_card_that_ships(tmp_path: Path) -> None:
    shipped = find_card(SLIM)
    assert shipped.unverified and shipped.metadata_in_weights
    facts = {"assumptions": [], "title": "Heart, as its weights say"}
    folder = install(tmp_path / "weights" / SLIM, shipped, **facts)
    completed = find_card(SLIM)
    assert completed.title == "Heart, as its weights say" and not completed.unverified
    assert completed.folder == shipped.folder
    assert [card.id for card in all_cards()].count(SLIM) == 1
    shutil.rmtree(folder)
    assert find_card(SLIM) == shipped


@pytest.mark.parametrize("change", [{"version": "0.9"}, {"id": "another"}, {"labels": []}])
def test_what_does_not_belong_to_the_card_that_ships_does_not_replace_it(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    shipped = find_card(SLIM)
    install(tmp_path / "weights" / SLIM, shipped, title="Another", **change)
    with caplog.at_level(logging.WARNING):
        assert find_card(SLIM) == shipped
    assert ("labels must not be empty" in caplog.text) == ("labels" in change)


def test_a_model_that_describes_nothing_is_never_replaced(tmp_path: Path) -> None:
    shipped = find_card("heart-mr-unetrpp")
    install(tmp_path / "weights" / shipped.id, shipped, title="Another")
    assert find_card(shipped.id) == shipped
