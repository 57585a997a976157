"""RT Structure Sets for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dicom_series import image
from pydicom.dataset import Dataset, FileDataset


def structures(folder: Path, contours: dict[str, list[np.ndarray]]) -> Path:
    """An RT Structure Set as radiotherapy writes it."""
    data: FileDataset = image(np.zeros((2, 2), np.int16), Modality="RTSTRUCT")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(data, name)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    data.StructureSetROISequence, data.ROIContourSequence = [], []
    for number, (name, polygons) in enumerate(contours.items(), 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in polygons:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{value:.8g}" for value in points.ravel()]
            drawn.ContourSequence.append(contour)
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(drawn)
    data.save_as(folder / "structures.dcm", enforce_file_format=True)
    return folder / "structures.dcm"
