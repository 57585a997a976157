"""Volumes and mean intensities of structures, in files that a spreadsheet or a program reads."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog.card import Label, Total
from LightSegLib.core.errors import OutputError
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.statistics import structure_statistics, write_statistics
from LightSegLib.imaging.volume import Segmentation, Volume

GEOMETRY = Geometry((4, 5, 6), (1.0, 2.0, 5.0))  # a voxel has 10 mm3


@pytest.fixture
def segmentation() -> Segmentation:
    """A liver of 8 voxels inside, a spleen of 2 at the border, and a tumor that was not found."""
    voxels = np.zeros(GEOMETRY.shape, np.uint8)
    voxels[1:3, 1:3, 1:3] = 1
    voxels[3, 4, 4:] = 2
    labels = tuple(Label(value, name, (9, 9, 9)) for value, name in enumerate(("Liver", "Spleen", "=Tumor"), start=1))
    return Segmentation(voxels, GEOMETRY, labels, {"model": "abdomen"}, totals=(Total("Both", (1, 2)),))


@pytest.fixture
def channels() -> dict[str, Volume]:
    ct = np.zeros(GEOMETRY.shape, np.int16)
    ct[1:3, 1:3, 1:3] = [[[10, 20], [30, 40]], [[50, 60], [70, 80]]]
    ct[3, 4, 4:] = (-100, -101)
    return {"CT": Volume(ct, GEOMETRY)}


def test_volumes_and_means_are_those_counted_by_hand(segmentation: Segmentation, channels: dict[str, Volume]) -> None:
    liver, spleen, tumor, both = structure_statistics(segmentation, channels)
    assert (liver.name, liver.means, liver.cut_off) == ("Liver", {"CT": 45.0}, False)
    assert liver.volume_ml == pytest.approx(0.08)
    assert (round(spleen.volume_ml, 9), spleen.means, spleen.cut_off) == (0.02, {"CT": -100.5}, True)
    assert (tumor.volume_ml, tumor.means, tumor.cut_off) == (0.0, {"CT": None}, False)
    assert both.volume_ml == pytest.approx(0.1) and both.means["CT"] == (45 * 8 - 100.5 * 2) / 10 and both.cut_off
    assert {row.name: row.volume_ml for row in (liver, spleen, tumor, both)} == segmentation.volumes_ml()


def test_a_structure_that_a_region_cut_is_cut_off(segmentation: Segmentation) -> None:
    """The liver has the whole voxels from 1 to 2 along each axis, far from the border of the image."""

    def cut(*box: tuple[int, int]) -> bool:
        k, j, i = (slice(low, high) for low, high in box)
        region = RegionOfInterest.of_slices((k, j, i), GEOMETRY)
        segmentation.provenance["settings"] = {"roi_lps": region.corners.tolist()}
        return structure_statistics(segmentation, {})[0].cut_off

    assert not cut((0, 4), (0, 5), (0, 6)) and not cut((0, 4), (0, 4), (0, 4))
    assert cut((0, 4), (1, 5), (0, 6)) and cut((0, 3), (0, 5), (0, 6)) and cut((0, 4), (0, 5), (0, 3))


def test_a_box_that_another_model_found_cuts_the_structures_of_its_side(segmentation: Segmentation) -> None:
    """Its corners are rounded in the record, and both sides' boxes pass through both structures."""
    geometry = Geometry(GEOMETRY.shape, (0.7123456, 0.9876543, 3.3333333), (-71.23456, 0.12345, -33.98765))
    voxels = np.zeros(geometry.shape, np.uint8)
    voxels[1:3, 2, 1:3], voxels[1:3, 2, 3:5] = 1, 2
    labels = (Label(1, "Right lamp", (9, 9, 9)), Label(2, "Left lamp", (9, 9, 9)))

    def cut(**boxes: tuple[int, int]) -> list[bool]:
        found = {
            side: RegionOfInterest.of_slices((slice(0, 4), slice(1, 4), slice(*ends)), geometry).corners.round(3)
            for side, ends in boxes.items()
        }
        record = {"region_from": {"rois_lps": {side: box.tolist() for side, box in found.items()}}}
        return [row.cut_off for row in structure_statistics(Segmentation(voxels, geometry, labels, record), {})]

    assert cut(right=(0, 4), left=(2, 6)) == [False, False]
    assert cut(right=(1, 4), left=(2, 6)) == [True, False] and cut(right=(0, 4), left=(2, 5)) == [False, True]


def test_json_and_csv_hold_the_same_numbers(
    segmentation: Segmentation, channels: dict[str, Volume], tmp_path: Path
) -> None:
    provenance = segmentation.provenance | {"notices": ["The image is damaged.", "b"]}
    for ending in ("json", "csv"):
        write_statistics(replace(segmentation, provenance=provenance), channels, tmp_path / f"ä.{ending}")
    content = json.loads((tmp_path / "ä.json").read_text(encoding="utf-8"))
    assert content["model"] == "abdomen" and content["notices"] == ["The image is damaged.", "b"]
    spleen = {"volume_ml": 0.02, "mean": {"CT": -100.5}, "cut_off": True, "labels": [2]}
    assert content["structures"]["Spleen"] == spleen and content["structures"]["=Tumor"]["mean"] == {"CT": None}
    with (tmp_path / "ä.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["structure", "volume_ml", "mean_intensity", "cut_off", "labels", "notices"]
    joined = "The image is damaged. b"
    assert rows[1:3] == [["Liver", "0.08", "45.0", "no", "1", joined], ["Spleen", "0.02", "-100.5", "yes", "2", joined]]
    assert rows[3][0] == "'=Tumor" and rows[3][2] == ""  # which no spreadsheet computes
    assert rows[4][4] == "1 2"


def test_means_of_several_images_are_named_by_their_channels(
    segmentation: Segmentation, channels: dict[str, Volume], tmp_path: Path
) -> None:
    write_statistics(segmentation, {"T1": channels["CT"], "FLAIR": channels["CT"]}, tmp_path / "a.csv")
    header = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "structure,volume_ml,mean_intensity (T1),mean_intensity (FLAIR),cut_off,labels,notices"


def test_a_folder_that_is_not_there_is_an_error(
    segmentation: Segmentation, channels: dict[str, Volume], tmp_path: Path
) -> None:
    with pytest.raises(OutputError):
        write_statistics(segmentation, channels, tmp_path / "no" / "s.json")
