"""Models come in from nnU-Net's results, its zip, a checkpoint or a LightSeg folder: whole, checked, or not at all."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from LightSegLib.catalog.card import Card, Label, Source, Weights, read_card, write_card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError, LightSegError, ModelError, OutputError
from LightSegLib.core.paths import user_models_folder
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.models import archives
from LightSegLib.models.importing import import_model
from LightSegLib.models.opening import open_model
from LightSegLib.weights.checkpoint import read_checkpoint
from nnunet_models import CONFIGURATION_2D, DATASET, PLAIN_CONV_UNET, make_checkpoint, make_plans, write_model

ID = "dataset042_tiny-3d_fullres"


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's model folder, not yet there, and a temporary folder of its own that must be empty afterwards."""
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "Modèles à moi"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    return user_models_folder()


@pytest.fixture(autouse=True)
def _nothing_left_over(models: Path, tmp_path: Path) -> Iterator[None]:
    """No test leaves a temporary folder behind, be it a success or an error."""
    yield
    left = [path.name for path in (tmp_path / "temp").iterdir()]
    assert [name for name in left if not name.startswith("torchinductor")] == []  # torch's own cache
    if models.exists():
        assert [entry.name for entry in models.iterdir() if entry.name.startswith(".")] == []


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An nnU-Net results folder, not to be changed."""
    return write_model(tmp_path_factory.mktemp("nnUNet_results"))


@pytest.fixture
def results(original: Path, tmp_path: Path) -> Path:
    """An nnU-Net results folder."""
    return Path(shutil.copytree(original.parent, tmp_path / "Ergebnisse ü" / original.parent.name) / original.name)


def change(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file; None removes one."""
    data = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    file.write_text(json.dumps({k: v for k, v in data.items() if v is not None}), encoding="utf-8")


def zipped(folder: Path, file: Path, inside: str = "") -> Path:
    """A zip file of a folder, as nnU-Net exports it if `inside` is the name of the folder above."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, (Path(inside) / folder.name / path.relative_to(folder)).as_posix())
    return file


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- what comes in -------------------------------------------------------------------------------


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


def test_the_card_tells_where_the_model_is_from(results: Path) -> None:
    change(
        results / "dataset.json",
        name="Liver and tumors",
        description="Livers of 20 patients.",
        licence="CC-BY-SA 4.0",
        reference="https://example.org/liver",
        release="2.1",
    )
    card = import_model(results)
    assert (card.title, card.version, card.description) == (
        "Liver and tumors (3d_fullres)",
        "2.1",
        "Livers of 20 patients.",
    )
    assert card.licence == "Not stated for the weights; of the training data: CC-BY-SA 4.0"
    assert card.citation.endswith("Training data: https://example.org/liver") and "Isensee" in card.citation
    assert card.training["trainer"] == "nnUNetTrainer" and card.training["folds"] == [0]
    assert [label.name for label in card.labels] == ["liver", "tumor"]
    assert not card.unverified and not card.self_describing and card.weights.sources == ()


def test_what_nobody_stated_is_not_made_up(results: Path) -> None:
    """nnU-Net fills a licence that nobody gave with a sentence of its own."""
    change(results / "dataset.json", licence="Whoever converted this dataset was lazy and didn't look it up!")
    card = import_model(results)
    assert card.licence == "Not stated."
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
    with pytest.raises(InputError, match=rf"2 models in Dataset042_Tiny \({names}\)"):
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
        not_known=("The labels.",),
        self_describing=True,
    )
    write_card(card, tmp_path / "model" / "model.json")
    imported = import_model(tmp_path / "model")
    assert [label.name for label in imported.labels] == ["liver", "tumor"]
    assert imported.title == "Tiny" and not imported.unverified and imported.weights.sources == ()


def test_an_imported_model_can_be_handed_on(results: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = import_model(results)
    monkeypatch.setenv("LIGHTSEG_MODELS", str(models.with_name("another computer")))
    assert import_model(models / ID) == card


def weights_of(model: Path, fold: int | str) -> dict[str, torch.Tensor]:
    """What nnU-Net's own checkpoint holds."""
    return torch.load(model / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)["network_weights"]


