"""Where imported models go, and where they come from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from LightSegLib.core.paths import user_models_folder
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
