"""LightSeg from end to end: the bundled sample and models, through the module's logic, in a real MRML scene.

    make demo        or        python Testing/demo.py [--out FOLDER]

32 structures of the brain of the ICBM152 template, then the parts of both hippocampi, become segments, saved as
Slicer's segmentation files and as NIfTI, with a picture and a table of volumes. The exit status is 0 only when the
results are plausible.
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
from LightSegLib.rendering.layers import list_layers
from LightSegLib.rendering.legend import list_entries
from LightSegLib.rendering.result import draw_result
from LightSegLib.slicer_app.scene import ATTRIBUTES, volume_from_node
from scipy import ndimage

import LightSeg

BRAIN, HIPPOCAMPI = "brain-mr-atlas-unet", "hippocampus-mr-unet"
TITLE = "Brain and hippocampi of the ICBM152 2009a template"
PLAUSIBLE_ML = (2.0, 5.0)  # volume of one hippocampus of an adult
# Percent of the brain, without fluid, that both sides together have: lowest and highest of 16 adults, the label maps of
# SynthSeg (Billot et al. 2023, doi:10.1016/j.media.2023.102789). The template is larger than most heads, so its
# milliliters prove nothing.
PLAUSIBLE_PERCENT = {
    "cerebral white matter": (36.4, 42.4),
    "thalamus": (1.11, 1.45),
    "caudate nucleus": (0.47, 0.82),
    "putamen": (0.74, 1.22),
    "hippocampus": (0.40, 0.87),
    "brain stem": (1.66, 2.52),
}
ERASE = "\033[37G\033[K"  # terminal: back to column 37, clear the rest of the line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(description="Segment the bundled sample and save what comes out.")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder for the results")
    options = parser.parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        brain, hippocampi = run(options.out.resolve())
    except OSError as error:
        print(f"The folder {options.out} cannot be made ({error.strerror}). Choose another one.", file=sys.stderr)
        return 2
    except LightSegError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    problems = implausible_brain(brain) + implausible_hippocampi(hippocampi)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def run(folder: Path) -> list[Segmentation]:
    """Segment the brain and both hippocampi and write every file into `folder`; returns what the nodes hold."""
    names = {BRAIN: "brain", HIPPOCAMPI: "hippocampi"}
    files = {
        model: [folder / f"icbm152_{name}{end}" for end in (".seg.nrrd", ".nii.gz")] for model, name in names.items()
    }
    picture, table = folder / "icbm152.png", folder / "volumes.csv"
    written = [*files[BRAIN], *files[HIPPOCAMPI], picture, table]
    for old in written:
        old.unlink(missing_ok=True)  # a run that fails must not leave an earlier one's results
    began = time.perf_counter()
    logic = LightSeg.LightSegLogic()
    logic.progressCallback = show if sys.stdout.isatty() else None
    with step("Load the sample"):
        volume_node = LightSeg.loadSample()
    results = []
    for model, title in ((BRAIN, "the brain"), (HIPPOCAMPI, "both hippocampi")):
        with step(f"Segment {title}"):
            node = logic.segment(volume_node, model)
        with step("Save it for Slicer, and as NIfTI"):
            labelmap_node = to_labelmap(node, volume_node)
            save(node, "vtkMRMLSegmentationStorageNode", files[model][0])
            save(labelmap_node, "vtkMRMLVolumeArchetypeStorageNode", files[model][1])
        provenance = read_provenance(node) | {"title": find_card(model).title}
        results.append(to_segmentation(node, labelmap_node, volume_node, provenance))
    with step("Draw the picture"):
        notice = draw_result(volume_from_node(volume_node), results, picture, TITLE)
    rows = [(one.provenance["title"], *row) for one in results for row in one.volumes_ml().items()]
    write_table([("model", "segment", "volume_ml"), *((*row, f"{ml:.3f}") for *row, ml in rows)], table)
    print(f"{'All of it':36}{time.perf_counter() - began:6.1f} s")

    for segmentation in results:
        print_volumes(segmentation)
    print("\nResults:", *(f"  {path}" for path in written), sep="\n")
    notices = [notice for one in results for notice in one.provenance["notices"]]
    for remark in dict.fromkeys([*notices, notice]):
        if remark:
            print(f"Note: {remark}")
    return results


def print_volumes(segmentation: Segmentation) -> None:
    """Print a line for each structure, with its volumes on the left and on the right."""
    print(f"\n{segmentation.provenance['title']}\n{'':36}{'left':>8}{'right, ml':>11}")
    for entry in list_entries(list_layers([segmentation])):
        left, right = entry.volumes if len(entry.volumes) == 2 else (None, entry.volumes[0])
        print(f"  {entry.name:34}{'' if left is None else f'{left:.2f}':>8}{right:11.2f}")


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


def implausible_brain(segmentation: Segmentation) -> list[str]:
    """What is wrong with the brain, one sentence each; nothing when the shares of its structures are plausible."""
    entries = list_entries(list_layers([segmentation]))
    volumes = {entry.name.lower(): sum(entry.volumes) for entry in entries}
    brain = sum(ml for name, ml in volumes.items() if "ventricle" not in name and "fluid" not in name)
    problems = []
    for name, (low, high) in PLAUSIBLE_PERCENT.items():
        percent = 100 * volumes.get(name, 0.0) / max(brain, 1e-6)
        if not low <= percent <= high:
            problems.append(f"The {name} is {percent:.2f} % of the brain; {low} to {high} % are plausible.")
    return problems


def implausible_hippocampi(segmentation: Segmentation) -> list[str]:
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