def assert_holds(card: Card, model: Path, folds: tuple[int | str, ...]) -> None:
    """The imported model has the weights of these folds, all of them and in this order."""
    assert card.folder is not None and card.training["folds"] == list(folds)
    kept = read_checkpoint(card.folder / "weights.pt")
    assert len(kept.further) == len(folds) - 1
    for fold, state in zip(folds, (kept.state, *kept.further), strict=True):
        trained = weights_of(model, fold)
        assert state.keys() == trained.keys()
        assert all(torch.equal(state[name], trained[name]) for name in trained)


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
def test_a_user_chooses_folds_and_the_card_says_what_was_left(
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
        "Resampling cubic, nearest along the coarsest axis where that is anisotropic; "
        "results linear, nearest along the coarsest axis where that is anisotropic",
        "Patch 8 x 16 x 16 voxels (k, j, i)",
        "Network plain_conv_unet",
        "Folds 0, 2 (mean of 2 networks)",
    ):
        assert f" {line} " in shown, line


def test_a_fold_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, models: Path) -> None:
    model = write_model(tmp_path, folds=(0, 1, "all"))
    with pytest.raises(InputError, match=r"no checkpoint of fold 5 in .*\. Choose among 0, 1, all\."):
        import_model(model, folds=["0", "5"])
    assert not models.exists()


def test_folds_are_of_results_folders_alone(results: Path, tiny_model: Path, models: Path) -> None:
    for path in (tiny_model, results / "fold_0" / "checkpoint_final.pth"):
        with pytest.raises(InputError, match=rf"no folds to choose from in {path.name}.*without naming a fold"):
            import_model(path, folds=[0])
    assert not models.exists()


def test_folds_whose_training_was_not_finished_stay_out_where_others_were(tmp_path: Path) -> None:
    model = write_model(tmp_path, folds=(0, 1, 2))
    (model / "fold_1" / "checkpoint_final.pth").rename(model / "fold_1" / "checkpoint_best.pth")
    card = import_model(model)
    assert_holds(card, model, (0, 2))
    assert "Fold 1 was left out, since its training was not finished." in card.limitations


def test_an_unfinished_training_comes_in_where_there_is_no_other_or_it_is_asked_for(tmp_path: Path) -> None:
    model = write_model(tmp_path, folds=(0, 1), checkpoint="checkpoint_best.pth")
    stopped = "this is checkpoint_best.pth: its training was not finished."
    card = import_model(model)
    assert card.training["folds"] == [0, 1] and f"Of fold 0, 1 {stopped}" in card.limitations
    (model / "fold_1" / "checkpoint_best.pth").rename(model / "fold_1" / "checkpoint_final.pth")
    card = import_model(model, replace=True)
    assert card.training["folds"] == [1] and "checkpoint_best" not in card.limitations
    card = import_model(model, replace=True, folds=[0])
    assert card.training["folds"] == [0] and f"Of fold 0 {stopped}" in card.limitations


def damage(model: Path, fold: int, **changes: Any) -> None:
    file = model / f"fold_{fold}" / "checkpoint_final.pth"
    torch.save({**torch.load(file, weights_only=False), **changes}, file)


def test_a_fold_with_the_weights_of_another_network_is_named(tmp_path: Path, models: Path) -> None:
    model = write_model(tmp_path, folds=(0, 1))
    weights = weights_of(model, 1)
    del weights["decoder.seg_layers.0.bias"]
    damage(model, 1, network_weights=weights)
    with pytest.raises(ModelError, match=r"The weights in fold_1/checkpoint_final\.pth do not fit") as told:
        import_model(model)
    assert "Missing: decoder.seg_layers.0.bias" in str(told.value)
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
            "has the configuration '3d_lowres', but fold 0 '3d_fullres'",
        ),
        "trainer": (
            {"trainer_name": "nnUNetTrainer_5epochs"},
            "has the trainer 'nnUNetTrainer_5epochs', but fold 0 'nnUNetTrainer'",
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
    """Its first weights fit, so only a look at all of them can tell."""
    import_model(write_model(tmp_path, folds=(0, 1)))
    file = models / ID / "weights.pt"
    content = torch.load(file, weights_only=True)
    content["further"][0].pop("decoder.seg_layers.0.bias")
    torch.save(content, file)
    card = json.loads((models / ID / "model.json").read_text(encoding="utf-8"))
    change(models / ID / "model.json", weights={"file": card["weights"]["file"]})
    for use in (open_model, lambda card: import_model(card.folder, replace=True)):
        with pytest.raises(ModelError, match=r"The weights in weights\.pt \(network 2\) do not fit"):
            use(find_card(ID))


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
        match=r"trained by 'nnUNetTrainerMine', a class that LightSeg does not know.*not the one in the plans",
    ) as told:
        import_model(results)
    assert "running_mean" in str(told.value)
    assert not models.exists()


