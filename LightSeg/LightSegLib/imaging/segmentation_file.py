"""3D Slicer's segmentation files: labels that may be stored as the part of the image that has any.

The pairs are those of the documentation of Slicer's module Segmentations, "Segmentation file format (.seg.nrrd)".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .geometry import Geometry, triple
from .headers import finite, whole

OFFSET = "Segmentation_ReferenceImageExtentOffset"
PARAMETERS = "Segmentation_ConversionParameters"
REFERENCE = "Reference image geometry|"


def on_reference(voxels: np.ndarray, geometry: Geometry, pairs: Mapping[str, str]) -> tuple[np.ndarray, Geometry]:
    """Return labels [k, j, i] and geometry on the whole image on which the segments were drawn, where a file names it.

    Args:
        voxels: those of the file.
        geometry: theirs.
        pairs: key/value pairs of the file's header.
    """
    first = [whole(word) for word in pairs.get(OFFSET, "").split()]
    size = _reference_size(pairs.get(PARAMETERS, ""))
    if len(first) != 3 or None in first or size is None:
        return voxels, geometry
    before = np.array(first, int)
    after = size - before - voxels.shape[::-1]
    if (before < 0).any() or (after < 0).any() or not (before.any() or after.any()):
        return voxels, geometry
    padded = np.pad(voxels, list(zip(before[::-1], after[::-1], strict=True)))
    origin = (geometry.index_to_world @ [*-before, 1])[:3]
    return padded, replace(geometry, shape=padded.shape, origin=triple(origin))


def segment_names(pairs: Mapping[str, str]) -> dict[int, str]:
    """Return the names of the label values that a header describes."""
    values = {
        key.removesuffix("_LabelValue"): whole(value) for key, value in pairs.items() if key.endswith("_LabelValue")
    }
    return {
        value: name
        for segment, value in values.items()
        if value is not None and (name := pairs.get(f"{segment}_Name", ""))
    }


def _reference_size(parameters: str) -> np.ndarray | None:
    """Voxels along i, j and k of the reference: 16 numbers of its matrix, then the first and last along each axis."""
    text = parameters.partition(REFERENCE)[2].partition("|")[0]
    numbers = [finite(word) for word in text.split(";") if word]
    if len(numbers) != 22 or not np.isfinite(numbers).all():
        return None
    ends = np.array(numbers[16:]).reshape(3, 2)
    size = ends[:, 1] - ends[:, 0] + 1
    known = (ends[:, 0] == 0).all() and (size == np.rint(size)).all() and (size < 1e5).all() and size.prod() < 1e11
    return size.astype(int) if known else None
