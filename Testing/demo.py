"""LightSeg from end to end: the bundled sample and model, through the module's logic, in a real MRML scene.

    make demo        or        python Testing/demo.py [--model ID_OR_FOLDER] [--out FOLDER]

Both hippocampi of the ICBM152 template become segments of one segmentation, saved as Slicer's segmentation file
and as NIfTI, with a picture and a table of volumes. The exit status is 0 only when the result is
plausible.
"""

# ruff: noqa: E402 (the fakes must be in place before the module is imported)
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from slicer_found import HAS_SLICER, REASON

if not HAS_SLICER:
    sys.exit(f"The demo needs a real MRML scene: {REASON}. Use Python 3.10 to 3.13.")

import fakes

fakes.install()

import slicer
from LightSegLib.catalog.card import Label
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.atomic_io import write_table
from LightSegLib.core.errors import LightSegError, OutputError
from LightSegLib.core.progress import Progress
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.rendering.result import draw_result
from LightSegLib.slicer_app.scene import ATTRIBUTES, volume_from_node
from scipy import ndimage

import LightSeg

PLAUSIBLE_ML = (2.0, 5.0)  # volume of one hippocampus of an adult
ERASE = "\033[37G\033[K"  # terminal: back to column 37, clear the rest of the line
TITLE = "Hippocampi of the ICBM152 2009a template"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(description="Segment the bundled sample and save what comes out.")
    parser.add_argument("--model", default=LightSeg.DEFAULT_MODEL, help="id of a model, or a model folder")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder for the results")
    options = parser.parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        segmentation = run(options.model, options.out.resolve())
    except OSError as error:
        print(f"The folder {options.out} cannot be made ({error.strerror}). Choose another one.", file=sys.stderr)
        return 2
    except LightSegError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    problems = implausible(segmentation)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def run(model: str, folder: Path) -> Segmentation:
    """Segment both sides and write every file into `folder`; returns what the segmentation node holds."""
    files = {name: folder / f"icbm152_hippocampus{name}" for name in (".seg.nrrd", ".nii.gz", ".png")}
    table = folder / "volumes.csv"
    for old in (*files.values(), table):
        old.unlink(missing_ok=True)  # a run that fails must not leave an earlier one's results
    began = time.perf_counter()
    logic = LightSeg.LightSegLogic()
    logic.progressCallback = show if sys.stdout.isatty() else None
    with step("Load the sample"):
        volume_node = LightSeg.loadSample()
    segmentation_node = None
    for region in LightSeg.sampleRois():
        with step(f"Segment the {region['side']} hippocampus"):
            segmentation_node = logic.segment(
                volume_node,
                model,
                segmentation_node,
                add_roi(region),
                region["side"],
            )
    with step("Save the segmentation"):
        save(segmentation_node, "vtkMRMLSegmentationStorageNode", files[".seg.nrrd"])
    with step("Save the label map"):
        labelmap_node = to_labelmap(segmentation_node, volume_node)
        save(labelmap_node, "vtkMRMLVolumeArchetypeStorageNode", files[".nii.gz"])
    with step("Draw the picture"):
        provenance = read_provenance(segmentation_node) | {"title": find_card(model).title}
        segmentation = to_segmentation(segmentation_node, labelmap_node, volume_node, provenance)
        notice = draw_result(volume_from_node(volume_node), segmentation, files[".png"], TITLE)
    volumes = segmentation.volumes_ml()
    write_table([("segment", "volume_ml"), *((name, f"{ml:.3f}") for name, ml in volumes.items())], table)

    print(f"{'All of it':36}{time.perf_counter() - began:6.1f} s")
    print(f"\n{'Segment':36}{'Volume':>8}")
    for name, ml in volumes.items():
        print(f"{name:36}{ml:5.2f} ml")
    print("\nResults:", *(f"  {path}" for path in (*files.values(), table)), sep="\n")
    for remark in [*segmentation.provenance.get("notices", []), notice]:
        if remark:
            print(f"Note: {remark}")
    return segmentation


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print what is being done, and how long it took once it is done."""
    began = time.perf_counter()
    print(f"{name:36}", end="", flush=True)
    try:
        yield
    except BaseException:
        print(flush=True)
        raise
    print(f"{ERASE if sys.stdout.isatty() else ''}{time.perf_counter() - began:6.1f} s", flush=True)


def show(progress: Progress) -> None:
    """Progress behind the name of the step, on a terminal; the time that the step took overwrites it."""
    tiles = f" {progress.tile}/{progress.tiles}" if progress.tiles else ""
    print(f"{ERASE}  {progress.step}{tiles}", end="", flush=True)


def add_roi(region: dict[str, Any]) -> Any:
    """A Markups ROI in the scene, as a user would draw it around the structure."""
    lower, upper = np.array(region["corners"], float)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", region["name"])
    node.SetCenter(*((lower + upper) / 2))
    node.SetSize(*np.abs(upper - lower))
    return node


def to_labelmap(segmentation_node: Any, volume_node: Any) -> Any:
    """All segments as one label map on the volume's grid, values 1, 2, ... in the order of the segments."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", segmentation_node.GetName())
    identifiers = list(segmentation_node.GetSegmentation().GetSegmentIDs())
    slicer.modules.segmentations.logic().ExportSegmentsToLabelmapNode(segmentation_node, identifiers, node, volume_node)
    return node


