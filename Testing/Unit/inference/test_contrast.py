"""A model of T1-weighted heads that gets a head of another contrast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog.card import Label, RegionFrom
from LightSegLib.catalog.card_file import read_card, write_card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.inference.contrast import LEAST_VOXELS, other_contrast
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from threshold_models import write_threshold_model

T1, T2, FLAIR = (300, 200, 100), (100, 200, 300), (200, 300, 100)  # white matter, cortex, ventricle
NAMES = {"white": "cerebral white matter", "cortex": "cerebral cortex", "ventricle": "lateral ventricle"}
BRAIN = "brain-mr-atlas-unet"
SHAPE = (16, 24, 24)


def terms(name: str, value: int) -> Label:
    """A label of the brain model with a value of its own."""
    return replace(next(one for one in find_card(BRAIN).labels if one.name == f"Left {name}"), value=value)


def head(white: float, cortex: float, ventricle: float) -> Volume:
    """Layers of cortex, white matter and a ventricle, with noise, in air."""
    voxels = np.zeros(SHAPE, np.float32)
    for border, value in ((2, cortex), (4, white), (6, ventricle)):
        voxels[border:-border, border:-border, border:-border] = value
    noise = np.random.default_rng(0).normal(0, 5, SHAPE)
    return Volume(np.where(voxels > 0, voxels + noise, 0).astype(np.float32), Geometry(SHAPE, (2.0,) * 3), "head")


def labels() -> Segmentation:
    """Where the layers of such a head are."""
    voxels = np.zeros(SHAPE, np.uint8)
    for value, border in ((1, 2), (2, 4), (3, 6)):
        voxels[border:-border, border:-border, border:-border] = value
    named = tuple(terms(NAMES[name], value) for value, name in enumerate(("cortex", "white", "ventricle"), start=1))
    return Segmentation(voxels, Geometry(SHAPE, (2.0,) * 3), named, {})


@pytest.mark.parametrize("intensities", [T1, (210, 200, 100)])  # the second: with little contrast
def test_a_t1_weighted_head_is_accepted(intensities: tuple[float, float, float]) -> None:
    assert not other_contrast(find_card("hippodeep"), head(*intensities), labels())


@pytest.mark.parametrize("intensities", [T2, FLAIR, (300, 100, 200)])
def test_the_order_of_the_tissues_shows_another_contrast(intensities: tuple[float, float, float]) -> None:
    volume, where = head(*intensities), labels()
    (notice,) = other_contrast(replace(find_card("hippodeep"), title="T1 model"), volume, where)
    assert notice.startswith("head does not look T1-weighted, but 'T1 model' was made for T1-weighted images")
    cortex, white, ventricle = (f"{np.median(volume.voxels[where.voxels == value]):.4g}" for value in (1, 2, 3))
    assert f"median intensities are {white}, {cortex} and {ventricle}." in notice


def test_models_of_any_contrast_and_of_several_channels_take_what_comes() -> None:
    assert not other_contrast(find_card(BRAIN), head(*T2), labels())
    assert not other_contrast(find_card("brain-tumor-mr-unetrpp"), head(*T2), labels())


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_nothing_is_stated_of_a_part_that_shows_too_little_of_a_tissue(missing: int) -> None:
    part = labels()
    where = np.flatnonzero(part.voxels == missing)
    part.voxels.flat[where[LEAST_VOXELS - 1 :]] = 0
    assert not other_contrast(find_card("hippodeep"), head(*T2), part)


def write_t2_model(folder: Path, channel: str, **fields: object) -> None:
    """A model that finds the tissues of a T2-weighted head by their intensities."""
    names = ("white", "cortex", "ventricle")
    card = write_threshold_model(folder, names, [50, 150, 250], **fields)
    named = tuple(terms(NAMES[name], value) for value, name in enumerate(names, start=1))
    write_card(replace(card, labels=named, channels=(channel,)), folder / "model.json")


def test_a_model_finds_by_its_own_labels_that_the_image_is_not_t1_weighted(tmp_path: Path) -> None:
    write_t2_model(tmp_path / "tissues", "T1w")
    result = Segmenter(read_card(tmp_path / "tissues" / "model.json"), InferenceOptions(device="cpu")).segment(
        [head(*T2)]
    )
    assert sum("head does not look T1-weighted" in notice for notice in result.provenance["notices"]) == 1


def test_a_model_of_a_region_learns_it_from_the_model_that_finds_its_place(user_models: Path) -> None:
    write_t2_model(user_models / "tissues", "Any contrast")
    rule = RegionFrom("tissues", (3,), 4.0)
    card = write_threshold_model(user_models / "core", ["core"], [250], roi_mm=(8.0,) * 3, region_from=rule)
    write_card(replace(card, channels=("T1",)), user_models / "core" / "model.json")
    segmenter = Segmenter(find_card("core"), InferenceOptions(device="cpu"))
    notices = segmenter.segment([head(*T2)]).provenance["notices"]
    assert sum("head does not look T1-weighted, but 'Core' was made" in notice for notice in notices) == 1
