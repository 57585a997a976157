"""A server with a store and a card for its file, and the content of nnU-Net's checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkpoint_files import DATASET, PLANS
from http_server import PROXY_VARIABLES, Answer, Server
from LightSegLib.catalog.card import Card, Inference, Label, Preprocessing, Weights
from LightSegLib.weights.store import WeightStore
from stored_weights import CONTENT, QUICK, url_of

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    ours = ("LIGHTSEG_MIRROR", "LIGHTSEG_OFFLINE", "LIGHTSEG_WEIGHTS", "HF_ENDPOINT")
    for name in (*PROXY_VARIABLES, *ours):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):  # the user's own settings must not take part
        monkeypatch.setenv(name, str(tmp_path / "home"))
    with Server() as running:
        running.answers["/file"] = Answer(CONTENT, etag='"1"')
        yield running


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return WeightStore(tmp_path / "Gewichte für alle", patience=QUICK)


@pytest.fixture
def card(server: Server, tmp_path: Path) -> Card:
    """A card that knows nothing of its file but one address."""
    return Card(
        id="tiny", title="Tiny", version="1", description="", modality="MR", channels=("T1",), network="lightmedseg",
        network_arguments={}, preprocessing=Preprocessing(), inference=Inference((32, 32, 32)),
        labels=(Label(1, "a", (1, 2, 3)),), weights=Weights("final.pth", sources=(url_of(server, "/file"),)),
        license="CC0-1.0", citation="", folder=tmp_path / "card",
    )  # fmt: skip


@pytest.fixture
def network() -> nn.Module:
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8), nn.Conv3d(8, 2, 1))


@pytest.fixture
def optimizer_state(network: nn.Module) -> dict[str, Any]:
    """What SGD with momentum remembers after one step: as many numbers as the network has."""
    import torch

    optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99, nesterov=True)
    network(torch.randn(2, 1, 5, 5, 5)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.fixture
def v2(network: nn.Module, optimizer_state: dict[str, Any]) -> dict[str, Any]:
    """The content of nnU-Net v2's checkpoint_final.pth."""
    import torch

    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer_state,
        "grad_scaler_state": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 7},
        "logging": {
            "mean_fg_dice": [np.float64(0.5), np.float64(0.75)],
            "dice_per_class_or_region": [[np.float64(0.5)], [np.float32(0.75)]],
            "lrs": [0.01, 0.009],
        },
        "_best_ema": np.float64(0.625),
        "current_epoch": 2,
        "init_args": {
            "plans": PLANS,
            "configuration": "3d_fullres",
            "fold": "all",
            "dataset_json": DATASET,
            "unpack_dataset": True,
            "device": torch.device("cuda", 0),
        },
        "trainer_name": "nnUNetTrainer_Epoch2000_Lr1e3",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


@pytest.fixture
def v1(network: nn.Module, optimizer_state: dict[str, Any]) -> dict[str, Any]:
    """The content of a `.model` file of nnU-Net v1, as UNETR++ writes it with mixed precision."""
    return {
        "epoch": 1000,
        "state_dict": network.state_dict(),
        "optimizer_state_dict": optimizer_state,
        "lr_scheduler_state_dict": None,
        "plot_stuff": ([np.float32(0.25)], [np.array([0.5, 0.25])], [], [np.mean([0.5, 0.75])]),
        "best_stuff": (np.int64(7), np.float64(-0.5), np.array([True])),
        "amp_grad_scaler": {"scale": 1024.0},
    }
