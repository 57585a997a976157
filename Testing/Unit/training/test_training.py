"""Training a model of one's own: the data, the patches, the objective, the run and its interruption."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from LightSegLib.catalog.card import Calibration, Weights
from LightSegLib.catalog.card_file import read_card, write_card
from LightSegLib.catalog.lookup import CARD_NAME, find_card
from LightSegLib.cli.main import main
from LightSegLib.core.errors import Canceled, InputError, ModelError, OutputError
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.training.augment import Augmentation, random_patch
from LightSegLib.training.dataset import Dataset, read_dataset
from LightSegLib.training.loss import SegmentationLoss, boundary_region
from LightSegLib.training.model_card import starting_card
from LightSegLib.training.options import TrainingOptions, training_command
from LightSegLib.training.synthetic_options import SyntheticTrainingOptions
from LightSegLib.training.trainer import train
from LightSegLib.weights.checkpoint import read_checkpoint
from LightSegLib.weights.files import save_weights

REPOSITORY = Path(__file__).resolve().parents[3]

STILL = Augmentation(spatial_probability=0, intensity_probability=0)
QUICK = TrainingOptions(epochs=4, batch_size=2, patch_size=(16, 16, 16), warmup_epochs=1, validate_every=2, seed=3)


def write(path: Path, voxels: np.ndarray) -> None:
    import SimpleITK as sitk

    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(to_sitk(voxels, Geometry(voxels.shape)), str(path))  # type: ignore[arg-type]


def ball(random: np.random.Generator, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball in noise, its upper half labeled 1 and its lower half 2."""
    k, j, i = np.indices((size, size, size))
    center = random.uniform(size * 0.4, size * 0.6, 3)
    inside = (k - center[0]) ** 2 + (j - center[1]) ** 2 + (i - center[2]) ** 2 < (size * 0.3) ** 2
    image = (inside * 3 + random.normal(size=inside.shape)).astype(np.float32)
    return image, (inside * np.where(k > center[0], 1, 2)).astype(np.uint8)


@pytest.fixture
def raw_dataset(tmp_path: Path) -> Path:
    """Six generated cases in nnU-Net's raw layout."""
    folder, random = tmp_path / "Dataset001_Bälle", np.random.default_rng(0)
    for number in range(6):
        image, labels = ball(random)
        write(folder / "imagesTr" / f"case_{number}_0000.nii.gz", image)
        write(folder / "labelsTr" / f"case_{number}.nii.gz", labels)
    description = {
        "name": "Balls",
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "upper": 1, "lower": 2},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


# --- the run -------------------------------------------------------------------------------------


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
    for change in ({"seed": 4}, {"augmentation": 0.5}, {"initial_weights": "weights.pt"}):
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


def test_the_recorded_command_repeats_every_option_that_was_set() -> None:
    options = TrainingOptions(card="base", patch_size=(32, 48, 32), flip_axes=(2,), seed=7)
    assert training_command("hippocampus", Path("a b/out"), options) == (
        "lightseg train hippocampus --out out --card base --patch-size 32,48,32 --flip-axes 2 --seed 7"
    )


# --- data that cannot be used --------------------------------------------------------------------


