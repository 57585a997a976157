"""What all tests share: the library on the path, a tiny model, generated images and the optional real data."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "LightSeg"))
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # runs beside others: their threads would wait for one another's cores
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# ruff: noqa: E402 (the path must be set first)
from allowed_skips import OnlyAllowedSkips
from LightSegLib.catalog.card import Card, Inference, Label, Normalization, Preprocessing, Weights
from LightSegLib.catalog.card_file import write_card
from LightSegLib.catalog.terminology import Code, Terminology
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.volume import Volume

HIPPOCAMPUS = Terminology(
    Code("SCT", "123037004", "Anatomical Structure"),
    Code("SCT", "5366008", "Hippocampus"),
    Code("SCT", "255549009", "Anterior"),
)
LABELS = (Label(1, "Front", (221, 130, 101), HIPPOCAMPUS), Label(2, "Rück", (10, 200, 255)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-allowed-skips", action="store_true", help="fail where a test is skipped for another reason"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: left out by `make test`; `make test-all` and `.ci/run` run it")
    if config.getoption("--only-allowed-skips"):
        config.pluginmanager.register(OnlyAllowedSkips())


@pytest.fixture(autouse=True, scope="session")
def own_user_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the user's is used or changed, nor by the processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
            patch.setenv(name, str(tmp_path_factory.mktemp("user")))
        yield


@pytest.fixture(autouse=True)
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenVINO is installed, what it finds would be kept in the user's own folder."""
    monkeypatch.setattr("LightSegLib.inference.backends.openvino_runner.installed", lambda: None)


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a model folder: LightMedSeg with seeded random weights, 3 classes, patches of 32 voxels."""

    def make(channels: int = 1) -> Path:
        import torch
        from LightSegLib.core.file_hash import sha256
        from LightSegLib.networks import build
        from LightSegLib.weights.files import save_weights

        folder = tmp_path_factory.mktemp("model")
        arguments = {"in_channels": channels, "classes": 3}
        torch.manual_seed(1)
        weights = folder / "weights.pt"
        save_weights(build("lightmedseg", arguments).state_dict(), weights)
        card = Card(
            id=f"tiny-{channels}",
            title="Tiny",
            version="1",
            description="Random weights for tests.",
            modality="MR",
            channels=tuple(f"channel {n}" for n in range(channels)),
            network="lightmedseg",
            network_arguments=arguments,
            preprocessing=Preprocessing(normalization=(Normalization("zscore"),) * channels),
            inference=Inference((32, 32, 32), mirror_axes=(0, 1, 2)),
            labels=LABELS,
            weights=Weights(weights.name, weights.stat().st_size, sha256(weights)),
            license="CC0-1.0",
            citation="None.",
        )
        write_card(card, folder / "model.json")
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model(make_model: Callable[..., Path]) -> Path:
    """Folder of a one-channel model with random weights."""
    return make_model()


@pytest.fixture
def write_image(tmp_path: Path) -> Callable[..., Path]:
    """Writes an array [k, j, i], noise where none is given, under a name in the test's own folder."""

    def write(name: str = "image.nii.gz", voxels: np.ndarray | None = None, **geometry: object) -> Path:
        import SimpleITK as sitk

        if voxels is None:
            voxels = np.random.default_rng(0).normal(100, 20, (12, 20, 16)).astype(np.float32)
        k, j, i = voxels.shape
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(to_sitk(voxels, Geometry((k, j, i), **geometry)), str(path), True)  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def noise() -> Volume:
    """A small volume of noise on an oblique, anisotropic grid."""
    direction = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    geometry = Geometry((12, 20, 16), (0.5, 1.0, 2.0), (10.0, -20.0, 30.0), direction)
    return Volume(np.random.default_rng(0).normal(100, 20, geometry.shape).astype(np.float32), geometry, "noise")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real volumes beside the checkout; the tests that use them are skipped where there are none."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real volumes are not on this machine ({folder})")
    return folder


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Published weights beside the checkout, as a mirror has them; their tests are skipped where there are none."""
    folder = REPOSITORY.parent / "shared" / "models"
    if not folder.is_dir():
        pytest.skip(f"the published weights are not on this machine ({folder})")
    return folder
