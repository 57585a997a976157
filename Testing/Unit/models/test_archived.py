"""Weights that their authors publish as a zip or tar.gz: a user downloads or adds it, and a slim copy is what stays."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from http_server import Answer, Server
from imported_models import packed, weights_of
from LightSegLib.catalog.card import Archive, Card, OuterResampling, Preprocessing
from LightSegLib.catalog.lookup import find_card
from LightSegLib.catalog.needed import size_of
from LightSegLib.cli.main import main
from LightSegLib.core.errors import Canceled, DownloadError, InputError, ModelError, OutputError
from LightSegLib.core.paths import user_models_folder, weights_folder
from LightSegLib.core.progress import Reporter
from LightSegLib.models import archived
from LightSegLib.models.archived import add_weights, ensure_weights
from LightSegLib.models.opening import open_model
from LightSegLib.weights.checkpoint import Checkpoint, read_checkpoint
from LightSegLib.weights.lock import locked
from LightSegLib.weights.store import WeightStore
from nnunet_models import DATASET, make_checkpoint, make_plans, write_model

ENDINGS = (".zip", ".tar.gz")


@pytest.fixture(autouse=True)
def nothing_unpacked_is_left(server: Server) -> Iterator[None]:
    """Nothing that was unpacked or half written stays in the folder of weights."""
    yield
    if weights_folder().exists():
        assert [path.name for path in weights_folder().rglob("*") if "lightseg-" in path.name] == []


def stored(card: Card) -> list[str]:
    """Names of the files that the model has on the disk."""
    return sorted(path.name for path in (weights_folder() / card.id).glob("*") if path.name != "record.json")


def assert_uses(path: Path, trained: Path, *folds: int) -> None:
    """The file has the weights of these folds and nothing of the training."""
    checkpoint = read_checkpoint(path)
    for state, fold in zip((checkpoint.state, *checkpoint.other_folds), folds, strict=True):
        theirs = weights_of(trained, fold)
        assert state.keys() == theirs.keys() and all(torch.equal(state[key], theirs[key]) for key in theirs)
    assert "optimizer" not in str(torch.load(path, weights_only=True).keys())


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_download_leaves_a_slim_copy_and_no_archive(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, ending: str
) -> None:
    archive = packed(trained, tmp_path / f"weights{ending}", "Dataset042_Tiny")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    card = publish(archive, sha256=digest)
    steps: list[str] = []
    path = ensure_weights(card, lambda report: steps.append(report.step))
    assert stored(card) == [path.name] and path.name.startswith("slim-")
    assert_uses(path, trained, 0, 1)
    assert [s for s in dict.fromkeys(steps) if s[0] in "DU"] == ["Downloading Liver", "Unpacking Liver"]
    WeightStore().verify(card)
    opened = open_model(card)
    assert len(opened.networks) == 2 and opened.sha256 == digest == WeightStore().sha256(card)
    assert opened.card.preprocessing.spacing == (1.25, 1.5, 3.0) and opened.card.preprocessing.orientation == "RAS"
    assert ensure_weights(find_card("liver-ct")) == path


@pytest.mark.parametrize("ending", ENDINGS)
def test_folds_and_folder_are_chosen_and_nothing_else_is_unpacked(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside another training, and a checkpoint of the chosen fold that is not the final one."""
    both = tmp_path / "both"
    shutil.copytree(trained, both / "Dataset042_Tiny" / trained.name)
    write_model(both, {**make_plans(), "dataset_name": "Dataset043_Other"})
    card = publish(packed(both, tmp_path / f"w{ending}"), Archive(f"Dataset042_Tiny/{trained.name}", ("1",)))
    taken: list[str] = []
    extract = archived.extract

    def watched(path: Path, files: list, *rest: object) -> None:
        taken.extend(file.name for file in files)
        extract(path, files, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(archived, "extract", watched)
    assert_uses(ensure_weights(card), trained, 1)
    inside = f"both/Dataset042_Tiny/{trained.name}"
    assert taken == [f"{inside}/{name}" for name in ("plans.json", "dataset.json", "fold_1/checkpoint_final.pth")]


def test_an_archive_may_have_the_model_at_its_root(publish: Callable[..., Card], trained: Path, tmp_path: Path) -> None:
    archive = tmp_path / "w.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        content.add(trained, ".")
    assert_uses(ensure_weights(publish(archive)), trained, 0, 1)


def test_another_choice_of_the_card_is_not_served_by_the_old_copy(
    publish: Callable[..., Card], trained: Path, server: Server, tmp_path: Path
) -> None:
    archive = packed(trained, tmp_path / "w.zip")
    assert_uses(ensure_weights(publish(archive)), trained, 0, 1)
    card = publish(archive, Archive(folds=("0",)))
    assert WeightStore().state(card) == "available"
    assert_uses(ensure_weights(card), trained, 0)
    assert len(stored(card)) == 1


@pytest.mark.parametrize("first", [0, 1])
def test_an_archive_of_two_models_is_downloaded_once(
    publish: Callable[..., Card], trained: Path, server: Server, tmp_path: Path, first: int
) -> None:
    """The fast one uses a single fold of it; whichever comes first, the other is there, too, and each goes alone."""
    archive = packed(trained, tmp_path / "w.zip")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    normal = publish(archive, sha256=digest)
    fast = publish(archive, Archive(folds=("0",)), model="liver-ct-fast", sha256=digest)
    store, folds = WeightStore(), {normal.id: (0, 1), fast.id: (0,)}
    assert size_of(store.to_download((normal, fast))) == archive.stat().st_size
    for card in (normal, fast) if first == 0 else (fast, normal):
        assert_uses(ensure_weights(card), trained, *folds[card.id])
        assert store.to_download((normal, fast)) == ()
    assert [request.path for request in server.asked].count("/w.zip") == 1
    for card in (normal, fast):
        assert stored(card) == [store.path(card).name] and store.sha256(card) == digest
        store.verify(card)
        record = store.record(card)
        assert record is not None and record.source == f"{server.url}/w.zip"
    store.remove(normal)
    assert store.to_download((normal, fast)) == (normal,)


def test_a_model_of_an_archive_that_does_not_fit_leaves_the_other(
    publish: Callable[..., Card], trained: Path, tmp_path: Path
) -> None:
    archive = packed(trained, tmp_path / "w.zip")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    other = publish(archive, Archive(folds=("4",)), model="liver-ct-other", sha256=digest)
    assert_uses(ensure_weights(publish(archive, sha256=digest)), trained, 0, 1)
    assert WeightStore().state(other) == "available" and stored(other) == []


def test_where_there_is_room_for_one_copy_it_is_of_the_model_that_was_asked_for(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = packed(trained, tmp_path / "w.zip")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    other = publish(archive, Archive(folds=("0",)), model="liver-ct-fast", sha256=digest)
    write, written = archived.write_slim, []

    def fill(checkpoint: Checkpoint, target: Path) -> None:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(checkpoint, target)
        written.append(target)

    monkeypatch.setattr(archived, "write_slim", fill)
    assert_uses(ensure_weights(publish(archive, sha256=digest)), trained, 0, 1)
    assert WeightStore().state(other) == "available" and stored(other) == []


def test_a_model_that_another_lightseg_is_getting_is_left_to_it(
    publish: Callable[..., Card], trained: Path, tmp_path: Path
) -> None:
    """Or has got meanwhile: two that download the same archive neither wait for each other nor copy twice."""
    archive = packed(trained, tmp_path / "w.zip")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    other = publish(archive, Archive(folds=("0",)), model="liver-ct-fast", sha256=digest)
    card, store = publish(archive, sha256=digest), WeightStore()
    weights_folder().mkdir()
    with locked(weights_folder() / "liver-ct-fast.lock", Reporter(), "Liver"):
        assert_uses(ensure_weights(card), trained, 0, 1)
        assert stored(other) == []
    ensure_weights(other)

    def again(*_: object) -> None:
        raise AssertionError("copied twice")

    store.put_from_download(other, card, again, Reporter())


def test_an_interrupted_download_goes_on(
    publish: Callable[..., Card], trained: Path, server: Server, tmp_path: Path
) -> None:
    archive = packed(trained, tmp_path / "w.zip")
    card, whole = publish(archive), archive.read_bytes()
    part = weights_folder() / "liver-ct" / "download.part"
    half = len(whole) // 2
    server.answers["/w.zip"] = [Answer(whole, etag='"1"', stall=half), Answer(whole, etag='"1"')]
    with pytest.raises(Canceled):
        ensure_weights(card, canceled=lambda: part.is_file() and part.stat().st_size > half // 2)
    arrived = part.stat().st_size
    assert_uses(ensure_weights(card), trained, 0, 1)
    assert server.asked[-1].headers["range"] == f"bytes={arrived}-"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Archive("Dataset043_Other"), r"w\.zip has no folder Dataset043_Other, which the card of Liver names, but nnU"),
        (Archive(folds=("0", "7")), r"has no checkpoint of fold 7\. Choose from 0, 1, 2"),
    ],
)
def test_an_archive_without_what_the_card_names_is_refused(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, rule: Archive, words: str
) -> None:
    """It stays, since the card may be what is wrong; how to get rid of it is said."""
    card = publish(packed(trained, tmp_path / "w.zip"), rule)
    with pytest.raises(ModelError, match=words) as refused:
        ensure_weights(card)
    assert "lightseg weights remove liver-ct --forget" in str(refused.value)
    assert stored(card) == ["w.zip"]


