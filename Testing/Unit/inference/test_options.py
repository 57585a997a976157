"""One object holds the options of a run: validated, carried between processes, and the same from every entry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from LightSegLib.batch.settings import Settings
from LightSegLib.catalog.card import Inference, Preprocessing
from LightSegLib.catalog.lookup import find_card
from LightSegLib.cli.arguments import build_parser, joined, options_of
from LightSegLib.core.errors import InputError
from LightSegLib.core.progress import Progress
from LightSegLib.evaluation.reproduction import SETTINGS
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.provenance import settings_facts
from LightSegLib.inference.segmenter import Segmenter


class EveryCommand(dict):
    """Jobs of all commands, which these tests do not run."""

    def __missing__(self, name: str) -> Callable[[object], None]:
        return lambda _: None


def parsed(*flags: str) -> InferenceOptions:
    line = joined(["segment", *flags, "brain.nii", "--model", "a", "--out", "b.nrrd"])
    return options_of(build_parser(EveryCommand()).parse_args(line))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"device": "abacus"}, "device cannot be 'abacus'. Choose one of: auto, cpu"),
        ({"device": 0}, "device cannot be 0"),
        ({"precision": "int4"}, "precision cannot be 'int4'. Choose one of: auto, float32"),
        ({"largest_component": "every"}, "largest component cannot be 'every'"),
        ({"orientation": "LPR"}, "orientation cannot be 'LPR'. Choose one of: input, or three letters"),
        ({"orientation": "lps"}, "orientation cannot be 'lps'"),
        ({"outer_resampling": "twice"}, "outer resampling cannot be 'twice'. Choose one of: model, on, off"),
        ({"tile_overlap": 1.0}, "tile overlap cannot be 1.0. Choose one of: a number from 0 to 0.9"),
    ],
)
def test_what_an_option_cannot_be_is_refused_with_what_it_can(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        InferenceOptions(**wrong)  # type: ignore[arg-type]


def test_they_pass_from_process_to_process() -> None:
    options = InferenceOptions("cuda:1", "bfloat16", False, True, 0.25, "whole", True, True, "PIR", False, "on")
    assert InferenceOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


@pytest.mark.parametrize(
    "foreign", [{"sharpness": 3}, {"mirror": "yes"}, {"device": None}, {"tile_overlap": "0.5"}, {"orientation": 3}]
)
def test_those_of_another_version_are_refused(foreign: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Install the same version of LightSeg on all computers"):
        InferenceOptions.from_json(InferenceOptions().to_json() | foreign)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], InferenceOptions()),
        (["--device", "cuda:1", "--precision", "float32"], InferenceOptions("cuda:1", "float32")),
        (["--no-openvino", "--mirror"], InferenceOptions(openvino=False, mirror=True)),
        (["--tile-overlap", "0.25"], InferenceOptions(tile_overlap=0.25)),
        (["--orientation", "LPS"], InferenceOptions(orientation="LPS")),
        (["--outer-resampling", "off"], InferenceOptions(outer_resampling="off")),
        (["--structures", "left liver, spleen,5"], InferenceOptions(structures=("left liver", "spleen", "5"))),
        (["--orientation", "input"], InferenceOptions(orientation="input")),
        (["--largest-component"], InferenceOptions(largest_component="label")),
        (["--largest-component", "none"], InferenceOptions(largest_component="none")),
        (["--accept-licence"], InferenceOptions(accept_license=True)),
        (["--accept-license"], InferenceOptions(accept_license=True)),
    ],
)
def test_the_command_line_has_a_flag_for_each(flags: list[str], expected: InferenceOptions) -> None:
    assert parsed(*flags) == expected


def test_no_option_lacks_a_flag_but_those_that_need_none() -> None:
    without = {option.name for option in fields(InferenceOptions) if not option.metadata["help"]}
    assert without == {"confidence", "accept_license"}, "a segmentation file has no confidence; the license has its own"


OTHERS = {  # a value of each that is not its default
    "precision": "float32",
    "mirror": True,
    "tile_overlap": 0.25,
    "largest_component": "none",
    "orientation": "LPS",
    "split_sides": False,
    "outer_resampling": "off",
    "structures": ("liver",),
}


def test_what_changes_a_result_is_stated_in_it_and_computes_a_batch_anew() -> None:
    """An option that a batch overlooks leaves results of other options as done; one not stated is not reproduced."""
    changing_nothing = {"device", "openvino", "confidence", "accept_license"}
    assert {option.name for option in fields(InferenceOptions)} - changing_nothing == set(OTHERS)
    assert set(OTHERS) <= set(settings_facts(InferenceOptions(), find_card("brain-mr-atlas-unet"), None))
    assert set(OTHERS) - {"precision"} <= set(SETTINGS)  # that is stated as what it was computed in
    changed = [InferenceOptions(**{name: value}) for name, value in OTHERS.items()]  # type: ignore[arg-type]
    batches = {Settings(options).sha256() for options in changed}
    assert len(batches | {Settings().sha256()}) == len(OTHERS) + 1


@pytest.mark.parametrize(("overlap", "tiles"), [(None, 3), (0.0, 2), (0.75, 5)])
def test_the_overlap_of_tiles_replaces_that_of_the_model(
    threshold_segmenter: Callable[..., Segmenter], overlap: float | None, tiles: int
) -> None:
    """16 voxels along one axis in tiles of 8: a step of 4, 8 or 2 voxels."""
    segmenter = threshold_segmenter(Preprocessing("RAS"), Inference((8, 8, 8), overlap=0.5))
    segmenter.options = InferenceOptions("cpu", "float32", tile_overlap=overlap)
    reports: list[Progress] = []
    voxels = np.random.default_rng(0).normal(size=(16, 8, 8)).astype(np.float32)
    found = segmenter.segment([Volume(voxels, Geometry(voxels.shape))], progress=reports.append)
    assert max(report.tiles for report in reports) == tiles
    assert found.provenance["settings"]["tile_overlap"] == overlap


def test_results_of_earlier_batches_are_recognized() -> None:
    """The fingerprint in their records is that of these names and values."""
    before = {"precision": "auto", "mirror": False, "largest_component": None, "format": "seg.nrrd", "picture": True}
    assert Settings().sha256() == hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()
    assert Settings(InferenceOptions("cuda", openvino=False)).sha256() == Settings().sha256(), "another computer"
    changed = [{"mirror": True}, {"tile_overlap": 0.25}, {"largest_component": "none"}, {"precision": "float32"}]
    for other in (*changed, {"orientation": "LPS"}):
        assert Settings(InferenceOptions(**other)).sha256() != Settings().sha256()  # type: ignore[arg-type]


@pytest.mark.parametrize("axes", [(), (2,)])
def test_a_result_claims_mirror_images_only_where_the_model_allows_them(
    threshold_segmenter: Callable[..., Segmenter], axes: tuple[int, ...]
) -> None:
    segmenter = threshold_segmenter(Preprocessing("RAS"), Inference((8, 8, 8), mirror_axes=axes))
    segmenter.options = InferenceOptions("cpu", "float32", mirror=True)
    voxels = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    settings = segmenter.segment([Volume(voxels, Geometry(voxels.shape))]).provenance["settings"]
    assert settings["mirror"] is bool(axes)
