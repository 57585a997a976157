"""The mark of an unverified model goes where this computer has verified it, with this version and these weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import Answer, Server
from LightSegLib.catalog.card import Card, ModelPart
from LightSegLib.core.errors import OutputError
from LightSegLib.core.paths import weights_folder
from LightSegLib.weights import verified
from LightSegLib.weights.store import WeightStore
from LightSegLib.weights.verified import FILE, is_unverified, remember_verified, was_verified_here
from stored_weights import CONTENT


@pytest.fixture
def unverified(card: Card) -> Card:
    return replace(card, assumptions=("Nobody has run this model.",))


def test_the_mark_goes_with_the_verification_and_comes_back_with_another_file_or_version(
    unverified: Card, server: Server
) -> None:
    WeightStore().ensure(unverified)
    assert is_unverified(unverified)
    remember_verified(unverified)
    assert was_verified_here(unverified) and not is_unverified(unverified)
    assert is_unverified(replace(unverified, version="2"))
    assert is_unverified(replace(unverified, id="another"))
    WeightStore().remove(unverified, forget=True)
    assert is_unverified(unverified)  # nothing is here
    server.answers["/file"] = Answer(CONTENT[:-1] + b"!")
    WeightStore().ensure(unverified)
    assert is_unverified(unverified)


def test_what_is_beside_the_users_own_card_counts_by_its_content(unverified: Card, tmp_path: Path) -> None:
    folder = tmp_path / "card"
    folder.mkdir()
    (folder / "final.pth").write_bytes(CONTENT)
    remember_verified(unverified)
    assert was_verified_here(unverified)
    (folder / "final.pth").write_bytes(CONTENT + b"!")
    assert not was_verified_here(unverified)


def test_a_model_of_several_is_verified_with_the_weights_of_all(
    unverified: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = replace(unverified, id="part")
    whole = replace(unverified, id="whole", parts=(ModelPart("tiny", (1,)), ModelPart("part", (2,))))
    monkeypatch.setattr(verified, "own_models", lambda card: (unverified, part) if card.parts else (card,))
    WeightStore().ensure(unverified)
    with pytest.raises(ValueError, match="no weights"):
        remember_verified(whole)
    WeightStore().ensure(part)
    remember_verified(whole)
    assert was_verified_here(whole) and not was_verified_here(part)
    WeightStore().remove(part)
    assert not was_verified_here(whole)


@pytest.mark.parametrize("content", ["[]", "{", '{"tiny": 5}', '{"tiny": {"version": "1"}}'])
def test_a_record_that_another_program_has_spoiled_verifies_nothing_and_is_replaced(
    unverified: Card, content: str
) -> None:
    WeightStore().ensure(unverified)
    (weights_folder() / FILE).write_text(content, encoding="utf-8")
    assert is_unverified(unverified)
    remember_verified(unverified)
    assert was_verified_here(unverified)
    assert json.loads((weights_folder() / FILE).read_text(encoding="utf-8"))["tiny"]["version"] == "1"


def test_a_folder_that_cannot_be_written_is_reported(unverified: Card, tmp_path: Path) -> None:
    folder = tmp_path / "card"
    folder.mkdir()
    (folder / "final.pth").write_bytes(CONTENT)
    weights_folder().parent.mkdir(parents=True)
    weights_folder().write_text("a file")
    with pytest.raises(OutputError, match="does not exist"):
        remember_verified(unverified)
