"""The models of published collections: made from facts, loaded fast, found by what they segment."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from LightSegLib.catalog import families
from LightSegLib.catalog.anatomy import look_up
from LightSegLib.catalog.card import Card
from LightSegLib.catalog.card_file import card_from_dict, card_to_dict
from LightSegLib.catalog.families import FAMILIES_FOLDER, family_cards
from LightSegLib.catalog.lookup import all_cards, as_shipped, find_card
from LightSegLib.catalog.needed import finder_of, needed_models
from LightSegLib.catalog.search import found_structures, search, search_not_offered

REPOSITORY = Path(__file__).resolve().parents[3]
CARDS = family_cards()
BY_ID = {card.id: card for card in CARDS}


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the models and weights of the user who runs it."""
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script that makes the families' files."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "Catalog"))
    import generate

    yield generate
    for name in ("generate", "totalsegmentator", "naming", "json_text", "update"):
        sys.modules.pop(name, None)


def found(words: str) -> set[str]:
    """Ids of the models that a search in everything finds."""
    return {card.id for card in search(all_cards(), words)}


# --- from facts ----------------------------------------------------------------------------------


def test_the_families_are_what_the_facts_give(generate: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


def test_a_fact_that_changes_is_noticed_and_brought_in_by_one_command(
    generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new archive of a task: the files do not fit until they are made again, and differ in that alone."""
    facts = json.loads((generate.FACTS / "totalsegmentator.json").read_text(encoding="utf-8"))
    facts["upstream"]["weights"]["297"]["version"] = "v9.1.0-weights"
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "totalsegmentator.json").write_text(json.dumps(facts), encoding="utf-8")
    (tmp_path / "families").mkdir()
    before = (FAMILIES_FOLDER / "totalsegmentator.json").read_text(encoding="utf-8")
    (tmp_path / "families" / "totalsegmentator.json").write_text(before, encoding="utf-8")
    monkeypatch.setattr(generate, "FACTS", tmp_path / "facts")
    monkeypatch.setattr(generate, "FAMILIES", tmp_path / "families")
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out == "totalsegmentator.json is not what the facts give\n"
    assert generate.main([]) == 0 and generate.main(["--check"]) == 0
    after = (tmp_path / "families" / "totalsegmentator.json").read_text(encoding="utf-8")
    changed = [new for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert len(changed) == 2 and '"version": "9.1.0"' in changed[0] and "/v9.1.0-weights/Dataset297_" in changed[1]


def test_a_task_that_is_new_upstream_cannot_be_forgotten(generate: Any) -> None:
    facts = json.loads((generate.FACTS / "totalsegmentator.json").read_text(encoding="utf-8"))
    facts["upstream"]["tasks"]["toes"] = {"task_id": 1, "resample": 1.5, "trainer": "nnUNetTrainer"}
    with pytest.raises(SystemExit, match="new tasks: toes"):
        generate.family(facts)


def test_a_release_is_read_from_its_source_without_running_anything_of_it(
    generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout whose tables name each other, and whose files would end the test if they were run."""
    import update

    folder = tmp_path / "checkout" / "src" / "mrsegmentator"
    folder.mkdir(parents=True)
    (folder / "config.py").write_text('exit(1)\nWEIGHTS_URL = "https://example.org/v2.0.0/weights.zip"\n')
    table = "|Index|Class|\n| :--- | :--- |\n| 0 | background |\n| 1 | spleen |\n| 2 | left_toe |\n"
    (tmp_path / "checkout" / "README.md").write_text(table, encoding="utf-8")
    assert update.mrsegmentator(tmp_path / "checkout") == {
        "models": {"weights": {"url": "https://example.org/v2.0.0/weights.zip"}},
        "classes": {"weights": ["spleen", "left_toe"]},
    }
    (tmp_path / "maps.py").write_text(
        'exit(1)\nparts = {1: "a", 3: "c"}\nalso = {7: parts, "one": parts[3]}\ncopied = parts.copy()\n'
    )
    known = update.literals(tmp_path / "maps.py")
    assert known == {"parts": {1: "a", 3: "c"}, "also": {7: {1: "a", 3: "c"}, "one": "c"}}
    assert update.in_order(known["parts"]) == ["a", None, "c"]


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("kidney_right", "Right kidney"),
        ("vertebrae_L5", "Vertebra L5"),
        ("rib_left_10", "Left rib 10"),
        ("lung_upper_lobe_left", "Upper lobe of left lung"),
        ("heart_atrium_left", "Left atrium of heart"),
        ("ventricle_frontal_horn_left", "Left lateral ventricle, frontal horn"),
        ("iliac_vena_right", "Right iliac vein"),
        ("upper_left_canine_fdi23", "Upper left canine (FDI 23)"),
        ("left_gluteus_maximus", "Left gluteus maximus"),
        ("right psoas major", "Right psoas major"),
        ("inferior_vena_cava", "Inferior vena cava"),
        ("carpal_left", "Left carpal bones"),
        ("GM", "Gray matter"),
    ],
)
def test_structures_have_the_names_that_people_say(generate: Any, original: str, name: str) -> None:
    assert generate.readable(original) == name


