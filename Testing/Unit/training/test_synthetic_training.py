"""From a folder of label maps to a model: a phantom's organs, an interruption, a full disk."""

from __future__ import annotations

import csv
import dataclasses
import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from label_phantoms import BODY, CYST, LEFT_KIDNEY, LIVER, RIGHT_KIDNEY, image_of, phantom, write_maps
from LightSegLib.catalog.card_file import read_card
from LightSegLib.catalog.lookup import CARD_NAME
from LightSegLib.cli.main import main
from LightSegLib.core.errors import Canceled, DiskFullError, InputError, ModelError, OutputError
from LightSegLib.core.file_hash import sha256
from LightSegLib.evaluation.metrics import dice
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.networks.atlas_unet import AtlasUNet
from LightSegLib.training.loss import drawn_loss, drawn_voxels
from LightSegLib.training.material import prepare
from LightSegLib.training.run import EpochReport
from LightSegLib.training.synthesis.options import SynthesisOptions
from LightSegLib.training.synthetic import train_synthetic
from LightSegLib.training.synthetic_options import SyntheticTrainingOptions, synthesis_options, synthetic_command
from LightSegLib.training.synthetic_run import ImageStream, SyntheticRun
from scipy.spatial.transform import Rotation

SMALL: dict[str, Any] = {
    "validation_maps": 1,
    "spacing": 4.0,
    "overlap": 8.0,
    "widths": (8, 12),
    "prior_images": 20,
    "voxels_per_class": 500,
    "ema_decay": 0.9,
}
QUICK = SyntheticTrainingOptions(**SMALL, epochs=4, images_per_epoch=2, validate_every=2, seed=5)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_maps(tmp_path_factory.mktemp("training") / "phantoms", 5)


def validations(model: Path) -> list[float]:
    """Dice of each validation in a training's log."""
    rows = csv.DictReader((model / "training.csv").open(encoding="utf-8"))
    return [float(row["validation_dice"]) for row in rows if row["validation_dice"]]


@pytest.mark.slow
def test_from_label_maps_to_the_organs_of_a_new_phantom(maps: Path, tmp_path: Path) -> None:
    """No one in the label maps looks like the new subject, whose contrast, noise, size and place are others."""
    out = tmp_path / "organs"
    flags = "--validation-maps 1 --spacing 4 --overlap 8 --widths 8,12 --prior-images 40 --voxels-per-class 500"
    schedule = (
        "--epochs 4 --images-per-epoch 40 --validate-every 4 --ema-decay 0.9 --learning-rate 0.01 --nice 0 --device cpu"
    )
    assert main(["train", "--synthesize", str(maps), "--out", str(out), *flags.split(), *schedule.split()]) == 0
    card = read_card(out / CARD_NAME)
    assert [label.name for label in card.labels] == ["Liver", "Left kidney", "Right kidney"]
    assert card.labels[0].terminology is not None and card.labels[0].terminology.type.value == "10200004"
    assert card.training["command"].startswith("lightseg train --synthesize phantoms --out organs --epochs 4")
    values, matrix = phantom(77, (60, 56, 62), 2.5)
    image = image_of(values, 1, {BODY: 90, LIVER: 300, CYST: 420, LEFT_KIDNEY: 190, RIGHT_KIDNEY: 190})
    matrix[:3, 3] += [40, -25, 60]
    volume = Volume(image, Geometry.from_index_to_world(matrix, values.shape))  # type: ignore[arg-type]
    result = Segmenter(card, InferenceOptions(device="cpu")).segment([volume])
    assert result.geometry == volume.geometry
    expected = {1: (LIVER, CYST), 2: (LEFT_KIDNEY,), 3: (RIGHT_KIDNEY,)}
    scores = {label: dice(result.voxels == label, np.isin(values, part)) for label, part in expected.items()}
    assert min(scores.values()) >= 0.9, scores
    rows = list(csv.DictReader((out / "training.csv").open(encoding="utf-8")))
    assert len(rows) == 4 and float(rows[-1]["validation_dice"]) > 0.8
    assert {name for name in rows[-1] if name.startswith("validation_dice_T1")} == {
        "validation_dice_T1 4 mm",
        "validation_dice_T1 5 mm slices",
    }
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_ends_as_if_it_had_not_been(maps: Path, tmp_path: Path) -> None:
    whole = train_synthetic(maps, tmp_path / "whole", QUICK)
    done: list[EpochReport] = []
    with pytest.raises(Canceled):
        train_synthetic(maps, tmp_path / "parts", QUICK, on_epoch=done.append, canceled=lambda: len(done) == 3)
    with pytest.raises(OutputError, match="--resume"):
        train_synthetic(maps, tmp_path / "parts", QUICK)
    other = SyntheticTrainingOptions(**{**vars(QUICK), "seed": 6, "resume": True})
    with pytest.raises(InputError, match="other options"):
        train_synthetic(maps, tmp_path / "parts", other)
    resume = SyntheticTrainingOptions(**{**vars(QUICK), "resume": True})
    parts = train_synthetic(maps, tmp_path / "parts", resume)
    assert whole is not None and parts is not None
    assert parts.weights.sha256 == whole.weights.sha256 and parts.performance == whole.performance