def test_a_model_of_a_trainer_that_nobody_knows_says_so(tmp_path: Path) -> None:
    """Its weights fit; but an activation has none, so another one would not show."""
    limitations = import_model(write_model(tmp_path, trainer="nnUNetTrainerMine")).limitations
    assert "trained by the class 'nnUNetTrainerMine', which LightSeg does not know" in limitations
    known = import_model(write_model(tmp_path / "known", trainer="nnUNetTrainer_250epochs")).limitations
    assert known == "Imported from nnU-Net as it is; LightSeg's authors have not tried it."


def test_nnunets_trainer_with_batch_norm_comes_in_with_its_running_statistics(tmp_path: Path) -> None:
    card = import_model(write_model(tmp_path, trainer="nnUNetTrainerBN"))
    assert card.network_arguments["norm"] == "batch" and card.folder is not None
    assert "encoder.stages.0.0.convs.0.norm.running_mean" in read_checkpoint(card.folder / "weights.pt").state


# --- parts that do not belong together -----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"dataset_name": "Dataset001_Other"}, "dataset_name"),
        ({"plans_name": "OtherPlans"}, "plans_name"),
        ({"transpose_forward": [1, 0, 2]}, "preprocessing"),
        ({"configurations": make_plans(spacing=[2.0, 1.5, 1.25])["configurations"]}, "preprocessing"),
        ({"configurations": make_plans(patch_size=[8, 8, 8])["configurations"]}, "inference"),
        (
            {
                "configurations": make_plans(
                    architecture={
                        **PLAIN_CONV_UNET,
                        "arch_kwargs": {**PLAIN_CONV_UNET["arch_kwargs"], "features_per_stage": [8, 16]},  # type: ignore[dict-item]
                    }
                )["configurations"]
            },
            "network arguments",
        ),
    ],
)
def test_the_plans_of_another_training_are_refused(
    results: Path, models: Path, changes: dict[str, Any], what: str
) -> None:
    change(results / "plans.json", **changes)
    with pytest.raises(
        ModelError, match=rf"not of the training that wrote fold_0/checkpoint_final\.pth in .*: they differ in {what}"
    ):
        import_model(results)
    assert not models.exists()


def test_the_data_set_of_another_training_is_refused(results: Path) -> None:
    change(results / "dataset.json", labels={"background": 0, "liver": 1})
    with pytest.raises(ModelError, match="differ in network arguments"):
        import_model(results)


def test_labels_renamed_after_the_training_count(results: Path) -> None:
    change(results / "dataset.json", labels={"background": 0, "Leber": 1, "Läsion": 2})
    assert [label.name for label in import_model(results).labels] == ["Leber", "Läsion"]


@pytest.mark.parametrize("missing", ["dataset.json", "fold_0"])
def test_a_results_folder_that_lacks_something_is_refused(results: Path, models: Path, missing: str) -> None:
    (results / missing).rename(results.parent / missing)
    with pytest.raises(LightSegError, match="dataset.json is missing" if missing == "dataset.json" else "No fold of"):
        import_model(results)
    assert not models.exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '{"a": "\udcff"}'])
