"""The attributes of a DICOM data set as they are written."""

from __future__ import annotations

from typing import Any

from .frames import Stored

PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
WRITTEN = ("DS", "IS", "CS", "UI", "DA")  # kinds of values that are plain text (PS3.5, section 6.2)


def texts(data: Any, name: str) -> tuple[str, ...]:
    """Return the values of an attribute as they are written, empty where there are none: numbers keep their digits."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(name)
    if tag is None or tag not in data:
        return ()
    element = data.get_item(tag)
    known = getattr(element, "VR", None)
    if isinstance(element.value, bytes) and (dictionary_VR(tag) if known in (None, "UN") else known) in WRITTEN:
        return tuple(part.strip(" \0") for part in element.value.decode("ascii", "replace").split("\\"))
    value = data[tag].value
    if value is None:
        return ()
    parts = [value] if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") else value
    return tuple(str(part).strip(" \0") for part in parts)


def text(data: Any, name: str) -> str:
    """Return the first value, or nothing."""
    return next(iter(texts(data, name)), "")


def stored(data: Any) -> Stored:
    """Return how a data set stores its voxels."""
    bits = int(data.get("BitsStored") or data.get("BitsAllocated") or 0)
    high = data.get("HighBit")
    return Stored(bits, bits - 1 if high is None else int(high), bool(data.get("PixelRepresentation")))