# --- the cards -----------------------------------------------------------------------------------

COUNTS = {
    "TotalSegmentator": 46,
    "MOOSE": 15,
    "CADS": 7,
    "VIBESegmentator": 3,
    "MRSegmentator": 2,
    "SIAM": 2,
    "DentalSegmentator": 1,
    "HD-BET": 1,
    "UpperAirwaySegmentator": 1,
}


def test_every_family_has_the_models_that_it_should() -> None:
    assert Counter(card.family for card in CARDS) == COUNTS


def test_ids_are_unique_and_can_be_said() -> None:
    ids = [card.id for card in all_cards()]
    assert len(ids) == len(set(ids))
    assert all(len(card.id) <= 32 for card in CARDS)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_every_card_is_as_good_as_one_that_a_user_writes(card: Card) -> None:
    assert card_from_dict(json.loads(json.dumps(card_to_dict(card))), card.folder) == card
    assert card.unverified and not card.was_run
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in card.assumptions)
    assert card.limitations.startswith("Research use, not for diagnosis.")
    assert card.license and card.citation and card.homepage.startswith("https://")
    assert card.non_commercial == ("BY-NC" in card.license)
    assert card.description.endswith(".") and card.version
    assert as_shipped(card) == card == find_card(card.id)


def test_a_card_says_whether_its_authors_program_gave_the_same_labels(generate: Any) -> None:
    """In words that leave no doubt that its real weights were not run."""
    facts = json.loads((generate.FACTS / "totalsegmentator.json").read_text(encoding="utf-8"))["compared"]
    compared = {card.id for card in CARDS if facts["sentence"] in card.assumptions[0]}
    assert compared == set(facts["models"]) and "total-ct-fast" in compared and "liver-ct" not in compared
    assert all(
        card.assumptions[0].startswith("LightSeg's developers have not run this model")
        for card in CARDS
        if card.id in compared
    )


@pytest.mark.parametrize("card", [card for card in CARDS if not card.parts], ids=lambda card: card.id)
def test_weights_come_from_the_authors_and_say_the_rest(card: Card) -> None:
    (source,) = card.weights.sources
    assert source.kind == "url" and source.url.startswith(("https://github.com/", "https://zenodo.org/"))
    assert card.weights.file == source.url.partition("?")[0].rpartition("/")[2] and card.weights.archive is not None
    assert card.metadata_in_weights and not card.network and "overlap" in card.kept
    assert "orientation" in card.kept or card.family == "VIBESegmentator"  # whose weights say it
    assert "labels" in card.kept or any("do not list its classes" in words for words in card.assumptions)


@pytest.mark.parametrize("card", [card for card in CARDS if card.region_from], ids=lambda card: card.id)
def test_the_model_that_finds_a_place_is_there_and_has_the_labels(card: Card) -> None:
    finder = finder_of(card)
    assert finder is not None and finder.modality == card.modality