def test_a_damaged_plans_file_is_named(results: Path, text: str) -> None:
    (results / "plans.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=r"plans\.json is (missing or damaged|not a JSON object)"):
        import_model(results)


def test_text_that_no_file_can_hold_is_refused(results: Path, models: Path) -> None:
    (results / "dataset.json").write_text(json.dumps({**DATASET, "name": "\ud800"}), encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be made a model card"):
        import_model(results)
    assert not models.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": {"file": "../weights.pt"}}, "weights.file must be a plain file name"),
        ({"weights": {"file": "other.pt"}}, "other.pt is missing"),
        ({"weights": {"file": "weights.pt", "size": 5}}, "is not the one its card describes"),
        ({"weights": {"file": "weights.pt", "sha256": "0" * 64}}, "is not the one its card describes"),
        ({"channels": []}, "channels must have at least 1"),
        ({"network_arguments": {"in_channels": 1, "classes": 3, "width": 7}}, "network_arguments"),
        ({"network": "something"}, "something"),
    ],
)
def test_a_lightseg_model_with_a_wrong_card_is_refused(
    tiny_model: Path, tmp_path: Path, models: Path, changes: dict[str, Any], words: str
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    change(folder / "model.json", **changes)
    with pytest.raises(ModelError, match=words):
        import_model(folder)
    assert not models.exists()


# --- what is no model ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["image.nii.gz", "notes.json", "folder", "missing"])
def test_anything_else_is_told_what_is_accepted(tmp_path: Path, models: Path, name: str) -> None:
    if name == "folder":
        (tmp_path / name).mkdir()
    elif name != "missing":
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=r"nnU-Net v2 results folder .*its exported zip.*\.pth.*model\.json"):
        import_model(tmp_path / name)
    assert not models.exists()


@pytest.mark.parametrize("name", ["model_final_checkpoint.model", "model_final_checkpoint.model.pkl", "fold_0"])
def test_files_of_nnunet_v1_are_pointed_to_the_list_of_models(tmp_path: Path, name: str) -> None:
    if name == "fold_0":
        (tmp_path / "fold_0").mkdir()
        (tmp_path / "fold_0" / "model_final_checkpoint.model").touch()
    else:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"nnU-Net v1.*lightseg weights use MODEL FILE"):
        import_model(tmp_path / name)


def test_a_zip_without_a_model_is_called_by_its_name(tmp_path: Path, models: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InputError, match=r"no model in pictures\.zip\. Give an nnU-Net v2 results folder"):
        import_model(zipped(tmp_path / "pictures", tmp_path / "pictures.zip"))
    assert not models.exists()


def test_plain_weights_are_pointed_to_the_list_of_models(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"holds weights, but not how to use them.*lightseg weights use MODEL FILE"):
        import_model(tmp_path / "weights.pth")


# --- zip files that nobody should unpack ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../outside.txt", "leads out of its folder"),
        ("a/../../outside.txt", "leads out of its folder"),
        ("..\\outside.txt", "leads out of its folder"),
        ("/outside.txt", "has an absolute name"),
        ("\\\\server\\share\\outside.txt", "has an absolute name"),
        ("C:\\outside.txt", "has an absolute name"),
        ("c:outside.txt", "has an absolute name"),
    ],
)
def test_a_zip_that_reaches_out_of_its_folder_is_refused(
    results: Path, tmp_path: Path, models: Path, name: str, words: str
) -> None:
    file = zipped(results, tmp_path / "model.zip")
    entry = zipfile.ZipInfo("x")
    entry.filename = name  # the constructor would turn backslashes round on Windows
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(entry, "x")
    with pytest.raises(InputError, match=words):
        import_model(file)
    assert not models.exists() and not list(tmp_path.rglob("outside.txt"))


def test_a_zip_with_a_link_is_refused(results: Path, tmp_path: Path) -> None:
    file = zipped(results, tmp_path / "model.zip")
    link = zipfile.ZipInfo(f"{results.name}/link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="is a link or a device"):
        import_model(file)


def test_an_encrypted_zip_is_refused(results: Path, tmp_path: Path) -> None:
    file = zipped(results, tmp_path / "model.zip")
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        where = archive.start_dir
    data[where + 8] |= 1  # general purpose bit 0 of the first entry in the central directory
    file.write_bytes(data)
    with pytest.raises(InputError, match="is encrypted"):
        import_model(file)


def test_a_zip_of_endless_zeros_is_refused_before_it_is_unpacked(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 10**7)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"model/{number}.pth", bytes(4 * 10**6))
    monkeypatch.setattr(zipfile.ZipFile, "extractall", lambda *_: pytest.fail("was unpacked"))
    with pytest.raises(InputError, match=r"3 files with 0\.0 GB, more than any model"):
        import_model(tmp_path / "bomb.zip")
    assert not models.exists()