@pytest.mark.slow
def test_a_run_goes_on_from_weights_alone(maps: Path, tmp_path: Path) -> None:
    """On another computer there is the weights file and the label maps; the first validation is as good as the best."""
    train_synthetic(maps, tmp_path / "first", QUICK)
    weights = tmp_path / "first" / "weights.pt"
    onward = SyntheticTrainingOptions(
        **{**vars(QUICK), "resume": True, "epochs": 1, "learning_rate": 1e-7, "initial_weights": str(weights)}
    )
    train_synthetic(maps, tmp_path / "second", onward)
    best = max(validations(tmp_path / "first"))
    assert validations(tmp_path / "second") == pytest.approx([best], abs=1e-3)  # weights are stored in half precision
    wider = SyntheticTrainingOptions(**{**vars(onward), "widths": (10, 16), "fine_channels": 12, "residual_blocks": 1})
    card = train_synthetic(maps, tmp_path / "wider", wider)
    assert validations(tmp_path / "wider") == pytest.approx([best], abs=2e-3)
    assert card is not None and card.network_arguments["residual_blocks"] == 1
    narrower = SyntheticTrainingOptions(**{**vars(onward), "widths": (4, 12)})
    with pytest.raises(ModelError):
        train_synthetic(maps, tmp_path / "third", narrower)
    assert not (tmp_path / "third").exists()


def test_a_model_is_trained_over_only_when_asked_to_and_gets_a_template_of_its_own(maps: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.mkdir()
    for name in ("model.json", "template.nrrd"):
        (out / name).write_text("of another model")
    once = dataclasses.replace(QUICK, epochs=1, validate_every=1)
    with pytest.raises(OutputError, match=r"\(model\.json, template\.nrrd\)\. Replace it with --replace"):
        train_synthetic(maps, out, once)
    assert (out / "template.nrrd").read_text() == "of another model"
    card = train_synthetic(maps, out, dataclasses.replace(once, replace=True))
    assert card is not None and card.preprocessing.alignment is not None
    assert sha256(out / "template.nrrd") == card.preprocessing.alignment.template_sha256
    assert "--replace" not in card.training["command"]


def test_time_that_is_up_pauses_the_run_and_keeps_it(maps: Path, tmp_path: Path) -> None:
    hurried = SyntheticTrainingOptions(**{**vars(QUICK), "hours": 1e-9})
    assert train_synthetic(maps, tmp_path / "model", hurried) is None
    onward = SyntheticTrainingOptions(**{**vars(QUICK), "resume": True})
    assert train_synthetic(maps, tmp_path / "model", onward) is not None


@pytest.mark.slow
def test_a_disk_that_fills_leaves_the_last_checkpoint(
    maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, done = tmp_path / "model", []
    real = torch.save

    def save(content: Any, stream: Any) -> None:
        real(content, stream)
        if len(done) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(DiskFullError, match="Free some space"):
        train_synthetic(maps, out, QUICK, on_epoch=done.append)
    monkeypatch.setattr(torch, "save", real)
    assert torch.load(out / "checkpoint.pt", weights_only=True)["epoch"] == 1
    assert [path.name for path in out.iterdir() if "part" in path.name] == []
    resumed = train_synthetic(maps, out, SyntheticTrainingOptions(**{**vars(QUICK), "resume": True}))
    whole = train_synthetic(maps, tmp_path / "whole", QUICK)
    assert resumed is not None and whole is not None and resumed.weights.sha256 == whole.weights.sha256


def test_a_preview_shows_images_before_anything_is_trained(maps: Path, tmp_path: Path) -> None:
    import SimpleITK as sitk

    out = tmp_path / "look"
    flags = ["--preview", "--spacing", "4", "--widths", "8,12", "--validation-maps", "1"]
    assert main(["train", "--synthesize", str(maps), "--out", str(out), *flags]) == 0
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "preview.png")))
    assert picture.shape[0] > 8 * 20 and picture.std() > 20
    assert [path.name for path in out.iterdir()] == ["preview.png"]


