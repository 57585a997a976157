"""The sample that comes with the extension: a T1 template of the head, and where its hippocampi are."""

from __future__ import annotations

import json
from typing import Any

import slicer

from ..core.paths import resources_folder

SAMPLE_NAME = "ICBM152"
SAMPLE_FOLDER = resources_folder() / "SampleData"
SAMPLE_FILE = SAMPLE_FOLDER / "icbm152_t1_1mm.nii.gz"
SAMPLE_SHA256 = "12987d68e360c8dc5e287a57b3472df2e03daa05ff6892ea55fac26f9117c3ea"


def registerSampleData() -> None:
    """Offer the bundled sample in the module Sample Data, by button and by name; its address is a local file."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="LightSeg",
        sampleName=SAMPLE_NAME,
        uris=SAMPLE_FILE.as_uri(),
        fileNames=SAMPLE_FILE.name,
        nodeNames=SAMPLE_NAME,
        checksums=f"SHA256:{SAMPLE_SHA256}",  # else Slicer's cache would keep the file of an older version
        loadFileTypes="VolumeFile",
        thumbnailFileName=str(resources_folder() / "Icons" / "LightSeg.png"),
    )


def loadSample() -> Any:
    """Load the bundled T1 template and return its volume node; nothing is downloaded."""
    return slicer.util.loadVolume(str(SAMPLE_FILE), {"name": SAMPLE_NAME})


def sampleRois() -> list[dict[str, Any]]:
    """Boxes around the hippocampi of the sample: [{"name", "side", "corners"}], two corners each in RAS mm."""
    rois: list[dict[str, Any]] = json.loads((SAMPLE_FOLDER / "icbm152_rois.json").read_text(encoding="utf-8"))["rois"]
    return rois


def samplePlace() -> list[float]:
    """Return the middle of the right hippocampus of the sample, in RAS mm."""
    lower, upper = next(region["corners"] for region in sampleRois() if region["side"] == "right")
    return [(first + last) / 2 for first, last in zip(lower, upper, strict=True)]
