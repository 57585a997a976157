"""Cohorts for the tests of batch: small volumes, and workers that fail in the ways that workers do."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import run_options
import SimpleITK as sitk
from LightSegLib.batch.case_processor import CaseProcessor
from LightSegLib.batch.engine import Engine
from LightSegLib.batch.progress import Callbacks, StateCallback
from LightSegLib.batch.run import Outcome, segment_files
from LightSegLib.batch.settings import Batch, Settings
from LightSegLib.core import leftovers
from LightSegLib.core.errors import DeviceError
from LightSegLib.core.progress import CancelCallback, Progress, ProgressCallback
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.volume import Segmentation, Volume
from waiting import gone, wait_until

TESTING = Path(__file__).resolve().parent
MODEL = "hippocampus-mr-lightmedseg"
PLAIN = Settings(run_options.PLAIN, picture=False)
QUICK, MORTAL = ("batch_cases", "QuickProcessor"), ("batch_cases", "MortalProcessor")  # kinds of work, below
BFLOAT, UNABLE = ("batch_cases", "BfloatWork"), ("batch_cases", "UnableWork")
MIXED, HESITANT = ("batch_cases", "MixedWork"), ("batch_cases", "HesitantWork")
SHAPE = (32, 48, 32)
NO_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
BOTH_ENGINES = pytest.mark.parametrize("engine", ["local", pytest.param("dask", marks=pytest.mark.slow)])
DEADLY = 666  # in the first voxel: the worker that reads it dies
DEADLIER = 667  # and this one takes along who started the worker
SLOW = 1000  # in the first voxel: the worker computes until the test lets it go on


def blobs(seed: int, first_voxel: int | None = None, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Voxels [k, j, i] in which the bundled model finds something."""
    random = np.random.default_rng(seed)
    voxels = (np.cumsum(random.normal(size=shape), axis=1) * 50).astype(np.int16)
    if first_voxel is not None:
        voxels[0, 0, 0] = first_voxel
    return voxels


def write_volume(path: Path, seed: int = 0, first_voxel: int | None = None) -> Path:
    """An image file with a spacing of 1 x 1 x 1.5 mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(to_sitk(blobs(seed, first_voxel), Geometry(SHAPE, (1, 1, 1.5))), str(path))
    return path


def write_cohort(folder: Path, cases: int = 3) -> Path:
    for number in range(cases):
        write_volume(folder / f"Fall {number}.nii.gz", number)
    return folder


def write_series(folder: Path, seed: int = 0, modality: str = "MR", slices: int = 32, **tags: str) -> None:
    """A DICOM series, a file for each slice, beside what is in the folder already."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = f"1.2.826.0.1.3680043.2.1125.{seed + 1}"
    common = {
        "0008|0060": modality,
        "0010|0020": tags.get("patient", "P1"),
        "0008|0020": "20200131",
        "0020|000d": tags.get("study", "1.2.826.0.1.3680043.2.1125.900"),
        "0020|000e": uid,
        "0020|0011": tags.get("number", str(seed + 1)),
        "0008|103e": tags.get("description", "T1 MPRAGE"),
        "0008|0008": tags.get("image_type", "ORIGINAL\\PRIMARY\\AXIAL"),
        "0020|0037": "1\\0\\0\\0\\1\\0",
    }
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, voxels in enumerate(blobs(seed)[:slices]):
        image = sitk.GetImageFromArray(voxels[None])
        own = {
            "0008|0018": f"{uid}.{number + 1}",
            "0020|0032": f"0\\0\\{1.5 * number}",
            "0020|0013": str(number + 1),
        }
        for tag, value in (common | own).items():
            image.SetMetaData(tag, value)
        image.SetSpacing((1, 1, 1.5))
        image.SetOrigin((0, 0, 1.5 * number))
        writer.SetFileName(str(folder / f"{seed}-{number:03d}.dcm"))
        writer.Execute(image)


# --- kinds of work ---


class QuickProcessor(CaseProcessor):
    """As in a batch, with a threshold in place of the network: what is measured or tested is all the rest."""

    own_backend = "float32"

    def segment(self, volumes: list[Volume], batch: Batch, threads: int, progress: ProgressCallback) -> Segmentation:
        (volume,) = volumes
        labels = (volume.voxels > 0).astype(np.uint8)
        sure = np.full(labels.shape, 75, np.uint8)
        how = {
            "device": "cpu",
            "computed_in": batch.backend or self.own_backend,
            "processor": "any",
            "libraries": {"numpy": np.__version__},
        }
        return Segmentation(labels, volume.geometry, self.card(batch).labels, how, sure)

    def backend(self, batch: Batch) -> str:
        return batch.backend or self.own_backend


class BfloatWork(QuickProcessor):
    """Of a computer that computes in bfloat16."""

    own_backend = "bfloat16"


class UnableWork(BfloatWork):
    """Of a cluster in which one computer decides for bfloat16, which the others lack."""

    def backend(self, batch: Batch) -> str:
        if batch.backend:
            raise DeviceError("This computer does not compute in bfloat16. Choose the precision float32.")
        return self.own_backend


