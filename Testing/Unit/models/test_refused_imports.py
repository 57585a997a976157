"""What is not a model, or of two trainings, is refused by its name, and nothing of it stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from imported_models import change, zipped
from LightSegLib.catalog.card_file import read_card
from LightSegLib.core.errors import InputError, LightSegError, ModelError
from LightSegLib.models.importing import import_model
from nnunet_models import DATASET, PLAIN_CONV_UNET, make_checkpoint, make_plans

pytestmark = pytest.mark.usefixtures("nothing_left_over")


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
        ModelError,
        match=rf"not belong to the training that wrote fold_0/checkpoint_final\.pth in .*: they differ in {what}",
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
    with pytest.raises(LightSegError, match="dataset.json is missing" if missing == "dataset.json" else "No fold in"):
        import_model(results)
    assert not models.exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '{"a": "\udcff"}'])
def test_a_damaged_plans_file_is_named(results: Path, text: str) -> None:
    (results / "plans.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=r"plans\.json is (missing or damaged|not a JSON object)"):
        import_model(results)


def test_text_that_no_file_can_hold_is_refused(results: Path, models: Path, tmp_path: Path) -> None:
    dataset = {**DATASET, "name": "\ud800"}
    (results / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    with pytest.raises(ModelError, match=r"dataset\.json is missing or damaged .*surrogates not allowed"):
        import_model(results)
    torch.save(make_checkpoint(make_plans(), dataset), tmp_path / "checkpoint.pth")
    with pytest.raises(ModelError, match="cannot be turned into a model card"):
        import_model(tmp_path / "checkpoint.pth")
    assert not models.exists()


def with_arguments(**changes: Any) -> dict[str, Any]:
    """Plans whose network has these arguments."""
    arguments = {**PLAIN_CONV_UNET["arch_kwargs"], **changes}  # type: ignore[dict-item]
    return make_plans(architecture={**PLAIN_CONV_UNET, "arch_kwargs": arguments})


@pytest.mark.parametrize(
    ("plans", "words"),
    [
        (make_plans(patch_size=[8192, 16, 16]), r"patch_size\[0\] must be at most 4096"),
        (make_plans(spacing=[1e-308, 1.5, 1.25]), r"spacing\[0\] must be at least 0\.0001"),
        (make_plans(spacing=[3.0, 1.5, 1e308]), r"spacing\[2\] must be at most 10000"),
        (with_arguments(norm_op_kwargs=[1, 2]), "norm_op_kwargs must be a JSON object or null"),
        (with_arguments(norm_op_kwargs={"eps": "a", "affine": True}), "norm_op_kwargs.eps must be a number"),
        (with_arguments(nonlin_kwargs="inplace"), "nonlin_kwargs must be a JSON object or null"),
        (with_arguments(nonlin_kwargs={"negative_slope": []}), "nonlin_kwargs.negative_slope must be a number"),
    ],
)
def test_plans_that_no_card_could_hold_replace_no_model(
    original: Path, tmp_path: Path, models: Path, plans: dict[str, Any], words: str
) -> None:
    """Checked before anything is written: an unreadable model would replace a good one."""
    before = import_model(original)
    content = torch.load(original / "fold_0" / "checkpoint_final.pth", weights_only=False)
    content["init_args"]["plans"] = plans
    torch.save(content, tmp_path / "checkpoint.pth")
    with pytest.raises(ModelError, match=words):
        import_model(tmp_path / "checkpoint.pth", replace=True)
    assert before.folder is not None and read_card(before.folder / "model.json") == before


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"name": "n" * 301}, "title must have at most 300"),
        ({"reference": "r" * (1 << 19) + "\0" * (1 << 17)}, "MB of text"),
    ],
)
def test_a_description_too_long_for_a_card_is_refused(
    tmp_path: Path, models: Path, names: dict[str, str], words: str
) -> None:
    torch.save(make_checkpoint(make_plans(), DATASET | names), tmp_path / "checkpoint.pth")
    with pytest.raises(ModelError, match=f"cannot be turned into a model card: .*{words}"):
        import_model(tmp_path / "checkpoint.pth")
    assert not models.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": {"file": "../weights.pt"}}, "weights.file must be a plain file name"),
        ({"weights": {"file": "other.pt"}}, "other.pt is missing"),
        ({"weights": {"file": "weights.pt", "size": 5}}, "is not the one that its card describes"),
        ({"weights": {"file": "weights.pt", "sha256": "0" * 64}}, "is not the one that its card describes"),
        ({"channels": []}, "channels must not be empty"),
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


@pytest.mark.parametrize("name", ["image.nii.gz", "notes.json", "folder", "missing"])
def test_anything_else_is_refused_with_what_is_accepted(tmp_path: Path, models: Path, name: str) -> None:
    if name == "folder":
        (tmp_path / name).mkdir()
    elif name != "missing":
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=r"nnU-Net v2 results folder .*its zip or tar.*\.pth.*model\.json"):
        import_model(tmp_path / name)
    assert not models.exists()


@pytest.mark.parametrize("name", ["model_final_checkpoint.model", "model_final_checkpoint.model.pkl", "fold_0"])
def test_files_of_nnunet_v1_are_pointed_to_the_list_of_models(tmp_path: Path, name: str) -> None:
    if name == "fold_0":
        (tmp_path / "fold_0").mkdir()
        (tmp_path / "fold_0" / "model_final_checkpoint.model").touch()
    else:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"nnU-Net v1.*lightseg weights add MODEL FILE"):
        import_model(tmp_path / name)


def test_a_zip_without_a_model_is_called_by_its_name(tmp_path: Path, models: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InputError, match=r"no model in pictures\.zip\. Give an nnU-Net v2 results folder"):
        import_model(zipped(tmp_path / "pictures", tmp_path / "pictures.zip"))
    assert not models.exists()


def test_plain_weights_are_pointed_to_the_list_of_models(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(
        InputError, match=r"contains weights, but not the preprocessing.*lightseg weights add MODEL FILE"
    ):
        import_model(tmp_path / "weights.pth")
