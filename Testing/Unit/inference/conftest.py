"""A model whose labels are known beforehand, through the whole way from volumes to labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from LightSegLib.catalog.card import Inference, Preprocessing
from LightSegLib.catalog.card_file import read_card
from LightSegLib.catalog.lookup import CARD_NAME
from LightSegLib.core.paths import user_models_folder
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from threshold_network import Threshold


@pytest.fixture
def user_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the models of a user who has none yet, nor settings."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    return user_models_folder()


@pytest.fixture
def threshold_segmenter(tiny_model: Path) -> Callable[..., Segmenter]:
    def make(preprocessing: Preprocessing, inference: Inference | None = None) -> Segmenter:
        card = read_card(tiny_model / CARD_NAME)
        card = replace(card, preprocessing=preprocessing, inference=inference or Inference((8, 8, 8)))
        segmenter = Segmenter(card, InferenceOptions(device="cpu", precision="float32"))
        segmenter.use_network(Threshold())
        return segmenter

    return make
