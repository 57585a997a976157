"""The bundled sample: small, at its position in MNI space, with boxes that hold the hippocampi, and with its notice."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.volume import Volume

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = REPOSITORY / "LightSeg" / "Resources" / "SampleData"
IMAGE = FOLDER / "icbm152_t1_1mm.nii.gz"

# Center of each hippocampus in the AAL atlas (Tzourio-Mazoyer et al. 2002), MNI space, RAS mm.
AAL_CENTER = {"left": (-25.0, -20.7, -10.1), "right": (29.2, -19.8, -10.3)}


@pytest.fixture(scope="module")
def sample() -> Volume:
    return read_volume(IMAGE)


@pytest.fixture(scope="module")
def boxes() -> dict[str, np.ndarray]:
    """Corners [2, 3] in RAS mm, lower one first, by side."""
    rois = json.loads((FOLDER / "icbm152_rois.json").read_text(encoding="utf-8"))["rois"]
    return {roi["side"]: np.array(roi["corners"]) for roi in rois}


def test_the_sample_is_small_and_has_a_grid_of_1_mm(sample: Volume) -> None:
    assert IMAGE.stat().st_size < 2_500_000
    assert sample.geometry.spacing == (1, 1, 1)
    assert sample.voxels.dtype == np.uint8
    assert sample.voxels.max() == 255


def test_the_template_is_symmetric_about_the_midline(sample: Volume) -> None:
    image = sitk.ReadImage(str(IMAGE))
    ends = [image.TransformIndexToPhysicalPoint((i, 0, 0))[0] for i in (0, image.GetSize()[0] - 1)]
    assert sum(ends) == 0  # the first and the last column are equally far from the midplane
    assert np.array_equal(sample.voxels, sample.voxels[:, :, ::-1])


@pytest.mark.parametrize(
    ("ras", "low", "high"),
    [
        ((0, 26, 6), 200, 255),  # genu of the corpus callosum: white matter
        ((0, -30, -30), 190, 255),  # pons and midbrain: white matter
        ((26, -44, 10), 0, 120),  # trigonum of the lateral ventricle: fluid
        ((30, -20, -20), 140, 175),  # hippocampus: gray matter
        ((0, -100, 60), 0, 0),  # behind and above the brain: nothing
    ],
    ids=["corpus callosum", "brain stem", "ventricle", "hippocampus", "outside"],
)
def test_landmarks_of_mni_space_have_the_tissue_they_should(
    ras: tuple[float, float, float], low: int, high: int
) -> None:
    image = sitk.ReadImage(str(IMAGE))
    value = image.GetPixel(image.TransformPhysicalPointToIndex((-ras[0], -ras[1], ras[2])))
    assert low <= value <= high


def test_the_boxes_are_on_their_sides_and_mirror_images(boxes: dict[str, np.ndarray]) -> None:
    assert set(boxes) == {"left", "right"}
    assert boxes["left"][:, 0].max() < 0 < boxes["right"][:, 0].min()
    assert np.array_equal(boxes["left"][::-1, 0], -boxes["right"][:, 0])
    assert np.array_equal(boxes["left"][:, 1:], boxes["right"][:, 1:])


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_box_is_in_the_image_around_the_hippocampus(side: str, boxes: dict[str, np.ndarray]) -> None:
    image = sitk.ReadImage(str(IMAGE))
    for corner in boxes[side]:
        index = image.TransformPhysicalPointToContinuousIndex((corner * [-1, -1, 1]).tolist())
        assert all(-0.5 <= at <= size - 0.5 for at, size in zip(index, image.GetSize(), strict=True))
    assert boxes[side].mean(axis=0) == pytest.approx(AAL_CENTER[side], abs=6)
    extent = boxes[side][1] - boxes[side][0]
    # Crops of the training set have 31-43 x 40-59 x 24-45 mm.
    assert ((extent >= [31, 40, 24]) & (extent <= [43, 59, 45])).all()


def test_the_script_makes_these_boxes() -> None:
    spec = importlib.util.spec_from_file_location("make_sample", REPOSITORY / "Resources" / "make_sample.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.boxes() == json.loads((FOLDER / "icbm152_rois.json").read_text(encoding="utf-8"))


def test_the_notice_that_the_license_asks_for_is_there() -> None:
    notice = " ".join((FOLDER / "NOTICE.txt").read_text(encoding="utf-8").split())
    assert "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre" in notice
    assert "provided that the above copyright notice appear in all copies" in notice