class MixedWork(QuickProcessor):
    """Of a computer that computes with what its environment specifies."""

    own_backend = os.environ.get("TEST_BACKEND", "float32")


class HesitantWork(QuickProcessor):
    """Of a computer that takes its time to load the model: until `let_decide`."""

    def backend(self, batch: Batch) -> str:
        if not batch.backend:
            _note(batch.out, "deciding", str(os.getpid())).touch()
            wait_until(_note(batch.out, "go on with", "deciding").exists)
        return super().backend(batch)


class MortalProcessor(QuickProcessor):
    """A DEADLY case kills its worker, a SLOW one lasts until `let_go`. Workers leave their numbers in the results."""

    def segment(self, volumes: list[Volume], batch: Batch, threads: int, progress: ProgressCallback) -> Segmentation:
        (batch.out / f"pid-{os.getpid()}").touch()
        first = volumes[0].voxels[0, 0, 0]
        if first == DEADLIER:
            os.kill(os.getppid(), signal.SIGKILL)
        if first in (DEADLY, DEADLIER):
            os.kill(os.getpid(), signal.SIGKILL)
        if first == SLOW:
            case = volumes[0].name
            _note(batch.out, "computing", case).write_text(str(os.getpid()), encoding="ascii")

            def may_go_on() -> bool:
                progress(Progress("Computing"))
                return _note(batch.out, "go on with", case).exists()

            wait_until(may_go_on)
        return super().segment(volumes, batch, threads, progress)


def _note(out: Path, words: str, case: str) -> Path:
    """A file by which a worker and a test signal each other about a SLOW case."""
    return out / f"{words} {case}"


def computing(out: Path, case: str) -> int | None:
    """The process that computes a SLOW case, or None before it has begun."""
    note = _note(out, "computing", case)
    return int(text) if note.exists() and (text := note.read_text(encoding="ascii")) else None


def let_go(out: Path, *cases: str) -> None:
    """From now on these SLOW cases are as quick as others."""
    out.mkdir(exist_ok=True)
    for case in cases:
        _note(out, "go on with", case).touch()


def deciding(out: Path) -> int:
    """How many HESITANT workers were asked for the backend of a batch."""
    return len([*out.glob("deciding *")])


def let_decide(out: Path) -> None:
    """From now on these workers decide at once."""
    let_go(out, "deciding")


# --- what has become of a batch ---


def table(out: Path) -> dict[str, dict[str, str]]:
    """Lines of results.csv by case; what they state about files is true, and there are not others."""
    with (out / "results.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    rows = {line["case"]: line for line in lines}
    assert len(rows) == len(lines), "one line for each case"
    done = {case for case, row in rows.items() if row["status"] == "done"}
    assert {path.name for path in out.glob("*.nrrd")} == {f"{case}.seg.nrrd" for case in done}
    assert not [*out.rglob("*.part*")], "no half files"
    for case in done:
        voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(out / f"{case}.seg.nrrd")))
        ml = [float(text) for name, text in rows[case].items() if name.endswith("(ml)")]
        np.testing.assert_allclose(ml, [np.count_nonzero(voxels == value) * 0.0015 for value in (1, 2)], atol=5.1e-4)
    return rows


def records(out: Path) -> dict[str, int]:
    """When the record of each case was written."""
    return {path.stem: path.stat().st_mtime_ns for path in (out / ".records").glob("[!.]*.json")}


def run_batch(
    cohort: Path | str,
    model: str,
    out: Path | str,
    settings: Settings,
    on_state: StateCallback | None = None,
    canceled: CancelCallback | None = None,
    **engine: Any,
) -> Outcome:
    """`segment_files` on an engine with these fields; with a scheduler it is Dask's."""
    if "scheduler" in engine:
        engine["name"] = "dask"
    return segment_files(
        cohort, model, out, settings, Engine(**engine), Callbacks(on_state=on_state, canceled=canceled)
    )


def counts(outcome: Outcome) -> tuple[int, int, int]:
    return outcome.state.done, outcome.state.skipped, outcome.state.failed


def worker_pids(out: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in out.glob("pid-*")]


def half_file(out: Path) -> Path:
    """As a killed program leaves it, of a process that there cannot be."""
    path = out / f".lightseg-{leftovers._computer()}-99999999-{'0' * 32}.part.seg.nrrd"
    path.write_bytes(b"half")
    return path


def kill_a_client(cohort: Path, out: Path, slow: str, options: str) -> None:
    """Start a batch in a process of its own and kill it in the case `slow`, which is SLOW; its worker ends, too."""
    script = (
        f"import sys; sys.path[:0] = [{str(TESTING.parent / 'LightSeg')!r}, {str(TESTING)!r}]\n"
        "from batch_cases import MODEL, MORTAL, PLAIN, run_batch\n"
        f"run_batch({str(cohort)!r}, MODEL, {str(out)!r}, PLAIN, handler=MORTAL, {options})\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as client:
        wait_until(lambda: computing(out, slow))
        client.kill()
    assert client.returncode == -signal.SIGKILL
    (worker,) = worker_pids(out)
    wait_until(lambda: gone(worker))