@pytest.mark.parametrize("card", [card for card in CARDS if card.parts], ids=lambda card: card.id)
def test_the_parts_of_a_model_have_all_its_structures_once(card: Card) -> None:
    names = {label.value: label.name for label in card.labels}
    written: list[int] = []
    for part in card.parts:
        own = BY_ID[part.model]
        assert len(part.labels) == len(own.labels) and own.preprocessing == card.preprocessing
        for label, value in zip(own.labels, part.labels, strict=True):
            assert value == 0 or names[value] == label.name
        written += [value for value in part.labels if value]
    assert sorted(written) == sorted(names) and not card.weights.sources and not card.metadata_in_weights


def test_models_of_one_task_differ_in_quality() -> None:
    tasks: dict[tuple[str, str], list[Card]] = {}
    for card in CARDS:
        tasks.setdefault((card.family, card.task), []).append(card)
    for cards in tasks.values():
        assert len({card.quality for card in cards}) == len(cards)
        assert len({(card.modality, tuple(label.name for label in card.labels)) for card in cards}) == 1
    assert {card.id for card in tasks["TotalSegmentator", "total"]} == {
        "total-ct", "total-ct-fast", "total-ct-fastest"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "bytes_in_all", "spacing", "overlap", "finder", "classes", "last"),
    [
        ("total-ct", 1169624951, (1.5, 1.5, 1.5), 0.2, None, 117, "costal_cartilages"),
        ("total-ct-fast", 135386075, (3.0, 3.0, 3.0), 0.2, None, 117, "costal_cartilages"),
        ("total-mr", 463838049, (1.5, 1.5, 1.5), 0.2, None, 50, "brain"),
        ("body-ct-fast", 124286256, (6.0, 6.0, 6.0), 0.5, None, 2, "body_extremities"),
        ("lung-vessels-ct", 229853539, (0.703125, 0.703125, 1.0), 0.5, "total-ct-fast", 4, "lung_veins"),
        ("liver-vessels-ct", 230191278, None, 0.5, "total-ct-fastest", 2, "liver_tumor"),
        ("liver-segments-mr", 229689699, (1.1250001788139343, 1.1875, 3.0), 0.5, "total-mr-fast", 8, "liver_segment_8"),
        ("abdominal-muscles-ct", 124276110, (0.75, 0.75, 1.0), 0.5, "body-ct-fast", 22, "quadratus_lumborum_left"),
        ("headneck-muscles-ct", 460594532, (0.75, 0.75, 1.0), 0.5, "total-ct-fastest", 23, "prevertebral_left"),
        ("craniofacial-structures-ct", 230321497, (0.5, 0.5, 0.5), 0.5, "total-ct-fastest", 7, "teeth_upper"),
        ("vertebrae-pp-ct", 233669247, (1.5, 1.5, 1.5), 0.5, None, 24, "vertebrae_L5"),
    ],
)
def test_models_are_run_as_totalsegmentator_runs_them(
    model: str, bytes_in_all: int, spacing: Any, overlap: float, finder: str | None, classes: int, last: str
) -> None:
    """As read from TotalSegmentator 2.18 by other means than the script's."""
    card = BY_ID[model]
    outer = card.preprocessing.outer_resampling
    assert (outer and outer.spacing) == spacing and card.inference.overlap == overlap
    assert (card.region_from and card.region_from.model) == finder
    assert card.region_from is None or (card.region_from.margin_mm, card.region_from.whole_numbers) == (20, True)
    archives = [BY_ID[part.model] for part in card.parts] or [card]
    assert sum(one.weights.size or 0 for one in archives) == bytes_in_all
    assert len(card.labels) == classes and card.labels[-1].original == last
    assert card.preprocessing.orientation == "RAS" and (outer is None or outer.whole_numbers)


