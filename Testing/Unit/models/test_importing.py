"""Models come in from nnU-Net's results, its zip, a checkpoint or a LightSeg folder, with what is known of them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from imported_models import ID, change, content, damage, weights_of, zipped
from LightSegLib.catalog.card import Label, Source, Weights
from LightSegLib.catalog.card_file import read_card, write_card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError, ModelError
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.models.importing import import_model
from LightSegLib.weights.checkpoint import read_checkpoint
from nnunet_models import CONFIGURATION_2D, make_checkpoint, make_plans, write_model

pytestmark = pytest.mark.usefixtures("nothing_left_over")


def test_a_results_folder_becomes_a_model_that_segments(results: Path, models: Path, noise: Volume) -> None:
    card = import_model(results)
    assert card == find_card(ID) and card.folder == models / ID
    assert sorted(content(models)) == [f"{ID}/model.json", f"{ID}/weights.pt"]

    trained = torch.load(results / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    kept = read_checkpoint(models / ID / "weights.pt").state
    assert all(torch.equal(kept[name], trained[name]) for name in kept) and kept

    segmentation = Segmenter(card, InferenceOptions(device="cpu", precision="float32")).segment([noise])
    assert segmentation.geometry == noise.geometry
    assert set(np.unique(segmentation.voxels)) <= {0, 1, 2}


def test_the_card_shows_where_the_model_is_from(results: Path) -> None:
    change(
        results / "dataset.json",
        name="Liver and tumors",
        description="Livers of 20 patients.",
        license="CC-BY-SA 4.0",
        reference="https://example.org/liver",
        release="2.1",
    )
    card = import_model(results)
    assert (card.title, card.version, card.description) == (
        "Liver and tumors (3d_fullres)",
        "2.1",
        "Livers of 20 patients.",
    )
    assert card.license == "Not stated for the weights; of the training data: CC-BY-SA 4.0"
    assert card.citation.endswith("Training data: https://example.org/liver") and "Isensee" in card.citation
    assert card.training["trainer"] == "nnUNetTrainer" and card.training["folds"] == [0]
    assert [label.name for label in card.labels] == ["liver", "tumor"]
    assert not card.unverified and not card.metadata_in_weights and card.weights.sources == ()


def test_what_is_not_stated_is_not_made_up(results: Path) -> None:
    """nnU-Net fills a missing license with a sentence of its own."""
    change(results / "dataset.json", license="Whoever converted this dataset was lazy and didn't look it up!")
    card = import_model(results)
    assert card.license == "Not stated."
    assert card.title == "Tiny (3d_fullres)" and card.description == "Segments liver, tumor in CT images."


def test_a_residual_encoder_comes_in_from_old_plans_too(tmp_path: Path, noise: Volume) -> None:
    plans = make_plans(old=True, UNet_class_name="ResidualEncoderUNet", n_conv_per_stage_encoder=[1, 2])
    card = import_model(write_model(tmp_path, plans))
    assert card.network == "residual_encoder_unet"
    Segmenter(card, InferenceOptions(device="cpu", precision="float32")).segment([noise])


@pytest.mark.parametrize("above", [1, 2])
def test_a_folder_above_will_do_if_it_holds_one_model(results: Path, above: int) -> None:
    assert import_model(results.parents[above - 1]).id == ID


def test_of_several_models_one_must_be_named(results: Path) -> None:
    shutil.copytree(results, results.with_name("nnUNetTrainer__nnUNetPlans__3d_lowres"))
    names = "nnUNetTrainer__nnUNetPlans__3d_fullres, nnUNetTrainer__nnUNetPlans__3d_lowres"
    with pytest.raises(InputError, match=rf"Dataset042_Tiny contains 2 models \({names}\)"):
        import_model(results.parent)


@pytest.mark.parametrize("inside", ["Dataset042_Tiny", "nnUNet_results/Dataset042_Tiny", ""])
def test_a_zip_as_nnunet_exports_it_is_as_good_as_the_folder(results: Path, tmp_path: Path, inside: str) -> None:
    from_zip = import_model(zipped(results, tmp_path / "export é.ZIP", inside))
    assert import_model(results, replace=True) == from_zip


def test_a_single_checkpoint_describes_itself(results: Path, tmp_path: Path) -> None:
    single = shutil.copy(results / "fold_0" / "checkpoint_final.pth", tmp_path / "my model.pth")
    from_file = import_model(single)
    assert import_model(results, replace=True) == from_file


@pytest.mark.parametrize("kind", ["folder", "card", "zip"])
def test_a_lightseg_model_is_taken_as_it_is(tiny_model: Path, tmp_path: Path, models: Path, kind: str) -> None:
    given = {"folder": tiny_model, "card": tiny_model / "model.json"}
    path = given.get(kind) or zipped(tiny_model, tmp_path / "model.zip")
    card = import_model(path)
    assert card == read_card(tiny_model / "model.json") == find_card("tiny-1")
    assert (models / "tiny-1" / "weights.pt").read_bytes() == (tiny_model / "weights.pt").read_bytes()


def test_a_card_that_leaves_the_facts_to_its_weights_is_completed(
    tiny_model: Path, original: Path, tmp_path: Path
) -> None:
    """As a card of the list whose weights were downloaded by hand and put beside it."""
    (tmp_path / "model").mkdir()
    shutil.copy(original / "fold_0" / "checkpoint_final.pth", tmp_path / "model")
    card = dataclasses.replace(
        read_card(tiny_model / "model.json"),
        network="plain_conv_unet",
        network_arguments={},
        weights=Weights("checkpoint_final.pth", sources=(Source("url", url="https://example.org/model.pth"),)),
        modality="CT",
        labels=(Label(1, "Liver", (1, 2, 3)),),
        assumptions=("The labels.",),
        metadata_in_weights=True,
    )
    write_card(card, tmp_path / "model" / "model.json")
    imported = import_model(tmp_path / "model")
    assert [label.name for label in imported.labels] == ["liver", "tumor"]
    assert imported.title == "Tiny" and not imported.unverified and imported.weights.sources == ()


def test_an_imported_model_can_be_handed_on(results: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = import_model(results)
    monkeypatch.setenv("LIGHTSEG_MODELS", str(models.with_name("another computer")))
    assert import_model(models / ID) == card


def test_a_configuration_of_slices_comes_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans = make_plans(**CONFIGURATION_2D)
    plans["configurations"]["2d"] = plans["configurations"].pop("3d_fullres")
    card = import_model(write_model(tmp_path, plans, configuration="2d"))
    assert card.id == "dataset042_tiny-2d" and find_card(card.id) == card
    assert card.inference.patch_size == (1, 16, 24) and card.inference.mirror_axes == (1, 2)
    assert main(["info", card.id]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert " Spacing 1.25 x 1.5 mm (i, j), along k that of the image Resampling " in shown


def test_models_of_other_plans_and_trainers_live_side_by_side(tmp_path: Path) -> None:
    first = import_model(write_model(tmp_path))
    second = import_model(write_model(tmp_path, {**make_plans(), "plans_name": "MyPlans"}))
    third = import_model(write_model(tmp_path, trainer="nnUNetTrainer_100epochs"))
    assert [first.id, second.id, third.id] == [ID, f"{ID}-myplans", f"{ID}-nnunettrainer_100epochs"]
    assert find_card(first.id) == first


@pytest.mark.parametrize(
    ("name", "identifier"),
    [("Dataset001_Größe 2", "dataset001_groe-2-3d_fullres"), ("???", "3d_fullres")],
)
def test_any_name_of_a_data_set_makes_an_id(tmp_path: Path, name: str, identifier: str) -> None:
    checkpoint = tmp_path / "checkpoint.pth"
    torch.save(make_checkpoint({**make_plans(), "dataset_name": name}), checkpoint)
    assert import_model(checkpoint).id == identifier


def test_a_trainer_that_changed_the_network_is_found_out(results: Path, models: Path) -> None:
    weights = weights_of(results, 0)
    weights["encoder.stages.0.0.convs.0.norm.running_mean"] = torch.zeros(4)
    damage(results, 0, network_weights=weights, trainer_name="nnUNetTrainerMine")
    with pytest.raises(
        ModelError,
        match=r"trained with 'nnUNetTrainerMine', which LightSeg does not know.*not the one in the plans",
    ) as excinfo:
        import_model(results)
    assert "running_mean" in str(excinfo.value)
    assert not models.exists()


def test_a_model_of_an_unknown_trainer_reports_it(tmp_path: Path) -> None:
    """Its weights fit; but an activation has none, so another one would not show."""
    limitations = import_model(write_model(tmp_path, trainer="nnUNetTrainerMine")).limitations
    assert "trained by the class 'nnUNetTrainerMine', which LightSeg does not know" in limitations
    known = import_model(write_model(tmp_path / "known", trainer="nnUNetTrainer_250epochs")).limitations
    assert known == "Imported from nnU-Net as it is; LightSeg's authors have not tried it."


def test_nnunets_trainer_with_batch_norm_comes_in_with_its_running_statistics(tmp_path: Path) -> None:
    card = import_model(write_model(tmp_path, trainer="nnUNetTrainerBN"))
    assert card.network_arguments["norm"] == "batch" and card.folder is not None
    assert "encoder.stages.0.0.convs.0.norm.running_mean" in read_checkpoint(card.folder / "weights.pt").state
