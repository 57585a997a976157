"""The preview of a training: voxels as squares, labels in their colors over them, the contrast named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from LightSegLib.catalog.anatomy import look_up
from LightSegLib.core.errors import OutputError
from LightSegLib.training.synthesis import settings as brain
from LightSegLib.training.synthesis.generator import Sample
from LightSegLib.training.synthesis.preview import GAP, draw_preview

SETTINGS = brain.read_settings(Path(brain.__file__).with_name("brain.json"))


def make_sample(kind: str) -> Sample:
    """Half gray; the first structure fills the front left half of the subject: low rows and high columns."""
    classes = torch.zeros(60, 40, 80, dtype=torch.uint8)  # [k, j, i], i to the left and j to the back
    classes[:, :20, 40:] = 1
    return Sample(torch.full(classes.shape, 0.5), classes, kind, "phantom")


def test_labels_are_over_the_image_where_they_are(tmp_path: Path) -> None:
    draw_preview([make_sample("T1"), make_sample("Rück 肝臓")], SETTINGS, tmp_path / "preview.png")
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "preview.png"))).astype(int)
    # The longest side, 80 voxels, takes 240 pixels: three of each voxel. Six tiles are in each of two rows.
    assert picture.shape == (2 * 3 * 60 + GAP, 3 * (80 + 80 + 80 + 80 + 40 + 40) + 5 * GAP, 3)
    color = np.array(look_up(SETTINGS.structures[0].name, 1)[1])
    top = 3 * (60 - 40) // 2  # of the axial slice, which is lower than the others
    plain, painted = (picture[top : top + 120, left : left + 240] for left in (0, 240 + GAP))
    assert plain[60, 200] == pytest.approx([127] * 3, abs=1)
    assert painted[30, 180] == pytest.approx(0.4 * 127 + 0.6 * color, abs=1.5)
    for elsewhere in (painted[30, 60], painted[90, 180], painted[90, 60]):
        assert elsewhere == pytest.approx([127] * 3, abs=1)
    assert picture[:top, :240].max() > 200  # the name of the contrast


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        draw_preview([make_sample("T1")], SETTINGS, tmp_path / "nowhere" / "preview.png")