def save(node: Any, storage_class: str, path: Path) -> None:
    """Write a node with MRML's own storage node."""
    storage = slicer.mrmlScene.AddNewNodeByClass(storage_class)
    storage.SetFileName(str(path))
    if not storage.WriteData(node):
        raise OutputError(f"{path} cannot be written. Choose a folder that is writable and has free space.")


def read_provenance(segmentation_node: Any) -> dict[str, Any]:
    """How the result came about, from the attributes of its node."""
    found = {key: segmentation_node.GetAttribute(name) for name, key in ATTRIBUTES.items()}
    return {key: text for key, text in found.items() if text} | {"notices": json.loads(found["notices"] or "[]")}


def to_segmentation(
    segmentation_node: Any, labelmap_node: Any, volume_node: Any, provenance: dict[str, Any]
) -> Segmentation:
    """What the node holds, as the picture and the checks need it."""
    segments = segmentation_node.GetSegmentation()
    labels = []
    for number in range(segments.GetNumberOfSegments()):
        segment = segments.GetNthSegment(number)
        red, green, blue = (round(255 * part) for part in segment.GetColor())
        labels.append(Label(number + 1, segment.GetName(), (red, green, blue)))
    return Segmentation(
        slicer.util.arrayFromVolume(labelmap_node).astype(np.uint8),
        volume_from_node(volume_node).geometry,
        tuple(labels),
        provenance,
    )


def implausible(segmentation: Segmentation) -> list[str]:
    """What is wrong with the result, one sentence each; nothing when both hippocampi are plausible."""
    problems = []
    for side in ("Left", "Right"):
        values = [label.value for label in segmentation.labels if label.name.startswith(side)]
        mask = np.isin(segmentation.voxels, values)
        ml = np.count_nonzero(mask) * segmentation.geometry.voxel_volume_ml
        pieces = ndimage.label(mask, np.ones((3, 3, 3)))[1]
        if not PLAUSIBLE_ML[0] <= ml <= PLAUSIBLE_ML[1]:
            low, high = PLAUSIBLE_ML
            problems.append(
                f"The {side.lower()} hippocampus has {ml:.2f} ml; {low:.0f} to {high:.0f} ml are plausible."
            )
        if pieces > 1:
            problems.append(f"The {side.lower()} hippocampus is in {pieces} pieces; it should be one.")
    return problems


if __name__ == "__main__":
    raise SystemExit(main())
