"""Whoever has used TotalSegmentator before has its weights on the disk: they are not downloaded again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import Server
from imported_models import packed
from LightSegLib.catalog.card import Archive, Card
from LightSegLib.catalog.card_file import write_card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.cli.main import main
from LightSegLib.core.paths import user_models_folder, weights_folder
from LightSegLib.models.opening import open_model
from LightSegLib.weights.store import WeightStore

FOLDER = "Dataset042_Tiny"


@pytest.fixture(autouse=True)
def no_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TOTALSEG_WEIGHTS_PATH", "TOTALSEG_HOME_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


@pytest.fixture
def cards(publish: Callable[..., Card], trained: Path, tmp_path: Path) -> list[Card]:
    """Two models of one data set, as the whole and a part of it may be, and one of another."""
    rule = Archive(f"{FOLDER}/{trained.name}", ("0",))
    card = publish(packed(trained, tmp_path / "w.zip", FOLDER), rule, sha256="0" * 64)
    others = [
        replace(card, id="liver-ct-more", weights=replace(card.weights, archive=replace(rule, folds=("0", "1")))),
        replace(card, id="other-ct", weights=replace(card.weights, archive=Archive("Dataset043_Other/x"))),
    ]
    for other in others:
        folder = user_models_folder() / other.id
        folder.mkdir()
        write_card(other, folder / "model.json")
    return [card, *others]


def install(trained: Path, results: Path) -> None:
    shutil.copytree(trained, results / FOLDER / trained.name)


@pytest.mark.parametrize("place", ["home", "TOTALSEG_HOME_DIR", "TOTALSEG_WEIGHTS_PATH", "FOLDER", "FOLDER of weights"])
def test_what_an_installation_has_is_taken(
    cards: list[Card], trained: Path, tmp_path: Path, server: Server, place: str,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    program = tmp_path / "home" / ".totalsegmentator" if place == "home" else tmp_path / "elsewhere"
    results = program if place.endswith(("PATH", "weights")) else program / "nnunet" / "results"
    install(trained, results)
    if place.startswith("TOTALSEG"):
        monkeypatch.setenv(place, str(program))
    words = [str(program)] if place.startswith("FOLDER") else []
    assert main(["weights", "add", "--from-totalsegmentator", *words]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["liver-ct", "liver-ct-more"]
    assert [len(open_model(find_card(line.split(": ")[0])).networks) for line in lines] == [1, 2]
    assert WeightStore().state(cards[2]) == "available" and server.asked == []
    assert main(["weights", "add", "--from-totalsegmentator", *words]) == 0
    assert capfd.readouterr().out.count("has its weights already") == 2
    assert (results / FOLDER / trained.name / "fold_0" / "checkpoint_final.pth").is_file()


def test_one_damaged_model_does_not_stop_the_others(
    cards: list[Card], trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    install(trained, tmp_path)
    checkpoint = tmp_path / FOLDER / trained.name / "fold_1" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert main(["weights", "add", "--from-totalsegmentator", str(tmp_path)]) == 1
    out = capfd.readouterr().out
    assert f"liver-ct: {weights_folder()}" in out and "liver-ct-more: The weights file" in out
    assert [WeightStore().state(card) for card in cards] == ["downloaded", "available", "available"]


def test_a_data_set_may_be_a_link_to_a_folder_of_another_name(cards: list[Card], trained: Path, tmp_path: Path) -> None:
    """As where the weights are on another disk."""
    shutil.copytree(trained, tmp_path / "disk" / "42" / trained.name)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / FOLDER).symlink_to(tmp_path / "disk" / "42")
    assert main(["weights", "add", "--from-totalsegmentator", str(tmp_path / "results")]) == 0
    assert [WeightStore().state(card) for card in cards] == ["downloaded", "downloaded", "available"]


def test_a_link_of_another_name_to_a_data_set_is_followed(cards: list[Card], trained: Path, tmp_path: Path) -> None:
    install(trained, tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / FOLDER)
    assert main(["weights", "add", "liver-ct", str(tmp_path / "link")]) == 0
    assert WeightStore().state(cards[0]) == "downloaded"


def test_no_installation_is_said(cards: list[Card], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "add", "--from-totalsegmentator"]) == 2
    err = capfd.readouterr().err
    assert str(tmp_path / "home" / ".totalsegmentator" / "nnunet" / "results") in err and "Name the folder" in err
    assert main(["weights", "add", "--from-totalsegmentator", str(tmp_path / "nope")]) == 2
    assert "nope does not exist. Check" in capfd.readouterr().err
    assert main(["weights", "add", "--from-totalsegmentator", str(tmp_path), "liver-ct"]) == 2
    assert "Leave out liver-ct" in capfd.readouterr().err


def test_model_and_file_are_needed_otherwise(capfd: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["liver-ct"]):
        assert main(["weights", "add", *words]) == 2
        assert "required" in capfd.readouterr().err


def test_every_listed_model_of_the_program_would_be_found(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the folders that its archives have; here they are empty, which is said of each."""
    from LightSegLib.catalog.lookup import all_cards

    listed = [card for card in all_cards() if card.family == "TotalSegmentator" and card.weights.archive]
    assert len(listed) > 30
    for card in listed:
        (tmp_path / "results" / card.weights.archive.folder).mkdir(parents=True, exist_ok=True)
    assert main(["weights", "add", "--from-totalsegmentator", str(tmp_path / "results"), "--accept-license"]) == 2
    out = capfd.readouterr().out
    assert all(f"{card.id}: " in out for card in listed)
    assert out.count("has no folder with plans.json and dataset.json") == len(listed)