def test_two_trainings_without_a_choice_are_listed(publish: Callable[..., Card], trained: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(trained, both / "a" / trained.name)
    shutil.copytree(trained, both / "b" / trained.name)
    names = f"both/a/{trained.name}, both/b/{trained.name}"
    for folder in ("", trained.name):
        with pytest.raises(ModelError, match=rf"has 2 trainings that the card of Liver may mean: {names}\. Name one"):
            ensure_weights(publish(packed(both, tmp_path / "w.zip"), Archive(folder)))
    assert ensure_weights(publish(tmp_path / "w.zip", Archive(f"a/{trained.name}"))).is_file()


def test_an_archive_of_something_else_is_refused(publish: Callable[..., Card], trained: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "plans.json").write_text("{}")
    card = publish(packed(tmp_path / "pictures", tmp_path / "w.zip"))
    with pytest.raises(ModelError, match=r"w\.zip has no folder with plans\.json and dataset\.json"):
        ensure_weights(card)


@pytest.mark.parametrize("ending", ENDINGS)
def test_half_an_archive_is_not_taken_for_the_whole(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, ending: str, server: Server
) -> None:
    """A server may have no more. A zip shows it at once; of a tar.gz it is found when it is unpacked."""
    archive = packed(trained, tmp_path / f"w{ending}")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    card = publish(archive)
    words = "only the beginning of one" if ending == ".zip" else r"w\.tar\.gz is not a valid zip or tar\.gz file"
    with pytest.raises((DownloadError, ModelError), match=words):
        ensure_weights(card)
    assert stored(card) == ([] if ending == ".zip" else ["w.tar.gz"])
    with pytest.raises(InputError, match=words):
        add_weights(card, archive)


def test_another_archive_than_the_published_one_is_refused(
    publish: Callable[..., Card], trained: Path, tmp_path: Path
) -> None:
    card = publish(packed(trained, tmp_path / "w.zip"), sha256="0" * 64)
    with pytest.raises(DownloadError, match="SHA-256"):
        ensure_weights(card)
    with pytest.raises(InputError, match="does not contain the weights of Liver: SHA-256"):
        add_weights(card, tmp_path / "w.zip")
    assert stored(card) == []


def test_without_a_hash_the_first_download_is_the_pin(
    publish: Callable[..., Card], trained: Path, tmp_path: Path
) -> None:
    archive = packed(trained, tmp_path / "w.zip")
    card = publish(archive, size=None)
    ensure_weights(card)
    WeightStore().remove(card)
    with archive.open("ab") as stream:
        stream.write(b"x")
    publish(archive, size=None)
    with pytest.raises(DownloadError, match="differs from the first download"):
        ensure_weights(card)
    with pytest.raises(InputError, match="differs from the first download"):
        add_weights(card, archive)


def test_a_disk_without_room_for_archive_and_copy_is_too_small(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen before the first byte, by the size that the server states; and again by what the archive would unpack to."""
    archive = packed(trained, tmp_path / "w.zip")
    card, size = publish(archive), archive.stat().st_size
    usage, margin = shutil.disk_usage(tmp_path), 64 << 20
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * size + margin - 1))
    with pytest.raises(OutputError, match=rf"too full: {(3 * size + margin) / 1e6:.6f} MB are needed"):
        ensure_weights(card)
    assert stored(card) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * size + margin))
    assert ensure_weights(card).is_file()
    WeightStore().remove(card)

    monkeypatch.setattr("LightSegLib.weights.download.ROOM", 1)
    monkeypatch.setattr("LightSegLib.weights.fetcher.ROOM", 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size + margin))
    with pytest.raises(OutputError, match="too full"):
        ensure_weights(card)
    assert stored(card) == ["w.zip"]  # whole, for when there is room


@pytest.mark.parametrize(
    "step",
    [
        "LightSegLib.models.archived.extract",
        "LightSegLib.models.archived.write_slim",
        "LightSegLib.weights.model_folder.shutil.move",
        "LightSegLib.weights.model_folder.write_record",
        "LightSegLib.weights.model_folder._delete_if_unused",
    ],
)
def test_a_crash_in_between_leaves_the_archive_or_the_model(
    publish: Callable[..., Card], trained: Path, server: Server, tmp_path: Path, step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    card = publish(packed(trained, tmp_path / "w.zip"))
    WeightStore().ensure(card)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step, crash)
        with pytest.raises(KeyboardInterrupt):
            ensure_weights(card)
    assert WeightStore().state(card) == "downloaded"
    server.answers.clear()
    assert_uses(ensure_weights(card), trained, 0, 1)
    WeightStore().verify(card)


def test_a_kept_orientation_overlap_and_the_resampling_around_it_reach_the_network(
    publish: Callable[..., Card], trained: Path, tmp_path: Path
) -> None:
    card = publish(packed(trained, tmp_path / "w.zip"))
    outer = OuterResampling((3.0, 3.0, 3.0), whole_numbers=True)
    inference = replace(card.inference, overlap=0.2)
    kept = replace(
        card,
        kept=("orientation", "overlap", "labels"),
        inference=inference,
        preprocessing=replace(card.preprocessing, outer_resampling=outer),
    )
    opened = open_model(kept).card
    assert (opened.preprocessing.orientation, opened.inference.overlap) == ("RAS", 0.2)
    assert opened.preprocessing.outer_resampling == outer and opened.labels == card.labels


def test_classes_that_do_not_fit_the_card_are_said_before_the_archive_goes(
    publish: Callable[..., Card], trained: Path, tmp_path: Path
) -> None:
    card = publish(packed(trained, tmp_path / "w.zip"))
    kept = replace(card, kept=("labels",), labels=card.labels[:1])
    with pytest.raises(ModelError, match="has 3 classes with the background, but the labels of 'liver-ct' end at 1"):
        ensure_weights(kept)
    assert stored(card) == ["w.zip"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_archive_carried_by_hand_is_added(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, server: Server, ending: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    archive = packed(trained, tmp_path / f"w{ending}")
    card, before = publish(archive), archive.read_bytes()
    assert main(["weights", "add", "liver-ct", str(archive)]) == 0
    (name,) = stored(card)
    assert capfd.readouterr().out == f"liver-ct: {weights_folder() / 'liver-ct' / name}\n"
    assert archive.read_bytes() == before and server.asked == []
    assert open_model(card).sha256 == hashlib.sha256(before).hexdigest()


@pytest.mark.parametrize("above", [0, 1, 2])
def test_an_unpacked_archive_is_added(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, server: Server, above: int
) -> None:
    """Whose authors' archive was never here: nothing is claimed of its hash, but that of the copy."""
    card = publish(packed(trained, tmp_path / "w.zip"), Archive(f"Dataset042_Tiny/{trained.name}"), sha256="0" * 64)
    path = add_weights(card, (trained, *trained.parents)[above])
    assert_uses(path, trained, 0, 1)
    assert server.asked == [] and WeightStore().state(card) == "downloaded"
    assert open_model(card).sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == WeightStore().sha256(card)
    record = json.loads((path.parent / "record.json").read_text(encoding="utf-8"))
    assert record["original"] == {"size": None, "sha256": None, "git_blob": None}
    with pytest.raises(InputError, match=r"has no folder with plans\.json"):
        add_weights(card, trained / "fold_0")


def test_an_added_folder_does_not_serve_a_newer_card_with_another_hash(
    publish: Callable[..., Card], trained: Path, tmp_path: Path
) -> None:
    """It cannot be told from the older archive, but where a hash was compared that is enough."""
    archive = packed(trained, tmp_path / "w.zip")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    card = publish(archive, sha256=digest)
    newer = replace(card, version="another", weights=replace(card.weights, sha256="1" * 64))
    add_weights(card, trained)
    assert [WeightStore().state(one) for one in (card, newer)] == ["downloaded", "available"]
    add_weights(card, archive)
    assert WeightStore().state(replace(card, version="another")) == "downloaded"
    assert WeightStore().state(newer) == "available"


def test_what_does_not_fit_takes_nothing_away(publish: Callable[..., Card], trained: Path, tmp_path: Path) -> None:
    card = publish(packed(trained, tmp_path / "w.zip"), size=None)
    path = add_weights(card, trained)
    other = write_model(tmp_path / "other", dataset={**DATASET, "channel_names": {"0": "T1"}})
    for file in (other, packed(other, tmp_path / "other.zip")):
        with pytest.raises(ModelError, match="was trained on MR"):
            add_weights(card, file)
    assert ensure_weights(card) == path


def test_where_pytorch_is_not_there_yet_the_archive_waits_for_the_first_use(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = publish(packed(trained, tmp_path / "w.zip"))
    with monkeypatch.context() as patch:
        patch.setattr(archived, "has_torch", lambda: False)
        assert ensure_weights(card).name == "w.zip"
        WeightStore().remove(card)
        assert add_weights(card, tmp_path / "w.zip").name == "w.zip"
    assert len(open_model(card).networks) == 2
    assert [name[:5] for name in stored(card)] == ["model", "slim-"]


def test_an_archive_put_into_its_place_by_hand_is_taken(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, server: Server
) -> None:
    card = publish(packed(trained, tmp_path / "w.zip"))
    (weights_folder() / "liver-ct").mkdir(parents=True)
    shutil.copy(tmp_path / "w.zip", weights_folder() / "liver-ct")
    assert_uses(ensure_weights(card), trained, 0, 1)
    assert server.asked == []


def test_an_archive_beside_its_card_is_not_weights(publish: Callable[..., Card], trained: Path, tmp_path: Path) -> None:
    card = publish(packed(trained, tmp_path / "w.zip"))
    shutil.copy(tmp_path / "w.zip", user_models_folder() / "liver-ct")
    with pytest.raises(ModelError, match=r"Move it elsewhere and add it with .*'lightseg weights add liver-ct FILE'"):
        open_model(card)


def test_the_command_line_says_what_is_downloaded_and_how_it_is_checked(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    archive = packed(trained, tmp_path / "w.zip")
    publish(archive, Archive(trained.name, ("0",)))
    size = archive.stat().st_size
    megabytes, needed = f"{size / 1e6:.2f} MB", f"{3 * size / 1e6:.2f} MB"
    assert main(["info", "liver-ct"]) == 0
    out = " ".join(capfd.readouterr().out.split())
    assert f"w.zip, {megabytes}, size only, until the first download" in out
    assert f"fold 0 of {trained.name}, {megabytes} to download; {needed} of the disk until it is unpacked" in out
    assert main(["models", "--json"]) == 0
    checked_by = {model["id"]: model["checked_by"] for model in json.loads(capfd.readouterr().out)}
    assert checked_by["liver-ct"] == "size" and checked_by["hippocampus-mr-lightmedseg"] == "sha256"
    assert main(["weights", "download", "liver-ct"]) == 0
    first, second = capfd.readouterr().out.splitlines()
    assert needed in first and second.startswith("liver-ct: /")


def test_the_same_answer_as_from_the_results_folder(
    publish: Callable[..., Card], trained: Path, tmp_path: Path
) -> None:
    from LightSegLib.imaging.geometry import Geometry
    from LightSegLib.imaging.volume import Volume
    from LightSegLib.inference.options import InferenceOptions
    from LightSegLib.inference.segmenter import Segmenter
    from LightSegLib.models.importing import import_model

    voxels = np.random.default_rng(0).normal(0, 300, (10, 24, 20)).astype(np.float32)
    volume, options = Volume(voxels, Geometry((10, 24, 20)), "CT"), InferenceOptions(device="cpu", precision="float32")
    card = replace(publish(packed(trained, tmp_path / "w.zip")), preprocessing=Preprocessing("input"))
    ours = Segmenter(card, options).segment([volume])
    theirs = Segmenter(import_model(trained), options).segment([volume])
    np.testing.assert_array_equal(ours.voxels, theirs.voxels)
    assert set(np.unique(ours.voxels)) > {0}


def test_a_checkpoint_is_not_an_archive(publish: Callable[..., Card], tmp_path: Path) -> None:
    torch.save(make_checkpoint(make_plans()), tmp_path / "w.zip")  # a zip file of torch's
    with pytest.raises(ModelError, match=r"has no folder with plans\.json"):
        ensure_weights(publish(tmp_path / "w.zip"))
