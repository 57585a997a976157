"""How many cases a batch does in a second, with either engine, and what a case costs besides its computation."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "LightSeg")]

import SimpleITK as sitk  # noqa: E402 (the path must be set first)
from batch_cases import blobs, write_volume  # noqa: E402
from LightSegLib.batch.engine import Engine  # noqa: E402
from LightSegLib.batch.run import segment_files  # noqa: E402
from LightSegLib.batch.settings import Settings  # noqa: E402
from LightSegLib.imaging.geometry import Geometry, to_sitk  # noqa: E402
from LightSegLib.inference.options import InferenceOptions  # noqa: E402
from measure import own_peak  # noqa: E402

MODEL = "hippocampus-mr-lightmedseg"
SETTINGS = Settings(InferenceOptions(device="cpu", openvino=False), picture=False)
TINY = (16, 16, 16)
REAL = HERE.parents[2] / "shared" / "data" / "hippocampus" / "images"


def cohort(folder: Path, cases: int) -> dict[str, str]:
    """Crops of the Decathlon's hippocampus where these are, or generated ones of about their size."""
    if REAL.is_dir() and len(list(REAL.iterdir())) >= cases:
        folder.mkdir()
        for path in sorted(REAL.iterdir())[:cases]:
            shutil.copy(path, folder)
        return {"folder": str(folder), "what": "crops of the hippocampus"}
    for number in range(cases):
        write_volume(folder / f"{number:04d}.nii.gz", number)
    return {"folder": str(folder), "what": "generated volumes"}


def throughput(input_path: Path, out: Path, engine: str, workers: int | None, threads: int | None) -> float:
    """Cases per second, the start of the workers included."""
    started = time.perf_counter()
    outcome = segment_files(input_path, MODEL, out, SETTINGS, Engine(engine, workers, threads))
    assert outcome.state.done == outcome.state.cases
    return outcome.state.done / (time.perf_counter() - started)


def write_manifest(folder: Path, cases: int) -> Path:
    """A long manifest of one tiny image."""
    folder.mkdir(parents=True)
    image = folder / "image.nii.gz"
    sitk.WriteImage(to_sitk(blobs(0, shape=TINY), Geometry(TINY, (1, 1, 1.5))), str(image))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as stream:
        csv.writer(stream).writerows([("case", "T1"), *((f"case {number:06d}", image.name) for number in range(cases))])
    return manifest


def overhead(folder: Path, engine: str, cases: int) -> dict[str, float]:
    """Milliseconds a case of a long manifest, tiny and with a threshold for a network, and the client's peak memory.

    The scheduler of a Dask cluster that is started for the batch is in the client.
    """
    manifest = write_manifest(folder, cases)
    started = time.perf_counter()
    quick = Engine(engine, 2, 1, handler=("batch_cases", "QuickProcessor"))
    outcome = segment_files(manifest, MODEL, folder / "out", SETTINGS, quick)
    assert outcome.state.done == cases
    return {"ms": (time.perf_counter() - started) / cases * 1e3, "client_bytes": own_peak()}


if __name__ == "__main__":
    job, folder, *words = sys.argv[1:]
    if job == "cohort":
        print(json.dumps(cohort(Path(folder), int(words[0]))))
    elif job == "throughput":
        input_path, engine, *numbers = words
        workers, threads = (int(text) or None for text in numbers)
        print(json.dumps({"cases_per_second": throughput(Path(input_path), Path(folder), engine, workers, threads)}))
    elif job == "overhead":
        print(json.dumps(overhead(Path(folder), words[0], int(words[1]))))
