"""A batch beside one program for each case, two workers beside one, and what a case costs besides its computation."""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "LightSeg")]

from batch_cases import write_volume  # noqa: E402 (the path must be set first)
from LightSegLib.batch.cohort import segment_files  # noqa: E402
from LightSegLib.batch.settings import Settings  # noqa: E402
from measure import own_peak  # noqa: E402

MODEL = "hippocampus-mr-lightmedseg"
SETTINGS = Settings(device="cpu", openvino=False, picture=False)


def cohort(folder: Path, cases: int) -> Path:
    """Generated volumes of 32 x 48 x 32 voxels, about as large as the hippocampus crops of the Decathlon."""
    for number in range(cases):
        write_volume(folder / f"{number:04d}.nii.gz", number)
    return folder


def throughput(given: Path, out: Path, workers: int | None, threads: int | None) -> float:
    """Cases per second, the start of the workers included."""
    started = time.perf_counter()
    outcome = segment_files(given, MODEL, out, SETTINGS, workers, threads)
    assert outcome.state.done == outcome.state.cases
    return outcome.state.done / (time.perf_counter() - started)


def overhead(folder: Path, cases: int) -> dict[str, float]:
    """Milliseconds a case of a long manifest with a threshold in place of the network, and the client's peak memory."""
    image = write_volume(folder / "image.nii.gz")
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as stream:
        csv.writer(stream).writerows([("case", "T1"), *((f"case {number:06d}", image.name) for number in range(cases))])
    started = time.perf_counter()
    outcome = segment_files(manifest, MODEL, folder / "out", SETTINGS, 2, 1, work=("batch_cases", "QuickWork"))
    assert outcome.state.done == cases
    return {"ms": (time.perf_counter() - started) / cases * 1e3, "client_bytes": own_peak()}


if __name__ == "__main__":
    job, folder, *numbers = sys.argv[1:]
    if job == "cohort":
        print(json.dumps({"folder": str(cohort(Path(folder), int(numbers[0])))}))
    elif job == "throughput":
        given, *options = numbers
        workers, threads = (int(text) or None for text in options)
        print(json.dumps({"cases_per_second": throughput(Path(given), Path(folder), workers, threads)}))
    elif job == "overhead":
        print(json.dumps(overhead(Path(folder), int(numbers[0]))))