def test_a_plain_pair_of_folders_is_a_dataset_too(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image, labels = ball(np.random.default_rng(0))
        write(tmp_path / "images" / f"{name}.nrrd", image)
        write(tmp_path / "labels" / f"{name}.nrrd", labels)
    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == ["a", "b"] and dataset.channels == ("Image",)


def test_labels_without_a_name_are_refused_before_training(raw_dataset: Path, tmp_path: Path) -> None:
    path = raw_dataset / "labelsTr" / "case_2.nii.gz"
    labels = read_volume(path).voxels.copy()
    labels[0, 0, 0] = 9
    write(path, labels)
    with pytest.raises(InputError, match="label 9"):
        train(raw_dataset, tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()


def test_image_and_label_of_different_size_are_named(raw_dataset: Path, tmp_path: Path) -> None:
    write(raw_dataset / "labelsTr" / "case_1.nii.gz", np.ones((16, 16, 15), np.uint8))
    assert main(["train", str(raw_dataset), "--out", str(tmp_path / "out")]) == 2
    with pytest.raises(InputError, match="case_1"):
        train(raw_dataset, tmp_path / "out", QUICK)


def test_a_label_without_its_image_its_reverse_and_a_folder_of_something_else_are_refused(
    raw_dataset: Path, tmp_path: Path
) -> None:
    label = raw_dataset / "labelsTr" / "case_3.nii.gz"
    label.rename(tmp_path / "elsewhere.nii.gz")
    with pytest.raises(InputError, match="case_3_0000"):
        read_dataset(raw_dataset)
    (tmp_path / "elsewhere.nii.gz").rename(label)
    (raw_dataset / "imagesTr" / "case_3_0000.nii.gz").unlink()
    with pytest.raises(InputError, match="case_3"):
        read_dataset(raw_dataset)
    with pytest.raises(InputError, match="imagesTr"):
        read_dataset(tmp_path)


def test_a_card_to_start_from_keeps_its_labels_and_preprocessing(raw_dataset: Path, tmp_path: Path) -> None:
    base = find_card("hippocampus-mr-lightmedseg")
    dataset = read_dataset(raw_dataset)
    options = TrainingOptions(**{**vars(QUICK), "card": base.id})
    card = starting_card(dataset, [case.load() for case in dataset.cases], tmp_path / "out", options)
    assert card.labels == base.labels and card.preprocessing == base.preprocessing
    assert card.inference.patch_size == base.inference.patch_size
    assert card.inference.mirror_axes == options.flip_axes  # no other flip was trained


# --- patches -------------------------------------------------------------------------------------


class Middle:
    """Random numbers that are always the middle of what is asked for."""

    def random(self) -> float:
        return 0.9

    def uniform(self, low: Any, high: Any, size: Any = ()) -> Any:
        middle = (np.asarray(low) + np.asarray(high)) / 2
        return np.broadcast_to(middle, size or middle.shape) if size or middle.ndim else float(middle)

    def standard_normal(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.ones(shape, dtype)


def test_a_patch_of_the_whole_volume_is_the_volume() -> None:
    """No flips, no changes, and no room to move: sampling must not shift anything by half a voxel."""
    image, labels = torch.randn(1, 6, 8, 7), torch.randint(0, 3, (6, 8, 7))
    patch, target = random_patch(image, labels, (6, 8, 7), False, Middle(), STILL)  # type: ignore[arg-type]
    torch.testing.assert_close(patch, image, atol=1e-5, rtol=1e-5)
    assert torch.equal(target, labels)


def test_augmentation_of_no_strength_changes_nothing_and_of_half_the_strength_half_as_much() -> None:
    image, labels = torch.randn(1, 6, 8, 7), torch.randint(0, 3, (6, 8, 7))
    always = Augmentation(spatial_probability=0, intensity_probability=1)
    same, _target = random_patch(image, labels, (6, 8, 7), False, Middle(), always.times(0))  # type: ignore[arg-type]
    torch.testing.assert_close(same, image, atol=1e-5, rtol=1e-5)
    half = Augmentation().times(0.5)
    assert (half.rotation_degrees, half.noise, half.blur_sigma) == (10, 0.075, (0.2, 0.6))
    assert np.prod(half.scale) == pytest.approx(1) and half.scale[1] ** 2 == pytest.approx(Augmentation().scale[1])
    assert half.gamma[0] ** 2 == pytest.approx(Augmentation().gamma[0])


def test_image_and_labels_move_together() -> None:
    """The label is where the image exceeds zero, and stays so under rotation, scaling and flips."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in (30, 36, 32)), indexing="ij")
    image = (0.5 - axes[0] ** 2 - axes[1] ** 2 + 0.3 * axes[2])[None]
    labels = (image[0] > 0).short()
    random = np.random.default_rng(0)
    changes = Augmentation(spatial_probability=1, intensity_probability=0, flip_axes=(0, 1, 2))
    for _ in range(20):
        patch, target = random_patch(image, labels, (20, 20, 20), True, random, changes)
        outside = (patch[0] > 0) & (target == 0)  # beyond the volume the labels are background
        agreement = ((patch[0] > 0) == (target > 0))[~outside].float().mean()
        assert agreement > 0.98 and outside.float().mean() < 0.5


def test_patches_centered_on_labels_find_a_rare_structure() -> None:
    labels = torch.zeros(60, 60, 60, dtype=torch.int16)
    labels[50:53, 8:11, 30:33] = 1
    random = np.random.default_rng(1)
    hits = [
        bool(random_patch(torch.zeros(1, 60, 60, 60), labels, (16, 16, 16), found, random, STILL)[1].any())
        for found in [True] * 20 + [False] * 20
    ]
    assert all(hits[:20]) and sum(hits[20:]) < 10


# --- the objective -------------------------------------------------------------------------------


def test_the_boundary_region_is_the_dilated_class_border() -> None:
    """Two half spaces: with radius d, d layers on either side of the border belong to the region."""
    labels = torch.zeros(1, 4, 4, 10, dtype=torch.long)
    labels[..., 5:] = 1
    target = torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float()
    for dilation in (1, 2):
        region = boundary_region(target, dilation)[0, 0]
        expected = torch.zeros(4, 4, 10)
        expected[..., 5 - dilation : 5 + dilation] = 1
        torch.testing.assert_close(region, expected)


def test_the_loss_is_zero_for_a_perfect_answer_and_weighs_classes_by_inverse_frequency() -> None:
    labels = torch.zeros(1, 6, 6, 6, dtype=torch.long)
    labels[:, :3] = 1
    loss = SegmentationLoss([0.75, 0.25])
    torch.testing.assert_close(loss.weights, torch.tensor([0.5, 1.5]))
    perfect = 50 * torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float()
    assert float(loss(perfect, labels)) == pytest.approx(0, abs=1e-3)


def test_an_undecided_network_costs_what_the_formulas_say() -> None:
    """Equal probabilities for two classes: cross-entropy and boundary term are log 2, Dice one half."""
    labels = torch.zeros(1, 6, 6, 6, dtype=torch.long)
    labels[:, :3] = 1
    loss = SegmentationLoss([0.5, 0.5])
    expected = (1 - (2 * 54 + 1) / (108 + 108 + 1)) + 2 * np.log(2)
    assert float(loss(torch.zeros(1, 2, 6, 6, 6), labels)) == pytest.approx(expected, rel=1e-5)


def test_a_class_without_voxels_does_not_drown_the_others() -> None:
    weights = SegmentationLoss([0.9, 0.1, 0.0]).weights
    torch.testing.assert_close(weights, torch.tensor([0.2, 1.8, 0.0]))


# --- the card that is made from the data ---------------------------------------------------------


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


def test_names_with_brackets_and_other_formats_are_paired(raw_dataset: Path) -> None:
    for path in sorted((raw_dataset / "labelsTr").iterdir()):
        number = path.name[5]
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path.with_name(f"case [{number}].seg.nrrd")))
        path.unlink()
        image = raw_dataset / "imagesTr" / f"case_{number}_0000.nii.gz"
        image.rename(image.with_name(f"case [{number}]_0000.nii.gz"))
    (raw_dataset / "imagesTr" / "._case [0]_0000.nii.gz").write_bytes(b"of macOS")
    (raw_dataset / "labelsTr" / "._case [0].nii.gz").write_bytes(b"of macOS")
    cases = read_dataset(raw_dataset).cases
    assert [case.name for case in cases] == [f"case [{n}]" for n in range(6)]
    assert [case.images[0].name for case in cases] == [f"case [{n}]_0000.nii.gz" for n in range(6)]
    volumes, labels = cases[0].load()
    assert labels.shape == volumes[0].voxels.shape and set(np.unique(labels)) == {0, 1, 2}


def test_two_images_of_one_channel_are_refused(raw_dataset: Path) -> None:
    image = raw_dataset / "imagesTr" / "case_0_0000.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(image)), str(image.with_name("case_0_0000.nrrd")))
    with pytest.raises(InputError, match="two images of the same channel"):
        read_dataset(raw_dataset)


def test_fractional_and_empty_label_files_are_refused(raw_dataset: Path, tmp_path: Path) -> None:
    for number in range(6):
        write(raw_dataset / "labelsTr" / f"case_{number}.nii.gz", np.zeros((16, 16, 16), np.uint8))
    with pytest.raises(InputError, match="labeled voxel"):
        train(raw_dataset, tmp_path / "out", QUICK)
    write(raw_dataset / "labelsTr" / "case_0.nii.gz", np.full((16, 16, 16), 0.7, np.float32))
    with pytest.raises(InputError, match="fractional"):
        train(raw_dataset, tmp_path / "out", QUICK)


# --- what is in the folder already ----------------------------------------------------------------


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
