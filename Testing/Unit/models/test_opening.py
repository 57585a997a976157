"""From a card to a result, with weights on a server: what a user of a catalog model goes through."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from http_server import Answer, Server
from LightSegLib.catalog.card import Card, Normalization, Preprocessing, Source, Weights
from LightSegLib.catalog.card_file import read_card, write_card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.cli.main import main
from LightSegLib.core.errors import ModelError
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.models.importing import import_model
from LightSegLib.models.opening import open_model
from LightSegLib.weights.store import WeightStore
from nnunet_models import DATASET, make_checkpoint, make_plans, write_model

CT = Volume(np.random.default_rng(0).normal(0, 300, (10, 24, 20)).astype(np.float32), Geometry((10, 24, 20)), "CT")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def published(tmp_path: Path) -> bytes:
    """The authors' file: an nnU-Net v2 checkpoint with an optimizer's state as large as the weights."""
    checkpoint = make_checkpoint(make_plans(), trainer="nnUNetTrainer_250epochs")
    checkpoint["optimizer_state"] = {"state": {n: {"momentum_buffer": torch.randn(500)} for n in range(40)}}
    torch.save(checkpoint, tmp_path / "published.pth")
    return (tmp_path / "published.pth").read_bytes()


@pytest.fixture
def card(server: Server, published: bytes, tmp_path: Path) -> Card:
    """A catalog card which knows what it segments and where the weights are, but not the preprocessing."""
    server.answers["/final.pth"] = Answer(published)
    imported = import_model(write_model(tmp_path / "Modell ä"))
    card = replace(
        imported,
        id="liver-ct",
        title="Liver",
        preprocessing=Preprocessing("input", normalization=(Normalization("unknown"),)),
        weights=Weights("final.pth", sources=(Source("url", url=f"{server.url}/final.pth"),)),
        metadata_in_weights=True,
        assumptions=("The spacing is not stated.", "The normalization is not stated."),
    )
    (tmp_path / "models" / "liver-ct").mkdir(parents=True)
    write_card(card, tmp_path / "models" / "liver-ct" / "model.json")
    return find_card("liver-ct")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def lightseg(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return code, out, err

    return lightseg


def test_the_first_use_downloads_and_later_ones_need_no_server(
    server: Server, card: Card, published: bytes, tmp_path: Path
) -> None:
    steps: list[str] = []
    segmenter = Segmenter(card, InferenceOptions(device="cpu", precision="float32"))
    first = segmenter.segment([CT], progress=lambda report: steps.append(report.step))
    assert "Downloading Liver" in steps
    server.answers.clear()
    again = Segmenter(find_card("liver-ct"), InferenceOptions(device="cpu", precision="float32")).segment([CT])
    np.testing.assert_array_equal(first.voxels, again.voxels)
    assert first.provenance["weights_sha256"] == again.provenance["weights_sha256"]

    # Exactly what the model imported from its nnU-Net folder computes, whose file has the same weights.
    direct = Segmenter(
        find_card("dataset042_tiny-3d_fullres"), InferenceOptions(device="cpu", precision="float32")
    ).segment([CT])
    np.testing.assert_array_equal(first.voxels, direct.voxels)
    assert [label.name for label in first.labels] == ["liver", "tumor"]


def test_the_file_is_replaced_by_a_slim_copy_that_stays_verified(card: Card, published: bytes, tmp_path: Path) -> None:
    import hashlib

    opened = open_model(card)
    assert opened.sha256 == hashlib.sha256(published).hexdigest()
    store = WeightStore()
    files = [path for path in store.path(card).parent.iterdir() if path.suffix in (".pt", ".pth")]
    assert files == [store.path(card)]
    assert files[0].stat().st_size < 0.5 * len(published)
    store.verify(card)
    files[0].write_bytes(files[0].read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="damaged or was replaced"):
        open_model(card)


@pytest.mark.parametrize("used_before", [True, False])
def test_weights_on_a_disk_that_is_mounted_read_only_are_used(
    card: Card, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used_before: bool
) -> None:
    """As in a container, or where a group shares them. Linux refuses to delete there even what does not exist."""
    store = WeightStore()
    (tmp_path / "final.pth").write_bytes(published)
    store.add_file(card, tmp_path / "final.pth")
    if used_before:
        open_model(card)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    for change in ("unlink", "touch", "mkdir", "replace", "rename"):
        monkeypatch.setattr(Path, change, refuse)
    opened = open_model(find_card("liver-ct"))
    assert [label.name for label in opened.card.labels] == ["liver", "tumor"]


def test_a_model_of_several_folds_opens_as_several_networks(server: Server, tmp_path: Path) -> None:
    """Each with its own weights, also after the model was handed on."""
    model = write_model(tmp_path / "nnUNet_results", folds=(0, 1, 2))
    opened = open_model(import_model(model))
    assert len(opened.networks) == 3
    for fold, network in enumerate(opened.networks):
        trained = torch.load(model / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)["network_weights"]
        assert not network.training
        assert all(torch.equal(tensor, trained[key]) for key, tensor in network.state_dict().items())


def test_what_the_file_states_replaces_what_the_card_did_not_know(card: Card) -> None:
    opened = open_model(card)
    assert opened.card.preprocessing.spacing == (1.25, 1.5, 3.0)
    assert opened.card.preprocessing.normalization[0] == Normalization("ct", -900.0, 619.0, -52.25, 268.75)
    assert card.unverified and not opened.card.unverified


def test_another_file_brings_its_own_preprocessing_and_labels(card: Card, run: Run, tmp_path: Path) -> None:
    """Used once, then replaced by hand: nothing of the first file is left, neither in its results nor in the store."""
    assert set(Segmenter(card, InferenceOptions(device="cpu", precision="float32")).segment([CT]).volumes_ml()) == {
        "liver",
        "tumor",
    }
    labels = {"background": 0, "bone": 1, "vessel": 2}
    torch.save(
        make_checkpoint(make_plans(spacing=[5.0, 2.5, 2.5]), {**DATASET, "labels": labels}), tmp_path / "second.pth"
    )
    code, _, err = run("weights", "use", "liver-ct", tmp_path / "second.pth")  # the former word for add
    assert code == 2 and "differs from the first download" in err
    assert run("weights", "remove", "liver-ct", "--forget")[0] == 0
    assert run("weights", "add", "liver-ct", tmp_path / "second.pth")[0] == 0
    opened = open_model(find_card("liver-ct"))
    assert [label.name for label in opened.card.labels] == ["bone", "vessel"]
    assert opened.card.preprocessing.spacing == (2.5, 2.5, 5.0)
    assert "None of the labels" in opened.card.assumptions[0]
    assert WeightStore().state(find_card("liver-ct")) == "downloaded"
    # a card that is still in memory elsewhere follows the file too
    assert [label.name for label in open_model(card).card.labels] == ["bone", "vessel"]


def test_a_doubt_about_a_files_labels_does_not_vanish_at_the_second_use(
    card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card that ships is what a file is judged by, not the one that this file has completed."""
    ships = tmp_path / "cards"
    ships.mkdir()
    labels = tuple(replace(label, name=f"Part {label.value}") for label in card.labels)
    source = card.weights.sources
    write_card(
        replace(card, id="ships", labels=labels, weights=Weights("final.pth", sources=source)), ships / "ships.json"
    )
    monkeypatch.setattr("LightSegLib.catalog.lookup.CARDS_FOLDER", ships)
    for _ in range(2):
        notices = (
            Segmenter(find_card("ships"), InferenceOptions(device="cpu", precision="float32"))
            .segment([CT])
            .provenance["notices"]
        )
        assert any(notice.startswith("This model is unverified") for notice in notices)
        assert find_card("ships").assumptions[0].startswith("None of the labels in the weights file")
        assert [label.name for label in find_card("ships").labels] == ["liver", "tumor"]