def test_a_zip_that_does_not_fit_on_the_disk_is_refused_before_it_is_unpacked(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = zipped(results, tmp_path / "model.zip")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=archives.SPARE_BYTES))
    monkeypatch.setattr(zipfile.ZipFile, "extractall", lambda *_: pytest.fail("was unpacked"))
    with pytest.raises(InputError, match=r"when unpacked, but 0\.3 GB are free in"):
        import_model(file)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "content"])
def test_a_damaged_zip_is_refused(results: Path, tmp_path: Path, models: Path, damage: str) -> None:
    file = zipped(results, tmp_path / "model.zip")
    whole = file.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "empty": b"",
        "text": b"<html>Not found</html>",
        "cut": whole[:middle],
        "content": whole[:middle] + bytes(64) + whole[middle + 64 :],
    }
    file.write_bytes(damaged[damage])
    with pytest.raises(InputError, match=r"model\.zip is no sound zip file"):
        import_model(file)
    assert not models.exists()


# --- models that are already there, and disks that are not ---------------------------------------


def test_a_model_that_is_there_already_stays(results: Path, models: Path) -> None:
    import_model(results)
    before = content(models)
    change(results / "dataset.json", name="newer")
    with pytest.raises(InputError, match=rf"already a model '{ID}' .*--replace"):
        import_model(results)
    assert content(models) == before


def test_a_model_is_replaced_when_asked_for(results: Path, models: Path) -> None:
    import_model(results)
    (models / ID / "notes.txt").write_text("of the older model")
    change(results / "dataset.json", name="newer")
    assert import_model(results, replace=True).title == find_card(ID).title == "newer (3d_fullres)"
    assert sorted(content(models)) == [f"{ID}/model.json", f"{ID}/weights.pt"]


def test_a_models_folder_can_be_imported_over_itself(results: Path, models: Path) -> None:
    import_model(results)
    before = content(models)
    import_model(models / ID, replace=True)
    assert content(models) == before


def test_a_bundled_model_is_never_hidden(results: Path, tiny_model: Path, tmp_path: Path, models: Path) -> None:
    bundled = "hippocampus-mr-lightmedseg"
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    write_card(dataclasses.replace(read_card(folder / "model.json"), id=bundled), folder / "model.json")
    for replace in (False, True):
        with pytest.raises(InputError, match=f"'{bundled}' is taken by the model 'Hippocampus"):
            import_model(folder, replace=replace)
    assert not models.exists()


def test_an_id_made_from_names_gives_way_to_a_bundled_model(tmp_path: Path) -> None:
    plans = {**make_plans(), "dataset_name": "Hippocampus"}
    plans["configurations"]["mr-lightmedseg"] = {"inherits_from": "3d_fullres"}
    card = import_model(write_model(tmp_path, plans, configuration="mr-lightmedseg"))
    assert card.id == "hippocampus-mr-lightmedseg-imported" and find_card(card.id) == card


def test_another_model_in_the_folder_of_that_name_is_not_replaced(
    results: Path, tiny_model: Path, models: Path
) -> None:
    shutil.copytree(tiny_model, models / ID)  # a person may call a folder what they like
    before = content(models)
    with pytest.raises(InputError, match=f"'{ID}' is taken by the model 'Tiny'"):
        import_model(results, replace=True)
    assert content(models) == before


@pytest.mark.parametrize("replace", [False, True])
def test_a_full_disk_changes_nothing(
    results: Path, models: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    if replace:
        import_model(results)
    before = content(models) if replace else {}

    def fill_up(_: object, stream: Any) -> None:
        stream.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_up)
    with pytest.raises(OutputError, match="disk is full"):
        import_model(results, replace=replace)
    assert content(models) == before
    assert not replace or find_card(ID).id == ID


def test_the_older_model_comes_back_if_the_new_one_cannot_take_its_place(
    results: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_model(results)
    before = content(models)
    rename = Path.rename

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if self.parent.name.startswith(".import-"):
            raise PermissionError(errno.EACCES, "Access is denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(OutputError, match="Access is denied"):
        import_model(results, replace=True)
    assert content(models) == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
def test_a_models_folder_that_cannot_be_written_is_named(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTSEG_MODELS", "/proc/models")
    with pytest.raises(OutputError, match=r"could not be stored in /proc/models .*LIGHTSEG_MODELS"):
        import_model(results)
