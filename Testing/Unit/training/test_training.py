"""Training a model of one's own: the run, its interruption, its options, and what is in the folder already."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from LightSegLib.catalog.card_file import read_card
from LightSegLib.catalog.lookup import CARD_NAME
from LightSegLib.cli.main import main
from LightSegLib.core.errors import Canceled, InputError, ModelError, OutputError
from LightSegLib.imaging.readers import read_volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.training import trainer
from LightSegLib.training.options import TrainingOptions, training_command
from LightSegLib.training.synthetic_options import SyntheticTrainingOptions
from LightSegLib.training.trainer import train
from LightSegLib.weights.checkpoint import read_checkpoint
from LightSegLib.weights.files import save_weights
from training_sets import QUICK, write

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_trained_model_is_at_once_usable_and_states_its_quality(raw_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "my model"
    flags = ["--epochs", "2", "--batch-size", "2", "--patch-size", "16,16,16", "--validate-every", "1"]
    assert main(["train", str(raw_dataset), "--out", str(out), "--device", "cpu", *flags]) == 0
    card = read_card(out / CARD_NAME)
    assert [label.name for label in card.labels] == ["Upper", "Lower"]
    assert set(card.performance["labels"]) == {"Upper", "Lower"}
    assert card.training["command"].startswith("lightseg train 'Dataset001_Bälle' --out 'my model' --epochs 2")
    rows = list(csv.DictReader((out / "training.csv").open(encoding="utf-8")))
    assert [row["epoch"] for row in rows] == ["1", "2"] and float(rows[1]["validation_dice"]) >= 0
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    image, result = raw_dataset / "imagesTr" / "case_0_0000.nii.gz", tmp_path / "result.nii.gz"
    assert main(["segment", str(image), "--model", str(out), "--out", str(result), "--quiet"]) == 0
    assert result.is_file()


def test_a_training_goes_on_without_matplotlib_and_reports_it_once(
    raw_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "model"
    flags = ["--epochs", "2", "--batch-size", "2", "--patch-size", "16,16,16", "--validate-every", "1"]
    assert main(["train", str(raw_dataset), "--out", str(out), "--device", "cpu", *flags]) == 0
    log = capsys.readouterr().err
    assert log.count("pip install matplotlib") == 1
    assert "Epoch 1/2, loss" in log and "Epoch 2/2, loss" in log  # in a log, where no line can be overwritten
    assert (out / CARD_NAME).is_file() and (out / "training.csv").is_file() and not (out / "curves.png").exists()


@pytest.mark.slow
def test_an_interrupted_run_ends_as_if_it_had_not_been(raw_dataset: Path, tmp_path: Path) -> None:
    whole = train(raw_dataset, tmp_path / "whole", QUICK)
    done: list[int] = []
    with pytest.raises(Canceled):
        train(
            raw_dataset,
            tmp_path / "parts",
            QUICK,
            on_epoch=lambda report: done.append(report.epoch),
            canceled=lambda: len(done) == 2,
        )
    with pytest.raises(OutputError, match="--resume"):
        train(raw_dataset, tmp_path / "parts", QUICK)
    for change in (
        {"seed": 4},
        {"augmentation": 0.5},
        {"bfloat16": True},
        {"fold": "1/6"},
        {"initial_weights": "weights.pt"},
    ):
        with pytest.raises(InputError, match="other options"):
            train(raw_dataset, tmp_path / "parts", TrainingOptions(**{**vars(QUICK), "resume": True, **change}))
    parts = train(raw_dataset, tmp_path / "parts", TrainingOptions(**{**vars(QUICK), "resume": True}))
    assert done == [1, 2]
    assert parts.weights.sha256 == whole.weights.sha256
    assert parts.performance == whole.performance


@pytest.mark.slow
def test_it_learns_the_balls(raw_dataset: Path, tmp_path: Path) -> None:
    """Thirty passes over five small images are enough to find the ball in a sixth."""
    options = TrainingOptions(epochs=30, batch_size=2, patch_size=(16, 16, 16), learning_rate=5e-3, ema_decay=0.9)
    card = train(raw_dataset, tmp_path / "model", TrainingOptions(**{**vars(options), "flip_axes": (1, 2)}))
    assert card.performance["mean_dice"] > 0.8
    assert card.performance["mean_mirrored_dice"] > 0.8


def test_validation_runs_the_pipeline_that_users_run(raw_dataset: Path, tmp_path: Path) -> None:
    card = train(raw_dataset, tmp_path / "model", QUICK)
    name = card.training["validation_cases"][0]
    volume = read_volume(raw_dataset / "imagesTr" / f"{name}_0000.nii.gz")
    segmentation = Segmenter(card, InferenceOptions(device="cpu", precision="float32")).segment([volume])
    labels = read_volume(raw_dataset / "labelsTr" / f"{name}.nii.gz").voxels
    for label in card.labels:
        a, b = segmentation.voxels == label.value, labels == label.value
        expected = 2 * (a & b).sum() / (a.sum() + b.sum())
        assert card.performance["labels"][label.name]["dice"]["mean"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_a_last_training_on_all_cases_goes_on_from_weights_and_measures_no_quality(
    raw_dataset: Path, tmp_path: Path
) -> None:
    """Once the epochs are known from runs that set cases aside, these cases are trained on, too."""
    first = train(raw_dataset, tmp_path / "first", QUICK)
    still = {**vars(QUICK), "epochs": 1, "learning_rate": 1e-9, "weight_decay": 0.0, "validation_fraction": 0.0}
    weights = str(tmp_path / "first" / first.weights.file)
    last = train(raw_dataset, tmp_path / "last", TrainingOptions(**{**still, "initial_weights": weights}))
    before, after = (read_checkpoint(tmp_path / name / "weights.pt").state for name in ("first", "last"))
    assert all(torch.allclose(before[key].float(), after[key].float(), atol=1e-3) for key in before)
    assert (last.training["training_cases"], last.training["validation_cases"]) == (6, [])
    assert last.training["initial_weights_sha256"] == first.weights.sha256
    assert last.performance == {} and read_card(tmp_path / "last" / CARD_NAME).performance == {}
    assert last.training["command"].endswith(
        "--validation-fraction 0.0 --validate-every 2 --initial-weights weights.pt --seed 3"
    )


def test_cases_that_the_first_weights_have_seen_do_not_validate(raw_dataset: Path, tmp_path: Path) -> None:
    """Another seed sets others aside, whose Dice would be that of a training set."""
    first = train(raw_dataset, tmp_path / "first", dataclasses.replace(QUICK, epochs=1))
    again = dataclasses.replace(QUICK, epochs=1, initial_weights=str(tmp_path / "first" / first.weights.file))
    with pytest.raises(InputError, match=r"was trained on case_\d, which this training sets aside .* Repeat --seed"):
        train(raw_dataset, tmp_path / "second", dataclasses.replace(again, seed=4))
    assert not (tmp_path / "second").exists()
    second = train(raw_dataset, tmp_path / "second", again)
    (run,) = second.training["earlier_runs"]
    assert run["trained_on"] == second.training["trained_on"] and len(run["trained_on"]) == 5
    assert run["weights_sha256"] == first.weights.sha256


def test_what_weights_have_seen_is_known_by_their_content(
    raw_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another folder than their card, as the bundled ones are; not where others were put beside it."""
    first = train(raw_dataset, tmp_path / "first", dataclasses.replace(QUICK, epochs=1))
    weights, moved = tmp_path / "first" / first.weights.file, tmp_path / "moved.pt"
    shutil.copy(weights, moved)
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path))
    other_cases = dataclasses.replace(QUICK, epochs=1, seed=4)
    with pytest.raises(InputError, match=r"moved\.pt was trained on case_\d, which this training sets aside"):
        train(raw_dataset, tmp_path / "second", dataclasses.replace(other_cases, initial_weights=str(moved)))
    state = read_checkpoint(weights).state
    save_weights({key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in state.items()}, weights)
    second = train(raw_dataset, tmp_path / "second", dataclasses.replace(other_cases, initial_weights=str(weights)))
    assert "earlier_runs" not in second.training


