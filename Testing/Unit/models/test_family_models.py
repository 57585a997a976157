"""Models of families whose archive a user adds: with generated weights, as their authors' archives are laid out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported_models import zipped
from LightSegLib.catalog.card import Card
from LightSegLib.catalog.lookup import as_shipped, find_card
from LightSegLib.core.errors import ModelError
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.models.archived import add_weights
from nnunet_models import make_plans, write_model

CHANNELS = {"MR": "MRI", "CT": "CT"}


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the models and weights of the user who runs it."""
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))


def archive_of(card: Card, folder: Path, inside: str = "", **dataset: Any) -> Path:
    """An archive with a tiny network for the card's classes, its results folder below `inside`."""
    labels = {"background": 0, **{label.original or label.name: label.value for label in card.labels}}
    for value in card.unnamed_outputs:
        labels[f"unused {value}"] = value
    facts = {"channel_names": {"0": CHANNELS[card.modality]}, "labels": labels, "numTraining": 1, **dataset}
    assert card.weights.archive is not None
    folds = card.weights.archive.folds or ("0", "1")
    model = write_model(folder / "trained", make_plans(), facts, folds=folds)
    return zipped(model, folder / card.weights.file, inside)


def image() -> Volume:
    """Noise, stored with its axes along A, I and R."""
    values = np.random.default_rng(0).integers(-500, 500, (12, 20, 24)).astype(np.int16)
    return Volume(values, Geometry((12, 20, 24), (1.5, 1.5, 3.0), (0.0, 0.0, 0.0), (0, 0, -1, -1, 0, 0, 0, -1, 0)))


@pytest.mark.parametrize(
    ("model", "inside", "orientation"),
    [
        ("moose-ct-lungs", "Dataset333_HMS3dlungs", "RAS"),
        ("dentalsegmentator", "Dataset112_DentalSegmentator_v100", "LPS"),
        ("hd-bet", "", "RAS"),
    ],
)
def test_a_model_of_a_family_runs_from_its_archive_and_stays_unverified(
    model: str, inside: str, orientation: str, tmp_path: Path
) -> None:
    card = find_card(model)
    add_weights(card, archive_of(card, tmp_path, inside))
    result = Segmenter(card, InferenceOptions(device="cpu", precision="float32")).segment([image()])
    assert result.voxels.shape == (12, 20, 24) and set(np.unique(result.voxels)) <= set(range(card.classes))
    assert result.voxels.any() or card.classes == 2  # random weights of two classes may see background alone
    assert {label.name for label in result.labels} == {label.name for label in card.labels}
    completed = find_card(model)
    assert completed.network == "plain_conv_unet" and completed.preprocessing.orientation == orientation
    assert completed.labels == card.labels and completed.unverified and as_shipped(completed) == card


def test_weights_of_another_model_of_the_family_are_refused(tmp_path: Path) -> None:
    ribs = archive_of(find_card("moose-ct-ribs"), tmp_path)
    with pytest.raises(ModelError, match="has 28 classes with the background, but the labels of 'moose-ct-lungs' end"):
        add_weights(find_card("moose-ct-lungs"), ribs)


def test_a_model_whose_classes_nobody_lists_takes_them_from_its_weights(tmp_path: Path) -> None:
    card = find_card("moose-ct-organs-fast")
    labels = {"background": 0, "liver": 1, "lungs_and_heart": 2}
    add_weights(card, archive_of(card, tmp_path, labels=labels))
    Segmenter(card, InferenceOptions(device="cpu", precision="float32")).segment([image()])
    completed = find_card("moose-ct-organs-fast")
    assert [label.name for label in completed.labels] == ["liver", "lungs_and_heart"] and completed.unverified
