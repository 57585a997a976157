"""Labels, regions, channels and modality of a model are those of its dataset.json, read as nnU-Net reads it."""

from __future__ import annotations

from typing import Any

import pytest
from LightSegLib.catalog.card import Normalization
from LightSegLib.core.errors import ModelError
from nnunet_models import DATASET
from nnunet_settings import BRATS, mr_plans, read


def test_regions_are_painted_one_over_the_other() -> None:
    settings = read(mr_plans(4, masked=True), BRATS)
    assert settings.inference.regions == (1, 2, 3)
    assert settings.network_arguments["classes"] == 3 and settings.network_arguments["in_channels"] == 4
    assert [(label.value, label.name) for label in settings.labels] == [
        (1, "whole tumor without tumor core"),
        (2, "tumor core without enhancing tumor"),
        (3, "enhancing tumor"),
    ]
    assert settings.preprocessing.normalization == (Normalization("zscore", masked=True),) * 4
    assert settings.modality == "MR"


def test_regions_write_the_labels_of_their_class_order() -> None:
    """Kidney tumors as nnU-Net trains them: output 0 is the kidney with all in it, output 1 tumor and cyst."""
    labels = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2}
    settings = read(dataset={**DATASET, "labels": labels, "regions_class_order": [1, 3, 2]})
    assert settings.inference.regions == (1, 3, 2)
    assert [(label.value, label.name) for label in settings.labels] == [
        (1, "kidney without masses"),
        (2, "tumor"),
        (3, "masses without tumor"),
    ]


def test_names_that_act_are_shown_as_text_and_empty_ones_are_replaced() -> None:
    """They reach the header of every result."""
    labels = {"background": 0, "\x1b[31mred\x07": 1, "a\nSegment9_Name:=x": 2, "nul\0": 3, "": 4}
    settings = read(dataset={**DATASET, "labels": labels})
    names = ["\\u001b[31mred\\u0007", "a\\nSegment9_Name:=x", "nul\\u0000", "Label 4"]
    assert [label.name for label in settings.labels] == names


def test_the_ignore_label_has_no_output() -> None:
    labels = {"background": 0, "liver": 1, "tumor": 2, "ignore": 3}
    settings = read(dataset={**DATASET, "labels": labels})
    assert settings == read()
    assert settings.network_arguments["classes"] == 3


WHOLE = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
KIDNEY = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2}


@pytest.mark.parametrize(
    ("labels", "order", "outputs", "written"),
    [
        ({"background": 0, "liver": 1, "tumor": 2, "ignore": 3}, None, 3, [0, 1, 2]),
        ({"background": 0, "liver": [1], "tumor": [2]}, None, 3, [0, 1, 2]),  # lists of one are not regions
        ({"background": 0, "liver": [1], "tumor": [2], "ignore": 3}, [2, 1], 3, [0, 1, 2]),  # nor does an order count
        ({"background": "0", "liver": "1", "tumor": "2"}, None, 3, [0, 1, 2]),
        (WHOLE, [1, 2, 3], 3, [1, 2, 3]),
        (WHOLE | {"enhancing": [3], "ignore": 4}, [1, 2, 3], 3, [1, 2, 3]),
        (KIDNEY, [1, 3, 2], 3, [1, 3, 2]),
        (KIDNEY | {"ignore": 4}, [1, 3, 2], 3, [1, 3, 2]),
        ({"background": 0, "liver": [1, 1]}, [1], 1, [1]),  # a list of two is a region, whatever it holds
        ({"background": 0, "air": [0], "organ": [1, 2], "lesion": 2}, [1, 2], 2, [1, 2]),
        ({"background": 0, "one": [1, 2], "other": [2, 3]}, [1, 5], 2, [1, 5]),
    ],
)
def test_outputs_and_the_labels_they_write_are_those_of_nnunets_label_manager(
    labels: dict[str, Any], order: list[int] | None, outputs: int, written: list[int]
) -> None:
    """Expected: num_segmentation_heads of LabelManager of nnU-Net 2.8.1, and what its convert_logits_to_segmentation
    makes of a voxel where one output is 5 and the others are -5.
    """
    settings = read(dataset={**DATASET, "labels": labels, **({"regions_class_order": order} if order else {})})
    assert settings.network_arguments["classes"] == outputs
    assert list(settings.inference.regions or range(outputs)) == written
    assert {label.value for label in settings.labels} == set(written) - {0}


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (WHOLE, None),
        (WHOLE, [1, 2]),
        (WHOLE | {"ignore": 5}, [1, 2, 3]),
        (WHOLE | {"ignore": 3}, [1, 2, 3]),
        ({"liver": 1}, None),
        # of these nnU-Net makes outputs 0, 1 and 2 that are labels 0, 1 and 3, and writes them as 0, 1 and 2
        ({"background": 0, "liver": 1, "tumor": 3}, None),
    ],
)
def test_labels_that_nnunet_refuses_or_confuses_are_refused(labels: dict[str, Any], order: list[int] | None) -> None:
    with pytest.raises(ModelError, match=r"dataset\.(labels|regions_class_order)"):
        read(dataset={**DATASET, "labels": labels, **({"regions_class_order": order} if order else {})})