def test_initial_weights_that_do_not_fit_are_refused_before_anything_is_written(
    raw_dataset: Path, tmp_path: Path
) -> None:
    card = train(raw_dataset, tmp_path / "first", QUICK)
    state = dict(read_checkpoint(tmp_path / "first" / card.weights.file).state)
    incomplete, other = tmp_path / "incomplete.pt", tmp_path / "other labels.pt"
    save_weights({key: tensor for key, tensor in state.items() if key != "head.bias"}, incomplete)
    save_weights(state | {"head.weight": state["head.weight"][:2], "head.bias": state["head.bias"][:2]}, other)
    for weights in (incomplete, other):
        with pytest.raises(ModelError, match=weights.name):
            train(raw_dataset, tmp_path / "second", dataclasses.replace(QUICK, initial_weights=str(weights)))
    assert not (tmp_path / "second").exists()


def test_a_single_case_is_trained_on_only_where_none_is_set_aside(
    raw_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in [*raw_dataset.glob("*Tr/case_[1-5]*")]:
        path.unlink()
    flags = ["--epochs", "1", "--patch-size", "16,16,16", "--device", "cpu"]
    line = ["train", str(raw_dataset), "--out", str(tmp_path / "model"), *flags]
    assert main(line) == 2 and "at least two" in capsys.readouterr().err
    assert main([*line, "--validation-fraction", "0"]) == 0
    assert "no quality was measured" in capsys.readouterr().out
    assert (tmp_path / "model" / "curves.png").is_file()


def test_the_parts_of_a_cross_validation_set_every_case_aside_once(raw_dataset: Path, tmp_path: Path) -> None:
    trained = [
        train(raw_dataset, tmp_path / str(part), dataclasses.replace(QUICK, epochs=1, fold=f"{part}/3")).training
        for part in (1, 2, 3)
    ]
    assert sorted(case for run in trained for case in run["validation_cases"]) == [f"case_{n}" for n in range(6)]
    for run in trained:
        assert sorted(run["validation_cases"] + run["trained_on"]) == [f"case_{n}" for n in range(6)]
    assert "--fold 2/3" in trained[1]["command"] and "--validation-fraction" not in trained[1]["command"]
    with pytest.raises(InputError, match="6 cases, too few for 7 parts"):
        train(raw_dataset, tmp_path / "seven", dataclasses.replace(QUICK, fold="1/7"))


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "2/", "a/b", "-1/5", "1/5/5", "02/5", "\u0662/5"])
def test_a_fold_that_is_no_part_of_several_is_refused(fold: str) -> None:
    with pytest.raises(InputError, match="must be a part and the number of parts, such as 2/5"):
        TrainingOptions(fold=fold)


