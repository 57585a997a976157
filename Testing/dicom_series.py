"""DICOM series for tests, written by pydicom: even, tilted, uneven, spoiled, and enhanced multi-frame files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

ROOT = "1.2.826.0.1.3680043.2.1125.77"
UPRIGHT = (1, 0, 0, 0, 1, 0)
ORIGIN = np.array([-10.0, -20.0, -30.0])
STEP = 1.5  # mm
SHAPE = (12, 20, 16)


def noise(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)


def above(k: int) -> np.ndarray:
    """The position of slice k in an axial series, in mm."""
    return ORIGIN + np.array([0, 0, STEP * k])


def text(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{value:.10g}"[:16]


def image(voxels: np.ndarray, number: int = 0, series: str = "1", **tags: Any) -> FileDataset:
    """One file of MR, at no place yet. number: from 0, of the instance. A tag that is None is left out."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage if tags.get("Modality") == "CT" else MRImageStorage
    meta.MediaStorageSOPInstanceUID = f"{ROOT}.{series}.{number + 1}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    common = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": f"{ROOT}.0",
        "SeriesInstanceUID": f"{ROOT}.{series}",
        "FrameOfReferenceUID": f"{ROOT}.0.1",
        "PatientID": "P1",
        "StudyDate": "20240101",
        "Modality": "MR",
        "SeriesNumber": 5,
        "SeriesDescription": "T1 MPRAGE",
        "InstanceNumber": number + 1,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Rows": voxels.shape[-2],
        "Columns": voxels.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": int(voxels.dtype == np.int16),
        "PixelData": voxels.tobytes(),
    }
    for name, value in (common | tags).items():
        if value is not None:
            setattr(data, name, value)
    return data


def slices(
    voxels: np.ndarray | None = None,
    position: Callable[[int], Sequence[float]] = above,
    orientation: Sequence[float] = UPRIGHT,
    spacing: Sequence[float] = (1.25, 0.75),
    **tags: Any,
) -> list[FileDataset]:
    """One data set for each slice. spacing: mm down a column and along a row."""
    return [
        image(
            plane,
            k,
            ImagePositionPatient=[text(value) for value in position(k)],
            ImageOrientationPatient=[text(value) for value in orientation],
            PixelSpacing=[text(value) for value in spacing],
            SliceThickness=text(STEP),
            **tags,
        )
        for k, plane in enumerate(noise() if voxels is None else voxels)
    ]


def write(folder: Path, data_sets: Sequence[FileDataset], first: int = 0) -> Path:
    """Files whose names do not sort like the data sets."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(data_sets, first):
        data.save_as(folder / file_name(number), enforce_file_format=True)
    return folder


def file_name(number: int) -> str:
    return f"IM{number * 7919 % 10007:05d}.dcm"


def world(data: Dataset, i: float, j: float) -> np.ndarray:
    """LPS mm of column i and row j by the standard's equation (PS3.3, C.7.6.2.1-1)."""
    row, column = np.array(data.ImageOrientationPatient[:3], float), np.array(data.ImageOrientationPatient[3:], float)
    down, along = (float(step) for step in data.PixelSpacing)
    return np.array(data.ImagePositionPatient, float) + row * along * i + column * down * j


def multiframe(frames: Sequence[tuple[int, np.ndarray, int]], **tags: Any) -> FileDataset:
    """An enhanced MR file of frames (number of the place, voxels, number of the echo)."""
    data = image(np.stack([voxels for _, voxels, _ in frames]), **tags)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    data.NumberOfFrames = len(frames)
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = list(UPRIGHT)
    measures.PixelSpacing, measures.SliceThickness = [1.25, 0.75], STEP
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = [_groups(k, echo) for k, _, echo in frames]
    return data


def _groups(k: int, echo: int) -> Dataset:
    frame, place, content, values = Dataset(), Dataset(), Dataset(), Dataset()
    place.ImagePositionPatient = [text(value) for value in above(k)]
    content.StackID, content.InStackPositionNumber, content.TemporalPositionIndex = "1", k + 1, echo + 1
    content.DimensionIndexValues = [k + 1, echo + 1]
    values.RescaleSlope, values.RescaleIntercept = echo + 1, 0
    frame.PlanePositionSequence, frame.FrameContentSequence = [place], [content]
    frame.PixelValueTransformationSequence = [values]
    return frame
