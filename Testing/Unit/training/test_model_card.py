"""The card of a model that is trained: from the data, or from a card to start from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog.card import Calibration, Weights
from LightSegLib.catalog.card_file import write_card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.volume import Volume
from LightSegLib.training.dataset import Dataset, read_dataset
from LightSegLib.training.model_card import starting_card
from LightSegLib.training.options import TrainingOptions
from training_sets import QUICK


def test_a_card_to_start_from_keeps_its_labels_and_preprocessing(raw_dataset: Path, tmp_path: Path) -> None:
    base = find_card("hippocampus-mr-lightmedseg")
    dataset = read_dataset(raw_dataset)
    options = TrainingOptions(**{**vars(QUICK), "card": base.id})
    card = starting_card(dataset, [case.load() for case in dataset.cases], tmp_path / "out", options)
    assert card.labels == base.labels and card.preprocessing == base.preprocessing
    assert card.inference.patch_size == base.inference.patch_size
    assert card.inference.mirror_axes == options.flip_axes  # no other flip was trained


def test_spacing_and_patch_follow_the_working_orientation(tmp_path: Path) -> None:
    """Sagittal slices, 3 mm apart: the coarse axis of the file is left-right, and so it is in the card."""
    import SimpleITK as sitk

    sagittal = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # i runs back, j up, k to the left
    geometry = Geometry((16, 48, 40), (0.5, 1.0, 3.0), direction=sagittal)
    for name in ("a", "b"):
        for folder in ("images", "labels"):
            voxels = np.random.default_rng(0).integers(0, 2, geometry.shape).astype(np.uint8)
            path = tmp_path / folder / f"{name}.nrrd"
            path.parent.mkdir(exist_ok=True)
            sitk.WriteImage(to_sitk(voxels, geometry), str(path))
    dataset = read_dataset(tmp_path)
    card = starting_card(dataset, [case.load() for case in dataset.cases], tmp_path / "_Modell", QUICK)
    assert card.preprocessing.spacing == (3.0, 0.5, 1.0)  # right, front, up
    free = TrainingOptions(flip_axes=(1,))
    card = starting_card(dataset, [case.load() for case in dataset.cases], tmp_path / "_Modell", free)
    assert card.inference.patch_size == (48, 32, 16) and card.inference.mirror_axes == (1,)
    assert card.id == "modell"


def test_ct_is_windowed_by_the_labeled_voxels_of_the_data(tmp_path: Path) -> None:
    volume = Volume(np.linspace(-1000, 1000, 1000).reshape(10, 10, 10), Geometry((10, 10, 10)))
    labels = ((volume.voxels > 0) & (volume.voxels < 200)).astype(np.int16)
    dataset = Dataset("CT set", (), ("CT",), {1: "Organ"})
    card = starting_card(dataset, [([volume], labels)], tmp_path / "ct", QUICK)
    (rule,) = card.preprocessing.normalization
    inside = volume.voxels[labels > 0]
    assert (rule.method, card.modality) == ("ct", "CT")
    assert rule.mean == pytest.approx(inside.mean(), abs=1e-3) and rule.std == pytest.approx(inside.std(), abs=1e-3)
    assert rule.lower == pytest.approx(np.percentile(inside, 0.5), abs=1e-3)


def test_a_card_trained_on_other_data_drops_what_it_stated_of_its_own(raw_dataset: Path, tmp_path: Path) -> None:
    dataset = read_dataset(raw_dataset)
    options = TrainingOptions(card="hippocampus-mr-lightmedseg")
    card = starting_card(dataset, [case.load() for case in dataset.cases], tmp_path / "balls", options)
    assert card.id == "balls" and card.title.endswith("trained on Balls")
    assert "CC-BY" not in card.license and "Decathlon" not in card.citation
    assert card.description == (
        "Anterior hippocampus, Posterior hippocampus; trained on Balls, with the network and the preprocessing of "
        "hippocampus-mr-lightmedseg."
    )
    assert card.measured is None and card.homepage == ""


def test_a_published_card_without_its_data_set_is_of_other_data_and_one_written_by_hand_is_kept(
    raw_dataset: Path, tmp_path: Path
) -> None:
    dataset = read_dataset(raw_dataset)
    loaded = [case.load() for case in dataset.cases]
    base = find_card("brain-tissue")
    own = dataclasses.replace(base, id="mine", title="Mine", description="As I wrote it.", training={})
    written = dataclasses.replace(own, weights=Weights("weights.pt"))
    for card, kept in ((own, False), (written, True)):
        write_card(card, tmp_path / "card.json")
        options = TrainingOptions(card=str(tmp_path / "card.json"))
        started = starting_card(dataset, loaded, tmp_path / "balls", options)
        assert (started.title == "Mine") is kept and (started.description == "As I wrote it.") is kept


def test_the_expected_dice_of_other_weights_is_not_that_of_the_trained_ones(raw_dataset: Path, tmp_path: Path) -> None:
    """Also where the data set is the same: the relation was measured with what the weights were."""
    dataset = read_dataset(raw_dataset)
    base = find_card("hippocampus-mr-lightmedseg")
    calibration = Calibration((0.5, 0.9), (0.4, 0.9), (1,), 0.3)
    inference = dataclasses.replace(base.inference, calibration=calibration)
    calibrated = dataclasses.replace(base, training={"dataset": dataset.name}, inference=inference)
    write_card(calibrated, tmp_path / "card.json")
    options = TrainingOptions(card=str(tmp_path / "card.json"))
    started = starting_card(dataset, [case.load() for case in dataset.cases], tmp_path / "balls", options)
    assert started.title == base.title and started.inference.calibration is None


@pytest.mark.parametrize("model", ["total-ct", "total-ct-fast"])
def test_a_card_without_a_network_of_its_own_is_no_beginning(raw_dataset: Path, tmp_path: Path, model: str) -> None:
    dataset = read_dataset(raw_dataset)
    loaded = [case.load() for case in dataset.cases]
    with pytest.raises(InputError, match=r"leaves its network to its weights or its parts, .* Choose another card"):
        starting_card(dataset, loaded, tmp_path / "balls", TrainingOptions(card=model))
