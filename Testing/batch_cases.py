"""Cohorts for the tests of batch: small volumes, and workers that fail in the ways that workers do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from LightSegLib.batch.settings import Batch
from LightSegLib.batch.work import CaseWork
from LightSegLib.progress import ProgressCallback
from LightSegLib.volume import Geometry, Segmentation, Volume, to_sitk

SHAPE = (32, 48, 32)
DEADLY = 666  # in the first voxel: the worker that reads it dies
SLOW = 1000  # in the first voxel: the worker takes its time


def blobs(seed: int, first_voxel: int | None = None) -> np.ndarray:
    """Voxels [k, j, i] in which the bundled model finds something."""
    random = np.random.default_rng(seed)
    voxels = (np.cumsum(random.normal(size=SHAPE), axis=0) * 50).astype(np.int16)
    if first_voxel is not None:
        voxels[0, 0, 0] = first_voxel
    return voxels


def write_volume(path: Path, seed: int = 0, first_voxel: int | None = None) -> Path:
    """An image file with a spacing of 1 x 1 x 1.5 mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(to_sitk(blobs(seed, first_voxel), Geometry(SHAPE, (1, 1, 1.5))), str(path))
    return path


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


class QuickWork(CaseWork):
    """As in a batch, with a threshold in place of the network: what is measured or tested is all the rest."""

    def segment(self, volumes: list[Volume], batch: Batch, threads: int, progress: ProgressCallback) -> Segmentation:
        (volume,) = volumes
        labels = (volume.voxels > 0).astype(np.uint8)
        sure = np.full(labels.shape, 75, np.uint8)
        return Segmentation(labels, volume.geometry, self.card(batch).labels, {"device": "cpu"}, sure)


class MortalWork(QuickWork):
    """A DEADLY case kills its worker, and a SLOW one takes its time; workers leave their numbers among the results."""

    def segment(self, volumes: list[Volume], batch: Batch, threads: int, progress: ProgressCallback) -> Segmentation:
        (batch.out / f"pid-{os.getpid()}").touch()
        first = volumes[0].voxels[0, 0, 0]
        if first == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        if first == SLOW:
            time.sleep(1.5)
        return super().segment(volumes, batch, threads, progress)
