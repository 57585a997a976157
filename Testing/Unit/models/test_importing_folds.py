"""Which folds of a training come in as one model, and what the card states about the choice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from imported_models import ID, assert_holds, change, damage, weights_of
from LightSegLib.catalog.lookup import find_card
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError, ModelError
from LightSegLib.models.importing import import_model
from LightSegLib.models.opening import open_model
from nnunet_models import DATASET, make_plans, write_model

pytestmark = pytest.mark.usefixtures("nothing_left_over")


@pytest.mark.parametrize(
    ("folds", "taken"),
    [
        ((0, 1), (0, 1)),
        ((10, 9, 2), (2, 9, 10)),
        ((0, 1, "all"), (0, 1)),  # nnU-Net's predictor finds all folds but fold_all
        (("all",), ("all",)),
        ((3,), (3,)),
    ],
)
def test_all_folds_come_in_as_nnunet_takes_them(
    tmp_path: Path, folds: tuple[int | str, ...], taken: tuple[int | str, ...]
) -> None:
    model = write_model(tmp_path, folds=folds)
    card = import_model(model)
    assert_holds(card, model, taken)
    named = f"the mean of {len(taken)} networks is taken (folds {', '.join(map(str, taken))})"
    assert (named in card.limitations) == (len(taken) > 1)
    assert (f"--fold {taken[0]}' imports one alone" in card.limitations) == (len(taken) > 1)


@pytest.mark.parametrize(
    ("wanted", "taken", "left"),
    [(["0"], (0,), "1, 2"), (["2", "0", "2"], (0, 2), "1"), ([1], (1,), "0, 2"), (["all"], ("all",), "0, 1, 2")],
)
def test_a_user_chooses_folds_and_the_card_states_what_was_left(
    tmp_path: Path, wanted: list[int | str], taken: tuple[int | str, ...], left: str
) -> None:
    model = write_model(tmp_path, folds=(0, 1, 2, "all"))
    card = import_model(model, folds=wanted)
    assert_holds(card, model, taken)
    assert f"nnU-Net would take the mean with fold {left}, which was not imported." in card.limitations


def test_a_fold_is_chosen_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path, folds=(0, 1, 2))
    assert main(["import", str(model), "--fold", "2", "--fold", "0"]) == 0
    assert_holds(find_card(ID), model, (0, 2))
    assert main(["info", ID]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for line in (
        "Input CT",
        "Spacing 1.25 x 1.5 x 3 mm (i, j, k)",
        (
            "Resampling cubic, nearest along the coarsest axis where that is anisotropic; "
            "results linear, nearest along the coarsest axis where that is anisotropic"
        ),
        "Patch 8 x 16 x 16 voxels (k, j, i)",
        "Network plain_conv_unet",
        "Folds 0, 2 (mean of 2 networks)",
    ):
        assert f" {line} " in shown, line


def test_a_fold_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, models: Path) -> None:
    model = write_model(tmp_path, folds=(0, 1, "all"))
    with pytest.raises(InputError, match=r"no checkpoint of fold 5\. Choose from 0, 1, all\."):
        import_model(model, folds=["0", "5"])
    assert not models.exists()


def test_folds_are_of_results_folders_alone(results: Path, tiny_model: Path, models: Path) -> None:
    for path in (tiny_model, results / "fold_0" / "checkpoint_final.pth"):
        with pytest.raises(InputError, match=rf"{path.name} has no folds to choose from.*without naming a fold"):
            import_model(path, folds=[0])
    assert not models.exists()


def test_folds_whose_training_was_not_finished_stay_out_where_others_were(tmp_path: Path) -> None:
    model = write_model(tmp_path, folds=(0, 1, 2))
    (model / "fold_1" / "checkpoint_final.pth").rename(model / "fold_1" / "checkpoint_best.pth")
    card = import_model(model)
    assert_holds(card, model, (0, 2))
    assert "Fold 1 was left out, since its training was not finished." in card.limitations


def test_an_unfinished_training_comes_in_where_there_is_not_an_other_or_it_is_asked_for(tmp_path: Path) -> None:
    model = write_model(tmp_path, folds=(0, 1), checkpoint="checkpoint_best.pth")
    stopped = "this is checkpoint_best.pth: its training was not finished."
    card = import_model(model)
    assert card.training["folds"] == [0, 1] and f"Of fold 0, 1 {stopped}" in card.limitations
    (model / "fold_1" / "checkpoint_best.pth").rename(model / "fold_1" / "checkpoint_final.pth")
    card = import_model(model, replace=True)
    assert card.training["folds"] == [1] and "checkpoint_best" not in card.limitations
    card = import_model(model, replace=True, folds=[0])
    assert card.training["folds"] == [0] and f"Of fold 0 {stopped}" in card.limitations


def test_a_fold_with_the_weights_of_another_network_is_named(tmp_path: Path, models: Path) -> None:
    model = write_model(tmp_path, folds=(0, 1))
    weights = weights_of(model, 1)
    del weights["decoder.seg_layers.0.bias"]
    damage(model, 1, network_weights=weights)
    with pytest.raises(ModelError, match=r"The weights in fold_1/checkpoint_final\.pth do not fit") as excinfo:
        import_model(model)
    assert "Missing: decoder.seg_layers.0.bias" in str(excinfo.value)
    assert not models.exists()


@pytest.mark.parametrize("fact", ["configuration", "trainer", "plans"])
def test_a_fold_of_another_training_is_named(tmp_path: Path, models: Path, fact: str) -> None:
    plans = make_plans()
    plans["configurations"]["3d_lowres"] = {"inherits_from": "3d_fullres"}
    model = write_model(tmp_path, plans, folds=(0, 1))
    about = {"configuration": "3d_fullres", "plans": plans, "dataset_json": DATASET, "fold": 1}
    changes, message = {
        "configuration": (
            {"init_args": {**about, "configuration": "3d_lowres"}},
            "has the configuration '3d_lowres', but fold 0 has '3d_fullres'",
        ),
        "trainer": (
            {"trainer_name": "nnUNetTrainer_5epochs"},
            "has the trainer 'nnUNetTrainer_5epochs', but fold 0 has 'nnUNetTrainer'",
        ),
        "plans": (
            {"init_args": {**about, "plans": make_plans(spacing=[1.0, 1.0, 1.0])}},
            "they differ in preprocessing",
        ),
    }[fact]
    damage(model, 1, **changes)
    with pytest.raises(ModelError, match=rf"fold_1/checkpoint_final\.pth in {model.name}.*{message}"):
        import_model(model)
    assert not models.exists()


def test_an_ensemble_can_be_handed_on(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path, folds=(0, 1))
    card = import_model(model)
    monkeypatch.setenv("LIGHTSEG_MODELS", str(models.with_name("another computer")))
    again = import_model(models / ID)
    assert again == card
    assert_holds(again, model, (0, 1))


def test_an_ensemble_that_was_put_together_of_two_networks_is_refused(tmp_path: Path, models: Path) -> None:
    """Its first weights fit, so only a check of all of them can show it."""
    import_model(write_model(tmp_path, folds=(0, 1)))
    file = models / ID / "weights.pt"
    content = torch.load(file, weights_only=True)
    content["other_folds"][0].pop("decoder.seg_layers.0.bias")
    torch.save(content, file)
    card = json.loads((models / ID / "model.json").read_text(encoding="utf-8"))
    change(models / ID / "model.json", weights={"file": card["weights"]["file"]})
    for use in (open_model, lambda card: import_model(card.folder, replace=True)):
        with pytest.raises(ModelError, match=r"The weights in weights\.pt \(network 2\) do not fit"):
            use(find_card(ID))
