"""What the author of a model card may write, and which mistakes are named."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from containing import assert_contains
from LightSegLib.catalog import card as card_module
from LightSegLib.catalog import terminology
from LightSegLib.catalog.card import Resampling
from LightSegLib.catalog.card_file import card_from_dict, card_schema, card_to_dict, read_card, write_card
from LightSegLib.core.errors import ModelError
from LightSegLib.core.schema import FieldError, conform

Change = Callable[[dict[str, Any]], object]

# Every field once; no fact in it is true.
COMPLETE: dict[str, Any] = {
    "schema": 1,
    "id": "liver-ct-net",
    "title": "Liver",
    "version": "1.0",
    "description": "The liver.",
    "modality": "CT",
    "channels": ["CT", "PET"],
    "network": "lightmedseg",
    "network_arguments": {"in_channels": 2, "classes": 2, "kernel_sizes": [[3, 3, 3]]},
    "preprocessing": {
        "orientation": "LPS",
        "crop": "nonzero",
        "spacing": [0.5, 1.0, None],
        "normalization": [
            {"method": "ct", "lower": -100.0, "upper": 200.0, "mean": 50.0, "std": 30.0},
            {"method": "zscore", "masked": True},
        ],
        "transpose": [1, 0, 2],
        "resampling": {"interpolation": "linear", "separate_axis": "always", "separate_axis_interpolation": "cubic"},
        "normalize_first": True,
        "outer_resampling": {"spacing": [1.5, 1.5, 3.0], "whole_numbers": True, "default": False},
    },
    "inference": {
        "patch_size": [32, 64, 96],
        "overlap": 0.25,
        "mirror_axes": [0, 2],
        "largest_component": "label",
        "pad_to_patch": True,
        "average": "probabilities",
        "regions": [1, 2],
        "resampling": {
            "interpolation": "nearest",
            "separate_axis": "anisotropic",
            "separate_axis_interpolation": "linear",
        },
    },
    "labels": [
        {"value": 1, "name": "Liver", "color": [221, 130, 101]},
        {
            "value": 2,
            "name": "Leber rechts",
            "original": "liver_right",
            "color": [0, 255, 3],
            "terminology": {
                "category": {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical Structure"},
                "type": {"scheme": "SCT", "value": "10200004", "meaning": "Liver"},
                "modifier": {"scheme": "SCT", "value": "24028007", "meaning": "Right"},
                "region": {"scheme": "SCT", "value": "113345001", "meaning": "Abdomen"},
                "region_modifier": {"scheme": "SCT", "value": "24028007", "meaning": "Right"},
            },
        },
    ],
    "weights": {
        "file": "liver weights.pt",
        "size": 1000,
        "sha256": "0f" * 32,
        "git_blob": "0f" * 20,
        "sources": [
            {"kind": "huggingface", "repository": "a/b", "revision": "main", "path": "folder"},
            {"kind": "github", "repository": "a/b.c", "revision": "0f" * 20, "path": "folder/x.pt"},
            {"kind": "google_drive", "id": "1a-B_c"},
            {"kind": "url", "url": "https://example.org/x.pt"},
            {"kind": "page", "url": "https://example.org"},
        ],
        "archive": {"folder": "Dataset001/trainer", "folds": ["0", "all"]},
    },
    "license": "CC0",
    "citation": "None.",
    "limitations": "All.",
    "training": {"epochs": 3, "losses": [1.5, 1]},
    "performance": {"dice": 0.5},
    "sample": "liver.nrrd",
    "roi_mm": [300.0, 200.0, 150.0],
    "homepage": "https://example.org",
    "assumptions": ["The spacing is not known."],
    "metadata_in_weights": True,
    "non_commercial": True,
    "rough": {"model": "liver-ct-rough", "margin_mm": 20.0, "whole_numbers": True},
    "postprocessing": [
        {"step": "keep_largest", "labels": [1]},
        {"step": "keep_within", "labels": [2], "distance_mm": 10.0, "reference": [5]},
        {"step": "remove_small", "labels": [2], "volume_mm3": 50000.0, "together": True, "grid": "image"},
    ],
    "kept": ["orientation", "overlap"],
    "family": "Livers",
    "task": "liver",
    "quality": "fastest",
}


@pytest.fixture
def data() -> dict[str, Any]:
    return copy.deepcopy(COMPLETE)


def test_the_schema_is_one_that_any_editor_understands() -> None:
    jsonschema.Draft202012Validator.check_schema(card_schema())
    assert card_schema()["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$schema"]


def test_the_schema_explains_every_field_and_every_pattern_has_an_example() -> None:
    def walk(schema: dict[str, Any], name: str) -> None:
        assert {"title", "description", "$ref"} & set(schema), name
        if "pattern" in schema:
            assert schema["pattern"].startswith("^") and schema["pattern"].endswith("$"), name
            assert all(jsonschema.Draft202012Validator(schema).is_valid(example) for example in schema["examples"])
        for field, below in schema.get("properties", {}).items():
            walk(below, f"{name}.{field}")

    for name, schema in {"card": card_schema(), **card_schema()["$defs"]}.items():
        walk(schema, name)


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        (None, "Card"),
        *((name, name.capitalize()) for name in card_schema()["$defs"] if name not in ("axis", "lengths", "share")),
    ],
)
def test_the_program_reads_exactly_the_fields_of_the_schema(definition: str | None, kind: str) -> None:
    described = card_schema()["$defs"][definition] if definition else card_schema()
    known = {field.name for field in dataclasses.fields((vars(card_module) | vars(terminology))[kind])}
    assert set(described["properties"]) == (known - {"folder"} | {"schema"} if kind == "Card" else known)


def test_every_field_survives_writing_and_reading(tmp_path: Path) -> None:
    card = card_from_dict(COMPLETE)
    assert_contains(card_to_dict(card), COMPLETE)
    write_card(card, tmp_path / "Karte ü.json")
    assert read_card(tmp_path / "Karte ü.json") == card
    assert card.preprocessing.spacing == (0.5, 1.0, None) and card.network_arguments["kernel_sizes"] == [[3, 3, 3]]
    assert card.weights.sources[2].id == "1a-B_c" and card.labels[1].terminology.region.meaning == "Abdomen"


def test_whole_numbers_may_be_written_with_a_point_and_lengths_without(data: dict[str, Any]) -> None:
    data["inference"]["patch_size"] = [32.0, 64.0, 96.0]
    data["preprocessing"]["spacing"] = [1, 1, 2]
    card = card_from_dict(json.loads(json.dumps(data)))
    assert [type(n) for n in (*card.inference.patch_size, *card.preprocessing.spacing)] == [int] * 3 + [float] * 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("licence", "license"),
        ("not_known", "assumptions"),
        ("self_describing", "metadata_in_weights"),
        ("region_mm", "roi_mm"),
    ],
)
def test_a_card_with_a_former_name_of_a_field_is_read(data: dict[str, Any], old: str, new: str) -> None:
    expected = card_from_dict(data)
    data[old] = data.pop(new)
    assert card_from_dict(data) == expected


@pytest.mark.parametrize("step", ["preprocessing", "inference"])
def test_a_card_with_former_names_in_its_resampling_is_read(data: dict[str, Any], step: str) -> None:
    expected, rules = card_from_dict(data), data[step]["resampling"]
    rules["separate"], rules["across"] = rules.pop("separate_axis"), rules.pop("separate_axis_interpolation")
    assert card_from_dict(data) == expected


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_card_from_before_the_coarse_axis_counted_keeps_its_meaning(data: dict[str, Any], interpolation: str) -> None:
    del data["preprocessing"]["resampling"], data["inference"]["resampling"]
    data["preprocessing"]["interpolation"] = interpolation
    card = card_from_dict(data)
    assert card.preprocessing.resampling == Resampling(interpolation, separate_axis="never")
    assert card.inference.resampling == Resampling("linear", separate_axis="never")


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where all fields and entries of a JSON value are."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*path, key)
        yield from paths(entry, (*path, key))


def name_of(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


WRONG = (
    None, True, -1, 0, 1, 2.0, 0.5, 300, 70000, "", "text", "RAS", "0f" * 20, "0f" * 32, [], {}, [1, 2, 3], [1, 1, 2],
    [0.5, 1, 1], [-1, 0, 1], ["a"], [{}], {"kind": "url"}, {"x": 1},
)  # fmt: skip


@pytest.mark.parametrize("path", list(paths(COMPLETE)), ids=name_of)
def test_damaged_cards_are_refused_exactly_where_jsonschema_refuses_them(path: tuple[Any, ...]) -> None:
    """Every field in turn is removed, replaced by other values, and given an unknown neighbor."""
    authority = jsonschema.Draft202012Validator(card_schema())
    for damage in ("removed", "misspelled", *WRONG):
        card = copy.deepcopy(COMPLETE)
        parent: Any = card
        for key in path[:-1]:
            parent = parent[key]
        if damage == "removed":
            del parent[path[-1]]
        elif damage == "misspelled":
            if not isinstance(path[-1], str):
                continue
            parent[path[-1] + "s"] = parent.pop(path[-1])
        else:
            parent[path[-1]] = damage
        try:
            conform(card, card_schema())
            complaint = None
        except FieldError as error:
            complaint = str(error)
        assert (complaint is None) == authority.is_valid(card), (damage, complaint)
        field = path[:-1] if isinstance(path[-1], int) else path  # of a list it may be the list that is wrong
        assert complaint is None or complaint.startswith(name_of(field)), (damage, complaint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(lisense="MIT"), r"lisense is not a known field \(did you mean license\?\)"),
        (lambda d: d["labels"][1].update(colour=[1, 2, 3]), r"labels\[1\]\.colour .* \(did you mean color\?\)"),
        (lambda d: d["labels"][1].pop("color"), r"labels\[1\]\.color is missing"),
        (lambda d: d["labels"][1]["color"].pop(), r"labels\[1\]\.color must have 3 entries"),
        (lambda d: d["labels"][0].update(color=[0, 0, 256]), r"labels\[0\]\.color\[2\] must be at most 255"),
        (lambda d: d["labels"][1].update(value=1), r"labels\[1\]\.value must differ from the other labels' values"),
        (
            lambda d: d["labels"][1].update(name=d["labels"][0]["name"]),
            r"labels\[1\]\.name must differ from the other labels' names",
        ),
        (lambda d: d.update(labels=[]), "labels must not be empty"),
        (lambda d: d.update(id="Liver CT"), "id must look like heart-mr-unetrpp"),
        (lambda d: d.update(id="liver\n"), "id must look like"),
        (lambda d: d.update(schema=2), "schema must be 1"),
        (lambda d: d["preprocessing"].update(orientation="RAL"), "orientation must look like RAS or LPS or input"),
        (lambda d: d["preprocessing"]["normalization"].pop(), "normalization must have one entry per channel"),
        (
            lambda d: d["preprocessing"]["normalization"][0].pop("std"),
            r"preprocessing\.normalization\[0\]\.std is required by ct",
        ),
        (
            lambda d: d["preprocessing"].update(spacing=[1, 0, 1]),
            r"preprocessing\.spacing\[1\] must be at least 0.0001",
        ),
        (lambda d: d["preprocessing"].update(spacing=[1, 1, float("nan")]), r"spacing\[2\] must be a number"),
        (lambda d: d["preprocessing"].update(spacing=[1, 1, 10**400]), r"spacing\[2\] must be a number"),
        (lambda d: d["preprocessing"].update(spacing=[1, "x", 1]), r"spacing\[1\] must be a number or null"),
        (lambda d: d["preprocessing"].update(spacing=[0, 1, None]), r"spacing\[0\] must be at least 0.0001"),
        (
            lambda d: d["preprocessing"]["resampling"].update(interpolation="spline"),
            r"preprocessing\.resampling\.interpolation must be one of nearest, linear, cubic",
        ),
        (
            lambda d: d["inference"]["resampling"].pop("interpolation"),
            r"inference\.resampling\.interpolation is missing",
        ),
        (lambda d: d["preprocessing"].update(interpolation="cubic"), "preprocessing.interpolation is not a known"),
        (lambda d: d["preprocessing"].update(transpose=[0, 1, 1]), "transpose must not contain an entry twice"),
        (lambda d: d["inference"].update(overlap=1), r"inference\.overlap must be below 1"),
        (lambda d: d["inference"].update(average="median"), "average must be one of logits, probabilities"),
        (lambda d: d["inference"].update(regions=[1, 3]), r"inference\.regions\[1\] must be the value of a label"),
        (
            lambda d: d["inference"].update(regions=[]),
            r"network_arguments\.classes must be 3, the number of label values with the background",
        ),
        (
            lambda d: d["network_arguments"].update(in_channels=1),
            r"network_arguments\.in_channels must be 2, the number of channels",
        ),
        (lambda d: d["weights"].update(file="../liver.pt"), r"weights\.file must be a plain file name"),
        (lambda d: d["weights"].update(file="C:\\liver.pt"), r"weights\.file must be a plain file name"),
        (lambda d: d.update(sample="folder/liver.nrrd"), "sample must be a plain file name"),
        (
            lambda d: d["postprocessing"].append({"step": "dilate"}),
            r"postprocessing\[3\]\.distance_mm is required by dilate",
        ),
        (
            lambda d: d["postprocessing"][0].update(labels=[3]),
            r"postprocessing\[0\]\.labels must be values of labels",
        ),
        (
            lambda d: d["postprocessing"].append({"step": "dilate", "distance_mm": 1}),
            r"postprocessing\[3\]\.grid must be image, as that of the step before",
        ),
        (
            lambda d: (d.pop("rough"), d.update(region_from={"model": "liver", "labels": [1], "margin_mm": 20})),
            r"postprocessing\[1\]\.grid must be image, as its reference are labels of another model",
        ),
        (
            lambda d: d["weights"]["sources"][1].pop("revision"),
            r"weights\.sources\[1\]\.revision is required by github",
        ),
        (lambda d: d["weights"].update(sha256="abc"), r"weights\.sha256 must look like"),
    ],
)
def test_a_card_author_learns_the_field_and_what_it_must_be(
    data: dict[str, Any], tmp_path: Path, change: Change, message: str
) -> None:
    path = tmp_path / "model.json"
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ModelError, match=rf"model\.json is not valid: .*{message}.*\. Correct this field\."):
        read_card(path)


def test_a_file_that_is_not_a_card_at_all_is_refused(tmp_path: Path) -> None:
    for text, message in (
        ("[1]", "the file must be a JSON object"),
        ("{", "cannot be read"),
        ("{}", "schema is missing"),
    ):
        (tmp_path / "model.json").write_text(text, encoding="utf-8")
        with pytest.raises(ModelError, match=message):
            read_card(tmp_path / "model.json")


@pytest.mark.parametrize(
    ("method", "limits", "words"),
    [
        ("percentile", {"lower": -5, "upper": 99}, r"normalization\[0\]\.lower must be a percentile"),
        ("percentile", {"lower": 1, "upper": 200}, r"normalization\[0\]\.upper must be a percentile"),
        ("zscore", {"lower": 1, "upper": 101}, r"normalization\[0\]\.upper must be a percentile"),
        ("ct", {"lower": -1e308, "upper": 1, "mean": 0, "std": 1}, r"normalization\[0\]\.lower must be at least"),
        ("ct", {"lower": 0, "upper": 1, "mean": 0, "std": 1e-308}, r"normalization\[0\]\.std must be at least"),
    ],
)
def test_numbers_that_nothing_can_be_computed_with_are_refused(
    data: dict[str, Any], method: str, limits: dict[str, float], words: str
) -> None:
    data["preprocessing"]["normalization"][0] = {"method": method, **limits}
    with pytest.raises(ValueError, match=words):
        card_from_dict(data)


@pytest.mark.parametrize("spacing", [1e-308, 1e308])
def test_a_spacing_that_no_image_has_is_refused(data: dict[str, Any], spacing: float) -> None:
    data["preprocessing"]["spacing"][1] = spacing
    with pytest.raises(ValueError, match=r"spacing\[1\] must be at (least|most)"):
        card_from_dict(data)


@pytest.mark.parametrize("name", ["", " ", "\x1b[2J", "a\nSegment9_Name:=x", "a\0b", "x\u202eb"])
def test_a_label_whose_name_acts_or_is_none_is_refused(data: dict[str, Any], name: str) -> None:
    data["labels"][0]["name"] = name
    with pytest.raises(ValueError, match=r"labels\[0\]\.name must be text without control characters"):
        card_from_dict(data)
