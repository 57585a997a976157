"""What a training set calls itself, its channels and its labels; most of it may be left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.core.errors import InputError
from LightSegLib.training.dataset import Dataset, read_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two cases of two channels, without a description."""
    folder = tmp_path / "Dataset007_Prostate"
    for name in ("a", "b"):
        for path in (f"imagesTr/{name}_0000.nrrd", f"imagesTr/{name}_0001.nrrd", f"labelsTr/{name}.nrrd"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 2, 2), np.uint8)), str(folder / path))
    return folder


def described(folder: Path, description: Any) -> Dataset:
    """The training set with this dataset.json."""
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return read_dataset(folder)


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "peripheral zone": 1, "TZ": 3},
        {"background": "0", "peripheral zone": "1", "TZ": "3"},
        {"0": "background", "1": "peripheral zone", "3": "TZ"},
    ],
    ids=["nnU-Net v2", "numbers as text", "nnU-Net v1"],
)
@pytest.mark.parametrize("field", ["channel_names", "modality"])
def test_every_generation_of_the_format_is_read(folder: Path, labels: dict[str, Any], field: str) -> None:
    dataset = described(folder, {"name": "Prostate", field: {"1": "ADC", "0": "T2"}, "labels": labels})
    assert (dataset.name, dataset.channels) == ("Prostate", ("T2", "ADC"))
    assert dataset.labels == {1: "Peripheral zone", 3: "TZ"}


def test_two_labels_of_one_name_are_refused_before_training(folder: Path) -> None:
    """Their volumes would have one column, and the card of the trained model would be refused."""
    with pytest.raises(InputError, match=r"Two labels have the name Lesion, .* Correct .*dataset\.json"):
        described(folder, {"labels": {"background": 0, "lesion": 1, "Lesion": 2}})


def test_what_is_not_stated_gets_a_plain_name_or_none(folder: Path) -> None:
    without = read_dataset(folder)
    assert (without.name, without.channels, without.labels) == (
        "Dataset007_Prostate", ("Channel 1", "Channel 2"), {},
    )  # fmt: skip
    assert described(folder, {}) == without
    assert described(folder, {"channel_names": {"0": "T2"}}).channels == ("Channel 1", "Channel 2")
    assert described(folder, {"modality": "MRI, cropped around one organ"}).channels == ("Channel 1", "Channel 2")


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ({"labels": ["liver"]}, "dataset.labels must be a JSON object"),
        ({"labels": {"whole": [1, 2]}}, "dataset.labels.whole is a region with several values"),
        ({"labels": {"1": "a", "b": None}}, "dataset.labels.b must be a whole number"),
        ({"labels": {"b": -1}}, "dataset.labels.b must be at least 0"),
        ({"labels": {"a": 1, "b": 1}}, "dataset.labels.b has the value 1, as another label does"),
        ({"channel_names": {"0": "T2", "2": "ADC"}}, "dataset.channel_names must number the channels 0, 1, 2"),
        ([], "is not a JSON object"),
    ],
    ids=["no table", "region", "no number", "negative", "twice", "channels with a gap", "list"],
)
def test_a_description_that_cannot_be_meant_names_its_field(folder: Path, description: Any, words: str) -> None:
    with pytest.raises(InputError, match=rf"{words}.*\. Correct .*dataset\.json\.$"):
        described(folder, description)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000], ids=["empty", "cut", "no text", "deep"])
def test_a_damaged_description_is_reported(folder: Path, content: bytes) -> None:
    (folder / "dataset.json").write_bytes(content)
    with pytest.raises(InputError, match=r"dataset\.json is missing or damaged"):
        read_dataset(folder)