def test_a_fold_beside_a_share_is_refused() -> None:
    with pytest.raises(InputError, match="both set cases aside"):
        TrainingOptions(fold="1/5", validation_fraction=0.0)


@pytest.mark.parametrize("side", [8, 20])
def test_a_patch_that_does_not_fit_the_network_is_refused_before_anything_is_written(
    side: int, raw_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The U-Net halves three times, and an instance norm needs more than one voxel."""
    size = ",".join(3 * [str(side)])
    line = ["train", str(raw_dataset), "--out", str(tmp_path / "model"), "--card", "hippocampus-mr-unet"]
    assert main([*line, "--patch-size", size, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert f"cannot learn from patches of {size} voxels" in error and "Choose another --patch-size" in error
    assert not (tmp_path / "model").exists()


def test_training_in_bfloat16_learns_the_same(raw_dataset: Path, tmp_path: Path) -> None:
    losses, commands = [], []
    for out, bfloat16 in ((tmp_path / "float32", False), (tmp_path / "bfloat16", True)):
        card = train(raw_dataset, out, dataclasses.replace(QUICK, bfloat16=bfloat16))
        rows = csv.DictReader((out / "training.csv").open(encoding="utf-8"))
        losses.append([float(row["train_loss"]) for row in rows])
        commands.append(card.training["command"].split())
        kept = torch.load(out / "checkpoint.pt", weights_only=True)
        floats = [tensor for tensor in kept["network"].values() if tensor.is_floating_point()]
        assert {tensor.dtype for tensor in floats} == {torch.float32}
    assert losses[1] != losses[0] and losses[1] == pytest.approx(losses[0], rel=0.02)
    assert "--bfloat16" in commands[1] and "--bfloat16" not in commands[0] and "True" not in commands[1]


def test_bfloat16_is_for_the_cpu_and_cuda_trains_in_float16() -> None:
    with pytest.raises(InputError, match="for a training on the CPU, and this one runs on meta"):
        trainer._lower_precision(torch.device("meta"), TrainingOptions(bfloat16=True))
    assert trainer._lower_precision(torch.device("cuda"), TrainingOptions()) == torch.float16


def test_the_recorded_command_repeats_every_option_that_was_set() -> None:
    options = TrainingOptions(card="base", patch_size=(32, 48, 32), flip_axes=(2,), seed=7)
    assert training_command("hippocampus", Path("a b/out"), options) == (
        "lightseg train hippocampus --out out --card base --patch-size 32,48,32 --flip-axes 2 --seed 7"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": 10**21},
        {"batch_size": 0},
        {"validate_every": 0},
        {"validation_fraction": 2.0},
        {"validation_fraction": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": float("nan")},
        {"weight_decay": float("nan")},
        {"weight_decay": float("inf")},
        {"weight_decay": -1.0},
        {"class_weight_exponent": float("nan")},
        {"class_weight_exponent": 1e308},
        {"ema_decay": float("nan")},
        {"foreground_fraction": float("nan")},
        {"warmup_epochs": 10**12},
        {"seed": 10**23},
        {"patch_size": (100_000, 100_000, 100_000)},
        {"patch_size": (16, 0, 16)},
        {"patch_size": (1, 1, 1)},
    ],
)
def test_options_with_which_no_training_is_possible_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        TrainingOptions(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"hours": float("nan")}, {"spacing": float("inf")}, {"margin": float("nan")}])
def test_options_with_which_no_training_on_label_maps_is_possible_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        SyntheticTrainingOptions(**change)  # type: ignore[arg-type]


def test_label_values_may_have_gaps(raw_dataset: Path, tmp_path: Path) -> None:
    """The network has outputs for the values between, which no label names: none of these is ever the answer."""
    for path in (raw_dataset / "labelsTr").iterdir():
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        write(path, np.where(labels == 2, 5, labels).astype(np.uint8))
    names = {"background": 0, "upper": 1, "lower": 5}
    (raw_dataset / "dataset.json").write_text(json.dumps({"name": "Balls", "labels": names}), encoding="utf-8")
    out = tmp_path / "gaps"
    # at this learning rate the weights are as they were by chance, and so would be the values that are found
    card = train(raw_dataset, out, dataclasses.replace(QUICK, epochs=1, learning_rate=1e-9, validate_every=1))
    assert [label.value for label in card.labels] == [1, 5] and card.unnamed_outputs == (2, 3, 4)
    image = read_volume(raw_dataset / "imagesTr" / "case_0_0000.nii.gz")
    options = InferenceOptions("cpu", "float32", confidence=True)
    found = Segmenter(read_card(out / CARD_NAME), options).segment([image])
    assert set(np.unique(found.voxels)) <= {0, 1, 5}
    assert set(card.performance["labels"]) <= {"Upper", "Lower"}
    resumed = train(
        raw_dataset, out, dataclasses.replace(QUICK, epochs=1, learning_rate=1e-9, validate_every=1, resume=True)
    )
    assert resumed.performance == card.performance


@pytest.mark.parametrize("damage", ["empty", "cut", "pickle", "other"])
def test_a_damaged_checkpoint_is_named_and_what_to_do(raw_dataset: Path, tmp_path: Path, damage: str) -> None:
    """Torch's own words would advise to load it without any protection."""
    out = tmp_path / "m"
    out.mkdir()
    torch.save({"epoch": 1}, path := out / "checkpoint.pt")
    if damage != "other":
        content = {"empty": b"", "cut": path.read_bytes()[:100], "pickle": b"\x80\x02cos\nsystem\nq\x00."}[damage]
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged .*Start again with --replace") as caught:
        train(raw_dataset, out, dataclasses.replace(QUICK, resume=True))
    assert "weights_only" not in str(caught.value)


@pytest.mark.slow
def test_a_label_that_no_validation_case_has_ends_no_training(raw_dataset: Path, tmp_path: Path) -> None:
    names = {"background": 0, "upper": 1, "lower": 2, "lesion": 3}
    (raw_dataset / "dataset.json").write_text(json.dumps({"name": "Balls", "labels": names}), encoding="utf-8")
    out = tmp_path / "lesion"
    flags = ["--epochs", "2", "--batch-size", "2", "--patch-size", "16,16,16", "--validate-every", "1"]
    assert main(["train", str(raw_dataset), "--out", str(out), "--device", "cpu", *flags]) == 0
    assert [label.name for label in read_card(out / CARD_NAME).labels] == ["Upper", "Lower", "Lesion"]
    assert (out / "curves.png").is_file()


def test_images_may_be_stored_in_any_directions(raw_dataset: Path, tmp_path: Path) -> None:
    """A card that takes images as they are stored, as those of imported nnU-Net models do."""
    card = json.loads((REPOSITORY / "LightSeg/LightSegLib/catalog/cards/hippocampus-mr-lightmedseg.json").read_text())
    card["preprocessing"]["orientation"] = "input"
    (tmp_path / "card.json").write_text(json.dumps(card), encoding="utf-8")
    options = dataclasses.replace(QUICK, epochs=1, validate_every=1, card=str(tmp_path / "card.json"))
    assert train(raw_dataset, tmp_path / "m", options).preprocessing.orientation == "input"


@pytest.mark.parametrize("name", ["model.json", "weights.pt", "training.csv", "curves.png"])
def test_a_model_that_is_there_is_not_trained_over_unasked(raw_dataset: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "model"
    out.mkdir()
    (out / name).write_text("mine")
    for options in (QUICK, dataclasses.replace(QUICK, resume=True)):  # there is nothing to go on with
        with pytest.raises(OutputError, match=rf"already contains a model or parts of one \({name}\)\. .*--replace"):
            train(raw_dataset, out, options)
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [(name, "mine")]


@pytest.mark.slow
def test_a_model_is_replaced_when_asked_for_and_what_else_is_there_stays(raw_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    quick = dataclasses.replace(QUICK, epochs=1, validate_every=1)
    first = train(raw_dataset, out, quick)
    (out / "notes.txt").write_text("mine")
    second = train(raw_dataset, out, dataclasses.replace(quick, seed=5, replace=True))
    assert second.weights.sha256 != first.weights.sha256 and read_card(out / CARD_NAME).weights == second.weights
    assert (out / "notes.txt").read_text() == "mine"
    assert "--replace" not in second.training["command"]
    flags = ["--epochs", "1", "--batch-size", "2", "--patch-size", "16,16,16", "--validate-every", "1"]
    line = ["train", str(raw_dataset), "--out", str(out), "--device", "cpu", *flags]
    assert main(line) == 2
    assert main([*line, "--replace"]) == 0


def test_a_run_of_an_earlier_version_is_gone_on_with() -> None:
    """What must not differ is reported in the same words as before there was --replace."""
    earlier = (
        "TrainingOptions(card='', epochs=300, batch_size=4, patch_size=None, learning_rate=0.002, weight_decay=0.01, "
        "warmup_epochs=5, class_weight_exponent=1.0, foreground_fraction=0.5, flip_axes=(0, 1, 2), ema_decay=0.999, "
        "validation_fraction=0.15, validate_every=5, seed=0, device='auto', resume=False)"
    )
    assert str(TrainingOptions(replace=True)) == earlier
