"""A CT model and images that are no CT in Hounsfield units, as exports and conversions leave them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_series import noise, slices, write
from LightSegLib.catalog.card import Card, Normalization, Preprocessing
from LightSegLib.evaluation.trial_images import generated_body
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.fit import input_notices
from LightSegLib.inference.options import InferenceOptions
from threshold_models import write_threshold_model

HU = Preprocessing(normalization=(Normalization("ct", -200, 300, 0, 100),))


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return replace(write_threshold_model(tmp_path / "model", ("Liver",), (100,), preprocessing=HU), modality="CT")


@pytest.fixture(scope="module")
def body() -> Volume:
    return generated_body(np.array([150.0, 150.0, 120.0]))


def notices(card: Card, volume: Volume) -> list[str]:
    return [str(notice) for notice in input_notices(card, InferenceOptions(), volume, None)]


def piece(volume: Volume, *box: slice) -> Volume:
    voxels = volume.voxels[box]
    return Volume(voxels, Geometry(voxels.shape, volume.geometry.spacing), "piece")


def test_a_ct_and_pieces_from_within_the_body_are_in_hounsfield_units(card: Card, body: Volume) -> None:
    assert notices(card, body) == []
    k, j, i = (length // 2 for length in body.geometry.shape)
    for low in (k - 4, k, k + 4):
        inside = piece(body, slice(low, low + 8), slice(j - 6, j + 6), slice(i - 6, i + 6))
        assert notices(card, inside) == []
    bone = replace(
        body, voxels=np.random.default_rng(0).integers(-100, 1900, (12, 12, 12)), geometry=Geometry((12,) * 3)
    )
    assert notices(card, bone) == []


def soft_tissue(shape: tuple[int, int, int] = (40, 40, 40)) -> np.ndarray:
    return np.random.default_rng(0).normal(40, 15, shape).round().clip(0, 100).astype(np.int16)


def stripped_head_with_a_calcification() -> np.ndarray:
    voxels = np.zeros((40, 40, 40), np.int16)
    voxels[8:32, 8:32, 8:32] = soft_tissue((24, 24, 24))
    voxels[20:22, 20:22, 20:22] = np.arange(900, 1060, 20).reshape(2, 2, 2)
    return voxels


def soft_tissue_with_cement() -> np.ndarray:
    voxels = soft_tissue()
    voxels[10:22, 12:26, 14:28] = np.random.default_rng(1).normal(1020, 40, (12, 14, 14))  # 4 % of all
    return voxels


def clipped_at_0_and_1000() -> np.ndarray:
    voxels = generated_body(np.array([150.0, 150.0, 120.0])).voxels.copy()
    bone = voxels[:, 25:35, 25:35]
    bone[:] = np.random.default_rng(2).normal(1100, 200, bone.shape)
    return voxels.clip(0, 1000)


def clipped_bone() -> np.ndarray:
    return np.random.default_rng(0).integers(-100, 1900, (12, 12, 12)).clip(max=1000)


@pytest.mark.parametrize(
    "dense", [stripped_head_with_a_calcification, soft_tissue_with_cement, clipped_at_0_and_1000, clipped_bone]
)
def test_what_is_dense_in_hounsfield_units_gets_no_notice(card: Card, dense: Callable[[], np.ndarray]) -> None:
    """To subtract 1024 from it would spoil it."""
    voxels = dense()
    assert notices(card, Volume(voxels, Geometry(voxels.shape))) == []


@pytest.mark.parametrize("clipped", [True, False])
def test_a_ct_whose_values_count_from_its_lowest_gets_a_notice(card: Card, body: Volume, clipped: bool) -> None:
    shifted = body.voxels.astype(int) + 1024
    volume = replace(body, voxels=np.maximum(shifted, 0) if clipped else shifted)
    (notice,) = notices(card, volume)
    assert "not in Hounsfield units" in notice and "subtract 1024" in notice
    j, i = (length // 2 for length in volume.geometry.shape[1:])
    assert len(notices(card, piece(volume, slice(None), slice(j - 4, j + 4), slice(i - 4, i + 4)))) == 1
    by_statistics = replace(card, preprocessing=Preprocessing(normalization=(Normalization("zscore"),)))
    assert notices(by_statistics, volume) == [], "which does not depend on the unit"


@pytest.mark.parametrize("highest", [255, 1.0])
def test_a_ct_that_became_a_picture_gets_a_notice(card: Card, body: Volume, highest: float) -> None:
    shown = np.clip((body.voxels + 160.0) / 400, 0, 1) * highest
    volume = replace(body, voxels=shown.astype(np.uint8 if highest == 255 else np.float32))
    (notice,) = notices(card, volume)
    assert f"has values from 0 to {highest:g}, as a picture has" in notice


def test_a_real_head_that_was_exported_without_its_intercept_gets_a_notice(card: Card, shared_data: Path) -> None:
    (notice,) = notices(card, read_volume(shared_data / "dicom" / "ct_head_small"))
    assert "not in Hounsfield units" in notice
    assert notices(card, read_volume(shared_data / "dicom" / "ct_jpeg2000_no_extension")) == []


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (range(12), "RescaleIntercept is missing in 12 of 12 slices"),
        (range(3, 5), "RescaleIntercept is missing in 2 of 12 slices"),
        ((), ""),
    ],
    ids=["none has one", "two have none", "all have one"],
)
def test_ct_slices_without_rescale_intercept_get_a_notice(
    card: Card, tmp_path: Path, missing: range, words: str
) -> None:
    data_sets = slices(noise() // 2, Modality="CT", RescaleSlope="1", RescaleIntercept="-1024")
    for k in missing:
        del data_sets[k].RescaleIntercept
    found = notices(card, read_volume(write(tmp_path / "series", data_sets)))
    assert [notice.split(" of series")[0] for notice in found] == ([words] if words else [])


def test_slices_that_hold_hounsfield_units_need_no_intercept(card: Card, tmp_path: Path) -> None:
    data_sets = slices(noise() - 1000, Modality="CT")
    assert notices(card, read_volume(write(tmp_path / "series", data_sets))) == []


def test_a_mask_of_two_values_is_looked_at_like_any_image(card: Card) -> None:
    mask = np.zeros((12, 12, 12), bool)
    mask[4:8, 4:8, 4:8] = True
    (notice,) = notices(card, Volume(mask, Geometry(mask.shape)))
    assert "has values from 0 to 1, as a picture has" in notice