def test_the_older_name_of_the_channels_comes_first_as_in_nnunet() -> None:
    dataset = {**DATASET, "channel_names": {"0": "CT", "1": "PET"}, "modality": {"0": "CT"}}
    assert read(dataset=dataset).channels == ("CT",)


@pytest.mark.parametrize(
    ("names", "modality"),
    [
        (["CT"], "CT"),
        (["ct"], "CT"),
        (["T2", "ADC"], "MR"),
        (["T1-weighted"], "MR"),
        (["FLAIR", "T1w", "t1gd", "T2w"], "MR"),
        (["MRI"], "MR"),
        (["PET_SUV"], "PT"),
        (["ultrasound"], "US"),
        (["CT", "PET"], "OT"),
        (["zscore"], "OT"),  # names a normalization
        (["direct"], "OT"),
    ],
)
def test_the_modality_is_reported_only_by_names_that_state_it(names: list[str], modality: str) -> None:
    dataset = {"labels": DATASET["labels"], "modality": dict(enumerate_as_text(names))}
    assert read(mr_plans(len(names)), dataset).modality == modality


def enumerate_as_text(names: list[str]) -> list[tuple[str, str]]:
    return [(str(number), name) for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel_names": None}, "dataset.channel_names must be a JSON object"),
        ({"channel_names": {}}, "dataset.channel_names must number the channels"),
        ({"channel_names": {"1": "CT"}}, "dataset.channel_names must number the channels"),
        ({"labels": {"0": "background", "1": "liver"}}, "dataset.labels.0 must be a whole number"),  # version 1
        ({"labels": {"liver": 1}}, "background with the value 0"),
        ({"labels": {"background": 1, "liver": 0}}, "background with the value 0"),
        ({"labels": {"background": 0}}, "must number the labels"),
        ({"labels": {"background": 0, "liver": 1, "tumor": 3}}, "must number the labels"),
        ({"labels": {"background": 0, "liver": 1, "tumor": 1}}, "must number the labels"),
        ({"labels": {"background": 0, "liver": []}}, "dataset.labels.liver must have at least one value"),
        ({"labels": {"background": 0, "liver": [1, "x"]}}, r"dataset.labels.liver\[1\] must be a whole number"),
        ({"labels": {"background": 0, "ignore": 1, "liver": 2}}, "dataset.labels.ignore must be the highest"),
        ({"labels": BRATS["labels"]}, "dataset.regions_class_order is missing"),
        ({"labels": BRATS["labels"], "regions_class_order": [1, 2]}, "one entry per region"),
        ({"labels": BRATS["labels"], "regions_class_order": [1, 2, 2]}, "must not contain an entry twice"),
        ({"labels": BRATS["labels"], "regions_class_order": [0, 1, 2]}, r"regions_class_order\[0\] must be at least 1"),
    ],
)
def test_a_field_of_the_dataset_that_makes_no_sense_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read(dataset={**DATASET, **changes})


@pytest.mark.parametrize("missing", ["labels", "channel_names"])
def test_a_field_that_the_dataset_lacks_is_named(missing: str) -> None:
    with pytest.raises(ModelError, match=f"dataset.{missing} is missing"):
        read(dataset={name: value for name, value in DATASET.items() if name != missing})
