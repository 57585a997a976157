"""Where imported models go, and where they and those of the catalog come from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import PROXY_VARIABLES, Answer, Server
from LightSegLib.catalog.card import Archive, Card, Normalization, Preprocessing, Source, Weights
from LightSegLib.catalog.card_file import write_card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.paths import user_models_folder
from LightSegLib.nnunet.description import describe
from LightSegLib.weights.checkpoint import read_checkpoint
from nnunet_models import write_model


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's model folder, not yet there, and a temporary folder of its own that must be empty afterwards."""
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "Modèles à moi"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    return user_models_folder()


@pytest.fixture
def nothing_left_over(models: Path, tmp_path: Path) -> Iterator[None]:
    """No test leaves a temporary folder behind, be it a success or an error."""
    yield
    left = [path.name for path in (tmp_path / "temp").iterdir()]
    assert [name for name in left if not name.startswith("torchinductor")] == []  # torch's own cache
    if models.exists():
        assert [entry.name for entry in models.iterdir() if entry.name.startswith(".")] == []


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An nnU-Net results folder, not to be changed."""
    return write_model(tmp_path_factory.mktemp("nnUNet_results"))


@pytest.fixture
def results(original: Path, tmp_path: Path) -> Path:
    """An nnU-Net results folder."""
    return Path(shutil.copytree(original.parent, tmp_path / "Ergebnisse ü" / original.parent.name) / original.name)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of two folds, and one whose training was not finished."""
    folder = write_model(tmp_path_factory.mktemp("results"), folds=(0, 1))
    shutil.copytree(folder / "fold_1", folder / "fold_2")
    (folder / "fold_2" / "checkpoint_final.pth").rename(folder / "fold_2" / "checkpoint_best.pth")
    shutil.copy(folder / "fold_0" / "checkpoint_final.pth", folder / "fold_0" / "checkpoint_best.pth")
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    for name in (*PROXY_VARIABLES, "LIGHTSEG_MIRROR", "LIGHTSEG_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))
    with Server() as running:
        yield running


@pytest.fixture
def publish(server: Server, trained: Path) -> Callable[..., Card]:
    """Puts an archive on the server; returns the card of a model in it that leaves the rest to its weights."""

    def card_of(archive: Path, rule: Archive | None = None, model: str = "liver-ct", **weights: object) -> Card:
        server.answers[f"/{archive.name}"] = Answer(archive.read_bytes(), etag='"1"')
        described = describe(read_checkpoint(trained / "fold_0" / "checkpoint_final.pth"))
        known = {"size": archive.stat().st_size, "sources": (Source("url", url=f"{server.url}/{archive.name}"),)}
        card = replace(
            described,
            id=model,
            title="Liver",
            network_arguments={},
            preprocessing=Preprocessing("RAS", normalization=(Normalization("unknown"),)),
            weights=Weights(archive.name, **known | {"archive": rule or Archive()} | weights),  # type: ignore[arg-type]
            metadata_in_weights=True,
        )
        folder = user_models_folder() / card.id
        folder.mkdir(parents=True, exist_ok=True)
        write_card(card, folder / "model.json")
        return find_card(card.id)

    return card_of
