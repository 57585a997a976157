"""The box around another model's labels, where that model takes the whole image: TotalSegmentator's crop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from LightSegLib.catalog.card import OuterResampling, Preprocessing, RegionFrom, Source, Weights
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import DownloadError, ModelError
from LightSegLib.core.progress import Progress
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from threshold_models import UNCHANGED, write_threshold_model

OUTER = Preprocessing(normalization=(UNCHANGED,), outer_resampling=OuterResampling((3.0, 3.0, 3.0)))
TURNED = (0.0, -1.0, 0.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0)  # neither axis runs as the model has it
CORE = (slice(10, 16), slice(12, 18), slice(9, 15))  # k, j, i of the file


@pytest.fixture
def models(user_models: Path) -> Path:
    """The user's models: one that finds a bright core on 3 mm, and one that labels all light around it."""
    write_threshold_model(user_models / "core", ["Core"], [200], preprocessing=OUTER)
    write_threshold_model(user_models / "light", ["Light"], [100], region_from=RegionFrom("core", (1,), 5.0))
    return user_models


def lit(spacing: tuple[float, float, float], direction: tuple[float, ...] = TURNED) -> Volume:
    """A core in a room where everything is light."""
    voxels = np.full((26, 30, 24), 150.25, np.float32)
    voxels[CORE] = 300
    return Volume(voxels, Geometry((26, 30, 24), spacing, (7.0, -3.0, 11.0), direction), "room")


def run(model: str, volume: Volume, **given: Any) -> Segmentation:
    return Segmenter(find_card(model), InferenceOptions("cpu", "float32")).segment([volume], **given)


def found_by(model: str, volume: Volume) -> np.ndarray:
    return run(model, volume).voxels > 0


@pytest.mark.parametrize("spacing", [(0.8, 0.9, 1.7), (1.25, 2.5, 0.7)])
def test_the_margin_is_rounded_down_to_voxels_along_the_axes_of_the_file(
    models: Path, spacing: tuple[float, float, float]
) -> None:
    """All that is light in the box gets a label, so the result is the box itself."""
    volume = lit(spacing)
    core = np.argwhere(found_by("core", volume))
    wide = [int(5.0 / mm) for mm in spacing[::-1]]
    low = np.maximum(core.min(0) - wide, 0)
    high = np.minimum(core.max(0) + 1 + wide, volume.voxels.shape)
    box = np.zeros(volume.voxels.shape, bool)
    box[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    np.testing.assert_array_equal(found_by("light", volume), box)
    assert not box.all()


def test_a_size_that_float32_rounds_up_counts_as_the_file_has_it(models: Path) -> None:
    """20 mm are 24 voxels of 0.8 mm, not 25, for TotalSegmentator reads 0.8 as 0.800000012."""
    rule = RegionFrom("core", (1,), 20.0)
    write_threshold_model(models / "wide", ["Light"], [100], region_from=rule)
    voxels = np.full((80, 12, 12), 150, np.float32)
    voxels[38:44, 3:9, 3:9] = 300
    volume = Volume(voxels, Geometry(voxels.shape, (0.8, 0.8, 0.8)), "column")
    core = np.flatnonzero(found_by("core", volume).any((1, 2)))
    rows = np.flatnonzero(found_by("wide", volume).any((1, 2)))
    assert (rows[0], rows[-1]) == (core[0] - 24, core[-1] + 24)


def test_the_image_in_the_box_is_cut_to_whole_numbers_where_the_card_says_so(models: Path) -> None:
    """150.25 is above 150.1 until its fraction is cut."""
    rule = RegionFrom("core", (1,), 5.0)
    write_threshold_model(models / "as-is", ["Light"], [150.1], region_from=rule)
    write_threshold_model(models / "whole", ["Light"], [150.1], region_from=replace(rule, whole_numbers=True))
    volume = lit((1.0, 1.0, 1.0))
    before = volume.voxels.copy()
    as_is, whole = found_by("as-is", volume), found_by("whole", volume)
    core = np.zeros(as_is.shape, bool)
    core[CORE] = True
    assert np.count_nonzero(as_is) > np.count_nonzero(core)
    np.testing.assert_array_equal(whole, core)
    np.testing.assert_array_equal(volume.voxels, before)


def test_an_image_of_small_numbers_keeps_its_fractions_with_a_notice(models: Path) -> None:
    write_threshold_model(models / "small-core", ["Core"], [0.8], preprocessing=OUTER)
    rule = RegionFrom("small-core", (1,), 5.0, whole_numbers=True)
    write_threshold_model(models / "small", ["Light"], [0.4], region_from=rule)
    volume = lit((1.0, 1.0, 1.0))
    result = run("small", replace(volume, voxels=volume.voxels / 300))
    assert result.voxels.any() and "the fractions were kept" in result.provenance["notices"][0]


def test_an_empty_crop_is_an_empty_result_with_a_sentence(models: Path) -> None:
    volume = lit((1.0, 1.0, 1.0))
    volume.voxels[CORE] = 150
    volume.voxels[0] = 0
    result = run("light", volume)
    assert not result.voxels.any() and result.geometry == volume.geometry
    assert result.provenance["notices"][0] == "Core found no Core, so there is no result for it."


def test_a_finder_may_be_placed_by_another_one(models: Path) -> None:
    """Teeth are looked for around the jaw, which is looked for around the skull."""
    write_threshold_model(models / "inner", ["Inner"], [100], region_from=RegionFrom("light", (1,), 2.0))
    volume, steps = lit((1.0, 1.0, 1.0)), list[Progress]()
    result = run("inner", volume, progress=steps.append)
    light = np.argwhere(found_by("light", volume))
    box = np.zeros(volume.voxels.shape, bool)
    box[tuple(slice(max(0, a - 2), b + 3) for a, b in zip(light.min(0), light.max(0), strict=True))] = True
    np.testing.assert_array_equal(result.voxels > 0, box)
    shares = [step.tile / step.tiles for step in steps if step.tiles]
    assert shares == sorted(shares) and shares[-1] == 1
    assert any(step.step.startswith("Finding the place: Finding the place:") for step in steps)


def test_finders_in_a_circle_are_refused(models: Path) -> None:
    write_threshold_model(models / "hen", ["Hen"], [100], region_from=RegionFrom("egg", (1,), 2.0))
    write_threshold_model(models / "egg", ["Egg"], [100], region_from=RegionFrom("hen", (1,), 2.0))
    with pytest.raises(ModelError, match=r"circle: 'hen' needs 'egg' needs 'hen'\. Correct parts"):
        run("hen", lit((1.0, 1.0, 1.0)))


def test_a_finder_that_is_missing_offline_is_named_with_how_to_get_it(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Weights("far.pt", 100, "0f" * 32, sources=(Source("url", url="https://example.org/far.pt"),))
    write_threshold_model(models / "far-core", ["Core"], [200], preprocessing=OUTER, weights=weights)
    write_threshold_model(models / "lost", ["Light"], [100], region_from=RegionFrom("far-core", (1,), 5.0))
    monkeypatch.setenv("LIGHTSEG_OFFLINE", "1")
    with pytest.raises(
        DownloadError, match=r"'Lost' finds its place with the model 'Far-core'.*weights add far-core FILE"
    ):
        run("lost", lit((1.0, 1.0, 1.0)))
