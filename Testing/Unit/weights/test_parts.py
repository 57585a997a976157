"""Models that are published as several files: fetched one by one, kept as one archive, all of them or none."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from http_server import Answer, Server
from LightSegLib.catalog.card import Card
from LightSegLib.core.errors import DownloadError, InputError, ModelError
from LightSegLib.models.opening import open_model
from LightSegLib.weights.bundle import is_bundle
from LightSegLib.weights.checkpoint import read_checkpoint
from LightSegLib.weights.store import WeightStore
from LightSegLib.weights.tensorflow_js import read_tensorflow_js
from meshnet_files import write_meshnet
from stored_weights import everything_in, in_parts, url_of


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder with the three files of a MeshNet."""
    folder = tmp_path / "mirror" / "tiny"
    folder.mkdir(parents=True)
    write_meshnet(folder)
    return folder


@pytest.fixture
def model(card: Card, server: Server, published: Path, tmp_path: Path) -> Card:
    """A card that names these files on the server."""
    files = sorted(published.iterdir())
    server.answers |= {f"/{path.name}": Answer(path.read_bytes()) for path in files}
    weights = in_parts(files, "tiny.zip", lambda path: (url_of(server, f"/{path.name}"),))
    _, arguments = read_tensorflow_js(published / "model.json")
    return replace(card, network="meshnet", network_arguments=arguments, weights=weights)


def test_the_files_are_fetched_and_become_one(store: WeightStore, model: Card, server: Server) -> None:
    assert store.state(model) == "available"
    path = store.ensure(model)
    assert is_bundle(path) and sorted(everything_in(path.parent)) == ["record.json", "tiny.zip"]
    assert store.state(model) == "downloaded"
    store.verify(model)
    server.answers.clear()
    assert store.ensure(model) == path
    assert store.remove(model) == model.weights.size and not path.exists()


def test_an_interrupted_download_keeps_the_files_that_are_whole(
    store: WeightStore, model: Card, server: Server
) -> None:
    last = f"/{model.weights.parts[-1].file}"
    whole = server.answers[last]
    server.answers[last] = Answer(status=404)
    with pytest.raises(DownloadError, match="could not be downloaded"):
        store.ensure(model)
    assert store.state(model) == "available"
    server.answers[last], server.asked[:] = whole, []
    store.ensure(model)
    assert [asked.path for asked in server.asked] == [last]


def test_another_file_under_the_name_of_a_part_is_refused(store: WeightStore, model: Card, server: Server) -> None:
    name = model.weights.parts[0].file
    server.answers[f"/{name}"] = Answer(b"x" * model.weights.parts[0].size)
    with pytest.raises(DownloadError, match="SHA-256"):
        store.ensure(model)
    assert store.state(model) == "available"


def test_a_mirror_may_be_a_folder(
    store: WeightStore, model: Card, server: Server, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers.clear()
    monkeypatch.setenv("LIGHTSEG_MIRROR", str(published.parent))
    before = everything_in(published)
    assert is_bundle(store.ensure(model)) and server.asked == [] and everything_in(published) == before


def test_a_damaged_file_of_a_mirror_gives_way_to_the_source(
    store: WeightStore, model: Card, server: Server, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTSEG_MIRROR", str(published.parent))
    (published / "model.json").write_bytes(b"x")
    store.ensure(model)
    assert [asked.path for asked in server.asked] == ["/model.json"]


def test_a_folder_that_was_fetched_by_hand_is_taken(store: WeightStore, model: Card, published: Path) -> None:
    assert is_bundle(store.add_file(model, published))
    assert store.state(model) == "downloaded"


def test_one_of_the_files_alone_is_refused_with_what_is_needed(
    store: WeightStore, model: Card, published: Path
) -> None:
    with pytest.raises(
        InputError, match=r"model\.json is only one of the files of Tiny\. Choose the folder .* all"
    ) as caught:
        store.add_file(model, published / "model.json")
    assert all(path.name in str(caught.value) for path in published.iterdir())
    assert store.state(model) == "available"
    carried = store.ensure(model).rename(published / "tiny.zip")  # from the store of another computer
    assert is_bundle(store.add_file(model, carried))


def test_a_folder_without_one_of_the_files_is_refused(store: WeightStore, model: Card, published: Path) -> None:
    (published / "group1-shard2of2.bin").unlink()
    with pytest.raises(InputError, match=r"group1-shard2of2\.bin is missing"):
        store.add_file(model, published)
    assert store.state(model) == "available"


def test_the_model_opens_and_a_slim_copy_opens_again(
    model: Card, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))
    first = open_model(model)
    assert [path.suffix for path in (tmp_path / "weights" / "tiny").glob("slim-*")] == [".pt"]
    again = open_model(model)
    volume = torch.rand(1, 1, 6, 6, 6)
    assert torch.equal(first.networks[0](volume), again.networks[0](volume))
    assert first.sha256 == again.sha256 == model.weights.sha256


def test_a_card_that_speaks_of_another_network_is_refused(
    model: Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))
    other = replace(model, network_arguments=model.network_arguments | {"dilations": [1, 1, 1]})
    with pytest.raises(ModelError, match="a different network than the card"):
        open_model(other)


@pytest.mark.parametrize("name", ["../evil.pt", "C:evil.pt"])
def test_an_archive_that_reaches_out_of_its_folder_is_not_a_weights_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(ModelError):
        read_checkpoint(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.zip"]


def test_an_archive_that_unpacks_to_more_than_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", b"0" * 10_000_000)
    with pytest.raises(ModelError, match="compressed"):
        read_checkpoint(path)
