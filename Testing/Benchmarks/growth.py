"""How time and memory grow with voxels, labels, parts and cases, beside the programs of nnU-Net and TotalSegmentator.

The tables are in Markdown. The networks are thin, since what is measured is what stands around them; what these take
is in the other parts of the benchmark. A program that would take most of the free memory is ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from measure import Cost, TooLarge, run
from report import GIGABYTE, PEERS, Report, sizes
from whole_program import CT, PROGRAM, PYTHON

SPACING = (0.8, 0.8, 1.5)  # mm along i, j, k; the models' is 1.5 mm
CUBE, LONGEST = (256, 256, 256), (600, 512, 512)
SHAPES = [(128, 128, 128), CUBE, (150, 512, 512), (300, 512, 512), LONGEST]
LABELS = {2: "thin-2", 14: "thin", 117: "thin-117"}  # models
TARGETS = {14: 3.0, 117: 5.0}  # GB, of LONGEST
CASES, CASE, CASE_SPACING = (1, 10, 1000), (48, 48, 48), (1.5, 1.5, 1.5)
MOST = 0.75  # share of the free memory that another program may take
Cell = Cost | str


def growth(report: Report) -> None:
    """All tables."""
    for part in (voxels, labels, parts, cases):
        part(report)


def voxels(report: Report) -> None:
    rows: list[tuple[str, list[Cell]]] = []
    for shape in SHAPES:
        model, image = report.model("thin"), report.ct(shape, SPACING)
        rows.append((sizes(shape), [_lightseg(report, model, image), _nnunet(report, model, image.parent)]))
    _table("Voxels, 14 labels", ("LightSeg", "nnU-Net"), rows)


def labels(report: Report) -> None:
    rows: list[tuple[str, list[Cell]]] = []
    for count, name in LABELS.items():
        model = report.model(name)
        small, long = (report.ct(shape, SPACING) for shape in (CUBE, LONGEST))
        largest = _lightseg(report, model, long)
        rows.append((str(count), [_lightseg(report, model, small), _nnunet(report, model, small.parent), largest]))
        if count in TARGETS:
            what = f"{sizes(LONGEST)}, {count} labels, a thin network"
            report.claim(what, largest.peak_bytes / GIGABYTE, TARGETS[count], " GB")
    _table("Labels", (f"LightSeg, {sizes(CUBE)}", "nnU-Net, the same", f"LightSeg, {sizes(LONGEST)}"), rows)


def parts(report: Report) -> None:
    if not (PYTHON.parents[1] / ".requirements").is_file():
        report.skip("Parts", f"there is no {PYTHON}")
        return
    image, weights, home = report.ct(*CT), report.folder / "weights", report.folder / "home"

    def model(identifier: str) -> dict[str, str]:
        return report.facts("whole_program.py", weights, home, identifier, image, "small")

    def theirs(**options: bool) -> Cell:
        out = report.folder / "labels.nii.gz"
        job = {"task": "total", "image": str(image), "out": str(out), "options": options, "float32": False}
        command = [PYTHON, PROGRAM, weights, home, str(os.cpu_count()), json.dumps(job)]
        return _within(lambda most: run(command, most_bytes=most))

    fast = [_lightseg(report, model("total-ct-fast"), image), theirs(fast=True)]
    five = [_lightseg(report, model("total-ct"), image), theirs()]
    one: list[Cell] = [_lightseg(report, {"id": "random-total-ct-organs"}, image), "no such task"]
    rows = [("1 (fast, 3 mm)", fast), ("1 of the five (1.5 mm)", one), ("5 (1.5 mm)", five)]
    _table("Parts of total", ("LightSeg", "TotalSegmentator"), rows)


def cases(report: Report) -> None:
    model, image = report.model("tiny"), report.ct(CASE, CASE_SPACING)
    rows: list[tuple[str, list[Cell]]] = []
    for count in CASES:
        folder = report.folder / f"{count} cases"
        folder.mkdir()
        for number in range(count):
            os.link(image, folder / f"case{number:04d}_0000.nii.gz")
        theirs: Cell = "long"
        if report.full or count < CASES[-1]:
            theirs = _nnunet(report, model, folder)
        ours = report.batch(model["id"], folder, report.folder / f"out of {count}", "--no-openvino")
        rows.append((str(count), [ours, theirs]))
    _table(f"Cases of {sizes(CASE)} voxels, a tiny network", ("LightSeg", "nnU-Net"), rows)


def _lightseg(report: Report, model: dict[str, str], image: Path) -> Cost:
    """What LightSeg takes for an image."""
    return report.lightseg(model["id"], image, report.folder / "grown.seg.nrrd", "--no-openvino")


def _nnunet(report: Report, model: dict[str, str], images: Path) -> Cell:
    """What nnU-Net takes for all images of a folder."""
    if not PEERS.is_file():
        return "not installed"
    return _within(lambda most: report.nnunet(model["folder"], images, report.folder / "theirs", most))


def _within(work: Callable[[int], Cost]) -> Cell:
    """What a program takes that may hold MOST of the free memory."""
    from LightSegLib.core.system import free_memory

    try:
        return work(int(MOST * (free_memory() or 16 * GIGABYTE)))
    except TooLarge as error:
        return str(error)


def _table(title: str, programs: Sequence[str], rows: Iterable[tuple[str, list[Cell]]]) -> None:
    """Print seconds and gigabytes of every program, in Markdown."""
    heads = [title, *(f"{program}, {unit}" for program in programs for unit in ("s", "GB"))]
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, cells in rows:
        values = [name]
        for cell in cells:
            words = ("", cell) if isinstance(cell, str) else (f"{cell.seconds:.1f}", f"{cell.peak_bytes / 1e9:.2f}")
            values += words
        print(f"| {' | '.join(values)} |", flush=True)
