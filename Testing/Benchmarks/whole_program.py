"""LightSeg beside TotalSegmentator's own program, file to file: catalog cards with random weights, for both."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import run
from report import Report, words

TESTING = Path(__file__).resolve().parents[1]
PYTHON = TESTING.parent / ".venv-totalsegmentator" / "bin" / "python"
PROGRAM = TESTING / "Parity" / "run_totalsegmentator.py"
CT = (115, 256, 256), (1.5, 1.5, 2.5)  # voxels k, j, i and mm i, j, k
TASKS = {"total, fast": ("total-ct-fast", {"fast": True}), "total, five parts": ("total-ct", {})}
SIZES = {"small": ([8, 16, 32], 64), "flare-sized": ([32, 64, 128, 256], 128)}  # features of the stages, patch
FASTER = {"full precision": 2.0, "default": 4.0}  # than the program
WAYS = {"full precision": ("--precision", "float32"), "default": ()}
MEMORY = 1 / 3  # of the program's


def totalsegmentator(report: Report) -> None:
    """Every task in the program's way and in LightSeg's, from the start of the program to the written file."""
    size = "flare-sized" if report.full else "small"
    print(f"TotalSegmentator's tasks, a CT file of 256x256x115 voxels, networks: {size}; a thread per CPU")
    if not (PYTHON.parents[1] / ".requirements").is_file():
        report.skip("TotalSegmentator's time over LightSeg's", f"there is no {PYTHON}")
        return
    image, weights, home = report.ct(*CT), report.folder / "weights", report.folder / "home"
    for task, (identifier, options) in TASKS.items():
        model = report.facts("whole_program.py", weights, home, identifier, image, size)["id"]
        out = report.folder / "labels.nii.gz"
        job = {"task": "total", "image": str(image), "out": str(out), "options": options, "float32": False}
        theirs = run([PYTHON, PROGRAM, weights, home, str(os.cpu_count()), json.dumps(job)])
        print(f"  {task}\n  {'TotalSegmentator':<34} {words(theirs)}", flush=True)
        for way, flags in WAYS.items():
            own = report.folder / f"{way}.seg.nrrd"
            report.lightseg(model, image, own, *flags)  # a first run makes checks whose outcome is kept
            ours = report.lightseg(model, image, own, *flags)
            speed, share = theirs.seconds / ours.seconds, ours.peak_bytes / theirs.peak_bytes
            equal = report.facts("in_process.py", "agreement", out, own)["equal"]
            print(
                f"  {f'LightSeg, {way}':<34} {words(ours)}, {speed:.2f} times faster, {share:.2f} of the memory, "
                f"{equal:.3%} of voxels equal",
                flush=True,
            )
            report.claim(f"TotalSegmentator's time over LightSeg's, {task}, {way}", speed, FASTER[way], "", True)
            report.claim(f"LightSeg's memory over TotalSegmentator's, {task}, {way}", share, MEMORY, "")


def plans_of(size: str) -> dict[str, Any]:
    """Changes to the plans of a small model that give it one of SIZES."""
    from trained_models import UNET

    features, patch = SIZES[size]
    stages = len(features)
    arguments = {
        **UNET["arch_kwargs"],  # type: ignore[dict-item]
        "n_stages": stages,
        "features_per_stage": features,
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    return {"patch_size": [patch] * 3, "architecture": {**UNET, "arch_kwargs": arguments}}


def main(weights: str, home: str, identifier: str, image: str, size: str) -> None:
    """Write models for both programs; prints LightSeg's id as JSON."""
    sys.path[:0] = [str(TESTING / "Parity"), str(TESTING), str(TESTING.parent / "LightSeg")]
    from peer import running
    from totalsegmentator_comparison import TotalSegmentator

    models = Path(os.environ["LIGHTSEG_MODELS"])
    with tempfile.TemporaryDirectory() as folder, running([PYTHON, PROGRAM, weights, home, "1"], Path(folder)) as peer:
        card = TotalSegmentator(peer, Path(weights), models).make(identifier, Path(image), **plans_of(size))
    print(json.dumps({"id": card.id}))


if __name__ == "__main__":
    main(*sys.argv[1:])