def test_weights_of_another_model_are_named_and_never_replace_anything(
    card: Card, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the model in the user's folder, given for the bundled one's network."""
    other = tmp_path / "other.pth"
    torch.save(make_checkpoint(make_plans()), other)
    folder = tmp_path / "models" / "mine"
    folder.mkdir()
    hippocampus = find_card("hippocampus-mr-lightmedseg")
    source = (Source("page", url="https://example.org"),)
    write_card(replace(hippocampus, id="mine", weights=Weights("other.pth", sources=source)), folder / "model.json")
    assert run("weights", "add", "mine", other)[0] == 0
    before = WeightStore().path(find_card("mine")).read_bytes()
    with pytest.raises(ModelError) as excinfo:
        open_model(find_card("mine"))
    for words in ("LightMedSeg", "they fit 'Tiny", "Missing: stem.0.primary.weight", "Unexpected: encoder.stages.0.0"):
        assert words in str(excinfo.value)
    assert WeightStore().path(find_card("mine")).read_bytes() == before == other.read_bytes()


def test_the_command_line_downloads_checks_and_removes(
    server: Server, card: Card, run: Run, published: bytes, tmp_path: Path
) -> None:
    assert run("weights", "path", "liver-ct")[0] == 1
    code, out, _ = run("weights", "download", "liver-ct")
    path = tmp_path / "weights" / "liver-ct" / "final.pth"
    assert (code, out) == (0, f"liver-ct: {path}\n")
    assert path.read_bytes() == published
    assert run("weights", "path", "liver-ct")[1].strip() == str(path)
    code, out, _ = run("weights", "list")
    assert code == 0 and "liver-ct" in out and f"{len(published) / 1e6:.2f} MB" in out
    entries = json.loads(run("weights", "list", "--json")[1])
    assert [(entry["model"], entry["size"]) for entry in entries] == [("liver-ct", len(published))]
    code, out, _ = run("weights", "verify")
    assert code == 0 and "liver-ct: OK" in out and "hippocampus-mr-lightmedseg: OK" in out

    path.write_bytes(b"x" + published[1:])
    code, out, err = run("weights", "verify", "liver-ct")
    assert code == 1 and "damaged or was replaced" in err
    code, out, _ = run("weights", "remove", "liver-ct")
    assert code == 0 and not path.exists()
    assert run("weights", "list")[1] == "Nothing was downloaded yet.\n"


def test_a_license_that_forbids_commercial_use_is_accepted_once(
    server: Server, card: Card, run: Run, tmp_path: Path
) -> None:
    folder = card.folder
    assert folder is not None
    write_card(
        replace(read_card(folder / "model.json"), non_commercial=True, license="CC-BY-NC"), folder / "model.json"
    )
    code, _, err = run("weights", "download", "liver-ct")
    assert code == 2 and "CC-BY-NC" in err and "--accept-license" in err
    assert not server.asked
    image = tmp_path / "ct.nii.gz"
    sitk.WriteImage(to_sitk(CT.voxels, CT.geometry), str(image))
    words = ("segment", image, "--model", "liver-ct", "--out", tmp_path / "out.nii.gz", "--device", "cpu")
    assert run(*words)[0] == 2
    assert run(*words, "--accept-licence")[0] == 0
    assert run("weights", "remove", "liver-ct")[0] == 0
    assert run("weights", "download", "liver-ct")[0] == 0


def test_an_imported_model_is_removed_and_others_are_not(card: Card, run: Run) -> None:
    assert run("remove", "dataset042_tiny-3d_fullres")[0] == 0
    assert "dataset042" not in run("models")[1]
    code, _, err = run("remove", "hippocampus-mr-lightmedseg")
    assert code == 2 and "was not imported" in err
    code, _, err = run("weights", "remove", "dataset042_tiny-3d_fullres")
    assert code == 2 and "have been downloaded" in err


def test_models_are_found_by_what_they_segment(card: Card, run: Run) -> None:
    """The structure is in the label table alone."""
    code, out, _ = run("models", "tumor", "liver", "--json")
    found = json.loads(out)
    assert code == 0 and "liver-ct" in [model["id"] for model in found]
    assert {"state": "available", "unverified": True}.items() <= {m["id"]: m for m in found}["liver-ct"].items()
    code, _, err = run("models", "no such structure")
    assert code == 2 and "No model fits" in err
    _, out, _ = run("info", "liver-ct")
    assert "Unverified: not known about this model\n  - The spacing is not stated." in out