def test_flags_of_the_other_kind_of_training_are_refused(
    maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    for words, message in (
        (["--synthesize", str(maps), "--batch-size", "2"], "--batch-size is only for training without --synthesize"),
        ([str(maps), "--images-per-epoch", "2"], "--images-per-epoch is only for training with --synthesize"),
        ([str(maps), "--synthesize", str(maps)], "Give one of them"),
        ([], "No training data was given"),
    ):
        assert main(["train", *words, *out]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_of_the_synthesis_come_as_words_and_are_in_the_command() -> None:
    synthesis = synthesis_options(["rotation=10", "noise=0,0.1", "bias_nodes=2,3"])
    assert synthesis == SynthesisOptions(rotation=10.0, noise=(0.0, 0.1), bias_nodes=(2, 3))
    options = SyntheticTrainingOptions(settings="brain", widths=(8, 16), hours=3.0)
    assert synthetic_command("maps", Path("a/out"), options, synthesis) == (
        "lightseg train --synthesize maps --out out --settings brain --widths 8,16 "
        "--set rotation=10.0 --set bias_nodes=2,3 --set noise=0.0,0.1"
    )
    for words in (["noise=0"], ["rotation=much"], ["turn=3"]):
        with pytest.raises(InputError):
            synthesis_options(words)


# --- the objective -------------------------------------------------------------------------------


def test_drawn_voxels_represent_all_of_them() -> None:
    """Small classes are taken whole; of large ones, what is drawn adds up to their size in the mean."""
    labels = torch.tensor([0] * 4000 + [1] * 50 + [2] * 900 + [255] * 100)
    sums = torch.zeros(3)
    for seed in range(40):
        chosen, weights = drawn_voxels(labels, 3, 200, torch.Generator().manual_seed(seed))
        assert (labels[chosen] == 1).sum() == 50 and not (labels[chosen] == 255).any()
        assert len(chosen) < 600
        sums += torch.zeros(3).index_add_(0, labels[chosen], weights) / 40
    torch.testing.assert_close(sums, torch.tensor([4000.0, 50.0, 900.0]), rtol=0.05, atol=0)


def test_the_loss_of_drawn_voxels_is_what_the_formulas_say() -> None:
    """Undecided between three classes: log 3, and a Dice of (2 n / 3 + 1) / (n + total / 3 + 1) for each structure."""
    labels, weights = torch.tensor([0, 0, 1, 2]), torch.tensor([10.0, 10.0, 4.0, 6.0])
    loss = float(drawn_loss(torch.zeros(4, 3), labels, weights))
    scores = [(2 * n / 3 + 1) / (n + 30 / 3 + 1) for n in (4, 6)]
    assert loss == pytest.approx(np.log(3) + 1 - np.mean(scores), rel=1e-5)
    sure = 40 * torch.nn.functional.one_hot(labels, 3).float()
    assert float(drawn_loss(sure, labels, weights)) == pytest.approx(0, abs=1e-5)


def test_a_border_head_is_trained_and_nothing_else(maps: Path, tmp_path: Path) -> None:
    """What the network knew stays as it was, and a run that is interrupted ends as if it had not been."""
    train_synthetic(maps, tmp_path / "network", QUICK)
    weights = tmp_path / "network" / "weights.pt"
    heads = SyntheticTrainingOptions(**{**vars(QUICK), "initial_weights": str(weights), "border_channels": 8})
    card = train_synthetic(maps, tmp_path / "head", heads)
    assert card is not None and card.network_arguments["border_channels"] == 8 and card.inference.guided_upsampling
    before = torch.load(weights, weights_only=True)
    after = torch.load(tmp_path / "head" / "weights.pt", weights_only=True)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert {key.split(".")[0] for key in after if key not in before} == {"border"} and after["border.head.weight"].any()
    done: list[EpochReport] = []
    with pytest.raises(Canceled):
        train_synthetic(maps, tmp_path / "parts", heads, on_epoch=done.append, canceled=lambda: len(done) == 3)
    resumed = train_synthetic(maps, tmp_path / "parts", dataclasses.replace(heads, resume=True))
    assert resumed is not None and resumed.weights.sha256 == card.weights.sha256
    network = read_card(tmp_path / "network" / CARD_NAME)
    for of_head in (card, resumed):
        assert of_head.training["earlier_runs"] == [network.training | {"weights_sha256": network.weights.sha256}]
        images = [run["images"] for run in (network.training, of_head.training)]
        assert min(images) > 0 and of_head.training["images_of_all_runs"] == sum(images)


def test_a_network_is_trained_together_with_its_border_head(maps: Path, tmp_path: Path) -> None:
    """By the same steps; the prior and the command that is recorded are no part of that."""
    train_synthetic(maps, tmp_path / "network", QUICK)
    weights = tmp_path / "network" / "weights.pt"
    both = dataclasses.replace(QUICK, initial_weights=str(weights), border_channels=8, whole_network=True)
    card = train_synthetic(maps, tmp_path / "both", both)
    assert card is not None and " --whole-network --" in card.training["command"]
    assert card.training["initial_weights_sha256"] == sha256(weights)
    before = torch.load(weights, weights_only=True)
    after = torch.load(tmp_path / "both" / "weights.pt", weights_only=True)
    same = {key for key in before if torch.equal(after[key], before[key])}
    assert same == {"prior"} and after["border.head.weight"].any()
    with pytest.raises(InputError, match="whole_network is for a training with a border head"):
        dataclasses.replace(QUICK, whole_network=True)


def test_a_last_training_has_all_label_maps(maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the grid of the training whose quality was measured, with images that it has not seen."""
    measured = train_synthetic(maps, tmp_path / "network", QUICK)
    weights = tmp_path / "network" / "weights.pt"
    last = dataclasses.replace(
        QUICK, initial_weights=str(weights), border_channels=8, whole_network=True, all_maps=True
    )
    card = train_synthetic(maps, tmp_path / "last", last)
    assert measured is not None and card is not None and " --all-maps --" in card.training["command"]
    assert sorted(card.training["label_maps"]) == sorted(path.name.split(".")[0] for path in maps.glob("*.nii.gz"))
    assert card.training["validation_maps"] == [] and not card.performance
    assert card.training["images"] == QUICK.epochs * QUICK.images_per_epoch  # the last weights
    assert card.preprocessing.alignment is not None and measured.preprocessing.alignment is not None
    assert card.preprocessing.alignment.origin == measured.preprocessing.alignment.origin
    with pytest.raises(InputError, match="which this training sets aside for validation"):
        train_synthetic(
            maps, tmp_path / "more", dataclasses.replace(QUICK, initial_weights=str(tmp_path / "last" / "weights.pt"))
        )
    again = ["train", "--synthesize", str(maps), "--out", str(tmp_path / "again"), "--all-maps", "--device", "cpu"]
    small = "--validation-maps 1 --spacing 4 --overlap 8 --widths 8,12 --prior-images 2 --epochs 1 --images-per-epoch 1"
    assert main([*again, *small.split()]) == 0
    assert "Dice" not in "".join(capsys.readouterr())


def test_a_training_that_goes_on_draws_other_images(maps: Path, tmp_path: Path) -> None:
    """Those after the last one of the run before it, though the seed is the same."""
    first = train_synthetic(maps, tmp_path / "first", QUICK)
    assert first is not None
    runs = [
        SyntheticRun(prepare(maps, options), tmp_path / str(number), options, SynthesisOptions())
        for number, options in enumerate(
            (QUICK, dataclasses.replace(QUICK, initial_weights=str(tmp_path / "first" / "weights.pt")))
        )
    ]
    images = [ImageStream(run, 0)[0][0] for run in runs]
    following = ImageStream(runs[0], first.training["images"])[0][0]
    assert torch.equal(images[1], following) and not torch.equal(*images)


@pytest.mark.slow
def test_the_border_head_of_a_model_takes_part_in_its_answer(
    maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a region of interest of an oblique image of whole numbers as in the whole of it."""
    train_synthetic(maps, tmp_path / "network", QUICK)
    weights = tmp_path / "network" / "weights.pt"
    heads = dataclasses.replace(QUICK, initial_weights=str(weights), border_channels=8, learning_rate=0.05)
    train_synthetic(maps, tmp_path / "head", heads)
    values, matrix = phantom(77, (60, 56, 62), 2.5)
    image = image_of(values, 1, {BODY: 90, LIVER: 300, CYST: 420, LEFT_KIDNEY: 190, RIGHT_KIDNEY: 190})
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [170, 8, -12], degrees=True).as_matrix()
    volume = Volume(image.astype(np.int16), Geometry.from_index_to_world(turn @ matrix, values.shape))  # type: ignore[arg-type]
    roi = RegionOfInterest.of_slices((slice(14, 44), slice(10, 40), slice(12, 50)), volume.geometry)
    segmenter = Segmenter(read_card(tmp_path / "head" / CARD_NAME), InferenceOptions(device="cpu"))
    whole, part = segmenter.segment([volume]).voxels, segmenter.segment([volume], roi=roi).voxels
    inside = roi.slices(volume.geometry)
    assert part.any() and np.array_equal(part[inside], whole[inside])
    monkeypatch.setattr(AtlasUNet, "border_changes", lambda _self, logits, *_: torch.zeros_like(logits))
    assert not np.array_equal(segmenter.segment([volume]).voxels, whole)


def test_what_does_not_belong_to_the_weights_is_refused(maps: Path, tmp_path: Path) -> None:
    """Maps that the network has seen say nothing about its quality, and its prior is that of one grid."""
    train_synthetic(maps, tmp_path / "network", QUICK)
    heads = dataclasses.replace(QUICK, initial_weights=str(tmp_path / "network" / "weights.pt"), border_channels=8)
    with pytest.raises(InputError, match=r"was trained on .*Repeat --seed and --validation-maps"):
        train_synthetic(maps, tmp_path / "head", dataclasses.replace(heads, seed=6))
    with pytest.raises(InputError, match="a network on another grid"):
        train_synthetic(maps, tmp_path / "head", dataclasses.replace(heads, margin=30.0))
    assert not (tmp_path / "head").exists()
    train_synthetic(maps, tmp_path / "head", dataclasses.replace(heads, epochs=2))
    other = tmp_path / "other.pt"
    shutil.copy(tmp_path / "head" / "weights.pt", other)
    again = dataclasses.replace(heads, resume=True, initial_weights=str(other))
    with pytest.raises(InputError, match=r"did not start from .*other"):
        train_synthetic(maps, tmp_path / "head", again)


def test_a_border_head_needs_a_network(maps: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--initial-weights"):
        train_synthetic(maps, tmp_path / "head", dataclasses.replace(QUICK, border_channels=8))
    assert not (tmp_path / "head").exists()
