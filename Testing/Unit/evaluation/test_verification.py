"""A user verifies a model on the own computer: what is found right, what speaks against it, and what stays open."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from LightSegLib.catalog.card import Archive, Card, Weights
from LightSegLib.catalog.card_file import write_card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.cli.main import main
from LightSegLib.core.errors import ModelError
from LightSegLib.core.file_hash import sha256
from LightSegLib.core.progress import Reporter
from LightSegLib.evaluation.trial_images import generated_body, trial_images
from LightSegLib.evaluation.verification import verify_model
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.weights.files import save_weights
from LightSegLib.weights.store import WeightStore
from LightSegLib.weights.verified import is_unverified
from threshold_models import write_threshold_model

Model = Callable[..., Card]
TISSUE, SPINE = 60.0, 300.0  # HU, below organs and below bone


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """Writes an unverified CT model that compares intensities, and returns its card as a user finds it."""
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))

    def write(levels: Sequence[float] = (TISSUE, SPINE), **changes: object) -> Card:
        labels = [("organs", "bone")[n] for n in range(len(levels))]
        card = write_threshold_model(tmp_path / "models" / "body", labels, levels)
        changes = {"modality": "CT", "assumptions": ("Nobody has run this model.",)} | changes
        write_card(replace(card, **changes), tmp_path / "models" / "body" / "model.json")  # type: ignore[arg-type]
        return find_card("body")

    return write


def test_a_model_that_works_is_no_longer_unverified_and_says_what_stays_open(model: Model) -> None:
    card = model()
    assert is_unverified(card)
    verification = verify_model(card)
    assert verification.passed and not is_unverified(card)
    weights, fit, run = map(str, verification.found)
    assert str(card.weights.sha256) in weights and "3 outputs fit the 2 labels" in fit
    body = generated_body(np.full(3, 192.0)).voxels
    ml = np.count_nonzero(body > SPINE) * 0.027
    assert f"bone {ml:.1f} ml" in run and "2 of 2 labels" in run
    assert "Dice" in str(verification.not_checked[0]) and "Nobody has run" in str(verification.not_checked[-1])


@pytest.mark.parametrize(
    ("levels", "doubt"), [((-1.0,), "A single label fills 100% of the image"), ((2000.0,), "No structure was found")]
)
def test_one_label_everywhere_and_no_label_at_all_are_not_plausible(
    model: Model, levels: tuple[float, ...], doubt: str
) -> None:
    card = model(levels)
    verification = verify_model(card)
    assert [doubt in str(sentence) for sentence in verification.doubts] == [True]
    assert is_unverified(card)


def test_labels_of_a_network_without_training_are_scattered(model: Model) -> None:
    noise = np.random.default_rng(0).integers(0, 200, (20, 20, 20)).astype(np.int16)
    verification = verify_model(model((100.0,)), [Volume(noise, Geometry(noise.shape))])
    assert [str(doubt)[:24] for doubt in verification.doubts] == ["The labels are scattered"]
    assert not any("Images of patients" in str(sentence) for sentence in verification.not_checked)


def test_weights_that_are_no_numbers_are_named(model: Model, tmp_path: Path) -> None:
    card = model()
    path = tmp_path / "models" / "body" / "weights.pt"
    state = torch.load(path, weights_only=True)
    name = next(name for name, tensor in state.items() if tensor.is_floating_point())
    state[name].fill_(float("nan"))
    save_weights(state, path)
    card = replace(card, weights=Weights(path.name, path.stat().st_size, sha256(path)))
    verification = verify_model(card)
    assert f"the weights {name} have values that are NaN" in str(verification.doubts[0]) and is_unverified(card)


def test_the_hash_of_an_archive_whose_folder_was_added_is_not_said_to_be_right(model: Model, tmp_path: Path) -> None:
    card = model()
    card = replace(card, weights=Weights("authors.zip", sha256="0" * 64, archive=Archive()))
    unpacked = tmp_path / "models" / "body"

    def take(folder: Path, target: Path, _reporter: Reporter) -> None:
        shutil.copy(folder / "weights.pt", target)

    WeightStore().put(card, unpacked, take, Reporter())
    verification = verify_model(card)
    made = f"body: the weights were made of the folder {unpacked}; the authors' hash cannot be compared."
    assert str(verification.not_checked[0]) == made
    assert verification.passed and not any("SHA-256" in str(sentence) for sentence in verification.found)


def test_another_file_than_the_cards_is_refused(model: Model, tmp_path: Path) -> None:
    card = model()
    with (tmp_path / "models" / "body" / "weights.pt").open("ab") as stream:
        stream.write(b"!")
    with pytest.raises(ModelError, match="damaged or was replaced"):
        verify_model(card)
    assert is_unverified(card)


def test_the_images_are_about_as_large_as_the_patch_and_the_same_every_time() -> None:
    first, again = (trial_images(find_card("body-ct-fast"))[0] for _ in range(2))
    assert np.array_equal(first.voxels, again.voxels)
    assert first.voxels.min() < -900 and 300 < first.voxels.max() < 500
    head = trial_images(find_card("total-mr-fast"))[0]
    whole = trial_images(find_card("hippocampus-mr-lightmedseg"))[0]
    assert head.voxels.size < whole.voxels.size or head.geometry.shape == whole.geometry.shape


def test_the_command_tells_it_in_plain_words(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    model()
    assert main(["verify", "body", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "Checked" in out and "Not checked" in out and "no longer marked as unverified" in out
    assert main(["models", "organs", "bone"]) == 0
    assert "*" not in capsys.readouterr().out.splitlines()[2]
    assert main(["info", "body"]) == 0
    assert "Verified on this computer: not known about this model" in capsys.readouterr().out


def test_the_command_fails_where_the_model_stays_unverified(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    model((2000.0,))
    assert main(["verify", "body", "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert "In doubt" in captured.out and "body stays unverified on this computer. No structure" in captured.err
