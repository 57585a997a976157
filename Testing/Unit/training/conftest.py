"""A training set for the tests of training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from training_sets import ball, write


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