def test_teeth_are_looked_for_where_another_model_has_found_the_jaws_in_the_skull() -> None:
    assert [card.id for card in needed_models(BY_ID["teeth-ct"])] == [
        "total-ct-fastest", "craniofacial-structures-ct", "teeth-ct"
    ]  # fmt: skip
    region = BY_ID["teeth-ct"].region_from
    assert region is not None and region.margin_mm == 10 and region.labels == (2, 7)
    jaws = {label.value: label.original for label in BY_ID["craniofacial-structures-ct"].labels}
    assert [jaws[value] for value in region.labels] == ["teeth_lower", "teeth_upper"]


def test_single_structures_are_looked_for_where_a_quick_model_shows_them() -> None:
    """As TotalSegmentator with --roi_subset: at 6 mm in CT, at 3 mm in MR."""
    rough = {card.id: card.rough.model for card in CARDS if card.rough}
    in_ct = {"total-ct": "total-ct-fastest", "total-ct-fast": "total-ct-fastest"}
    assert rough == in_ct | {"total-mr": "total-mr-fast"}
    needed = [card.id for card in needed_models(BY_ID["total-ct"], ["spleen", "iliopsoas_left"])]
    assert needed == ["total-ct-fastest", "total-ct-organs", "total-ct-muscles"]


# --- as a user meets them ------------------------------------------------------------------------


def test_a_structure_finds_the_tasks_that_have_it() -> None:
    totals = {"total-ct", "total-ct-muscles", "total-ct-fast", "total-ct-fastest"}
    assert totals <= found("iliopsoas ct") and totals <= found("iliopsoas_left ct")
    assert "vertebrae-mr" in found("vertebrae_L5 mr") and "vertebrae-mr" in found("Vertebra L5 mr")
    assert found("totalsegmentator iliopsoas mr") >= {"total-mr", "total-mr-fast"}
    assert found("iliopsoas") >= totals | {"moose-ct-muscles", "cads-ct-554-muscles", "mrsegmentator-fast", "vibe-mr"}
    assert found("siam") == {"siam-head", "siam-head-v02"} and "siam-head" in found("thalamus mr")
    assert all(card.family == "TotalSegmentator" for card in search(all_cards(), "totalsegmentator"))


def test_what_is_not_offered_is_found_with_the_reason() -> None:
    (dental,) = search_not_offered("moose dental")
    assert dental.reason.endswith("Use dentalsegmentator.")
    (model,) = [model for model in search_not_offered("coronary arteries") if model.name == "coronary_arteries"]
    assert model.family == "TotalSegmentator" and "license of the authors" in model.reason
    assert search_not_offered("") == [] == search_not_offered("no such thing")


def test_originals_have_the_terms_of_their_names() -> None:
    for label in {label for card in CARDS for label in card.labels}:
        if label.original and look_up(label.original)[0] is not None:
            assert label.terminology == look_up(label.original)[0]


def test_all_models_are_there_in_a_moment() -> None:
    """The best of a few times, for the machine may be busy; alone it takes some 40 ms, and a search 5 ms."""
    loaded, searched = [], []
    for _ in range(5):
        for cached in (families._label, families._files, families.family_cards):
            cached.cache_clear()
        begun = time.process_time()
        cards = family_cards()
        loaded.append(time.process_time() - begun)
        begun = time.process_time()
        assert search(cards, "iliopsoas")
        searched.append(time.process_time() - begun)
    assert min(loaded) < 0.1 and min(searched) < 0.02


def test_of_a_model_that_was_found_those_structures_are_named_that_most_words_fit() -> None:
    whole_body = find_card("total-ct")
    assert found_structures(whole_body, "iliopsoas ct") == ["Left iliopsoas", "Right iliopsoas"]
    assert found_structures(whole_body, ["left", "kidney"]) == ["Left kidney", "Left kidney cyst"]
    assert found_structures(whole_body, "whole") == found_structures(whole_body, "") == []
    assert found_structures(find_card("hd-bet"), "brain") == []  # all that it has
