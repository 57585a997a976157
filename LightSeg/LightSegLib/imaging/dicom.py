"""DICOM series: which there are in a folder, and their slices as one image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError

IMAGE_POSITION = "0020|0032"  # DICOM tag of a slice's position in mm


def read_series(folder: Path, files: Sequence[Path]) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files] or _only_series(folder))
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    _check_slices(reader, folder, image.GetSize()[2])
    return image


def _only_series(folder: Path) -> Sequence[str]:
    import SimpleITK as sitk

    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise InputError(f"{folder.name} holds no DICOM series. Choose the folder that contains the .dcm files.")
    if len(series) > 1:
        raise InputError(
            f"{folder.name} holds {len(series)} DICOM series. Put the one to segment in a folder of its own."
        )
    return sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])


def _check_slices(reader: Any, folder: Path, count: int) -> None:
    """Raise InputError where slices of a series are missing: ITK would spread the others evenly over the gap."""
    if count < 3 or not all(reader.HasMetaDataKey(number, IMAGE_POSITION) for number in range(count)):
        return
    texts = [reader.GetMetaData(number, IMAGE_POSITION) for number in range(count)]
    positions = np.array([[float(part) for part in text.split("\\")] for text in texts])
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if steps.max() - steps.min() > 0.01 * np.median(steps) + 1e-3:
        raise InputError(
            f"The slices of {folder.name} are not evenly spaced ({steps.min():g} to {steps.max():g} mm apart): "
            "some are missing or doubled. Export the whole series again."
        )
