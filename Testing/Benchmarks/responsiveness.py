"""How long the window is frozen, what a job adds to its computation, and how soon a canceled one is over.

In the real window on a real scene, as in Testing/Gui, on a volume of 256 x 256 x 256 voxels. The best of several runs
counts: what else the machine does only adds to it.
"""

# ruff: noqa: E402 (the fakes must be in place before the module is imported)
from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "Gui")]

import fakes

fakes.install()

import numpy as np
import slicer
from http_server import Answer, Server
from LightSegLib.core.errors import Canceled
from LightSegLib.core.progress import Reporter
from LightSegLib.slicer_app import jobs
from LightSegLib.weights.connection import Connection
from user_actions import Heartbeat, wait_until

import LightSeg

MODEL = "hippocampus-mr-lightmedseg"
RUNS = 6
SIDE, PART = 256, (48.0, 64.0, 48.0)


def main() -> None:
    """Print the figures as JSON, in milliseconds."""
    blobs = np.cumsum(np.random.default_rng(0).normal(size=(SIDE,) * 3), axis=0).astype(np.float32)
    volume = slicer.util.addVolumeFromArray(blobs, name="Large")
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Part")
    roi.SetCenter([SIDE / 2] * 3)
    roi.SetSize(PART)
    logic = LightSeg.LightSegLogic()
    options = logic.options(device="cpu", openvino=False)
    finished(logic.start(volume, MODEL, roiNode=roi, options=options))
    gaps, added = [], []
    for _ in range(RUNS):
        with Heartbeat() as heartbeat:
            begun = time.monotonic()
            job = finished(logic.start(volume, MODEL, roiNode=roi, options=options))
            added.append(time.monotonic() - begun - job.provenance["seconds"])
        gaps.append(heartbeat.longest_gap)
    canceled = min(cancel(logic.start(volume, MODEL, options=options)) for _ in range(2))
    jobs.stop()
    found = {"gap": min(gaps), "added": min(added), "cancel": canceled, "download": cancel_a_download()}
    print(json.dumps({name: 1e3 * seconds for name, seconds in found.items()}))


def finished(job: Any) -> Any:
    wait_until(lambda: job.state != "running")
    return job


def cancel(job: Any) -> float:
    """Seconds from the click, when the computation has begun, to the end of the job and its process."""
    reports: list[Any] = []
    job.progress.connect(reports.append)
    wait_until(lambda: any(report.tiles for report in reports))
    clicked = time.monotonic()
    job.cancel()
    finished(job)
    return time.monotonic() - clicked


def cancel_a_download() -> float:
    """Seconds from the click to the end of a download whose server is silent."""
    clicked: list[float] = []

    def click() -> None:
        wait_until(lambda: server.asked)
        clicked.append(time.monotonic())

    with Server() as server:
        server.answers["/file"] = Answer(b"PK", stall=-1)
        threading.Thread(target=click).start()
        connection = Connection(Reporter(canceled=lambda: bool(clicked)))
        try:
            connection.open(f"{server.url}/file")
        except Canceled:
            return time.monotonic() - clicked[0]
    raise AssertionError("a silent server has answered")


if __name__ == "__main__":
    main()
