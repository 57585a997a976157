"""Messages between the two processes: JSON objects, one per line; voxels are in memory-mapped files beside them.

Client to server, one per job; for one that segments voxels:
    {"model", "volumes": [volume], "roi": [[x, y, z], ...] or null, "options": {...}, "folder"}
Server to client, once, when it waits for jobs:
    {"ready": true}
and for each job, any number of the first, then one of the others:
    {"progress": {...}}
    the answer, for voxels {"segmentation": {...}}
    {"error": class of `errors`, or null for a fault of the program, "message"}
Texts for the user keep their template and fields, so that the window can translate them (`i18n.dumps`).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..catalog.card import Total
from ..catalog.card_file import label_from_dict, label_to_dict
from ..core import errors
from ..core.atomic_io import output_error
from ..core.errors import LightSegError
from ..core.i18n import tr as _
from ..core.packages import torch_failure
from ..core.plain_text import plain, without_secrets
from ..imaging.geometry import Geometry
from ..imaging.nifti_forms import NiftiForms
from ..imaging.volume import Segmentation, Volume

READY = {"ready": True}
_CLASSES = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, LightSegError)
}


def volume_message(volume: Volume, folder: Path, number: int) -> dict[str, Any]:
    """Write a volume's voxels to `folder`, in their type, and return the message that describes it."""
    return {
        "voxels": _written(volume.voxels, folder, f"volume-{number}"),
        "name": volume.name,
        "geometry": asdict(volume.geometry),
        "reading": volume.reading,
        "notices": list(volume.notices),
    }


def volume_of(message: dict[str, Any]) -> Volume:
    """Return the volume of a message; its voxels stay in their file, mapped into memory."""
    return Volume(
        np.load(message["voxels"], mmap_mode="r"),
        _geometry(message["geometry"]),
        message["name"],
        message["reading"],
        tuple(message["notices"]),
    )


def segmentation_message(segmentation: Segmentation, folder: Path) -> dict[str, Any]:
    """Write labels, and confidence if there is one, to `folder`, and return their message."""
    confidence = segmentation.confidence
    return {
        "voxels": _written(segmentation.voxels, folder, "labels"),
        "confidence": None if confidence is None else _written(confidence, folder, "confidence"),
        "geometry": asdict(segmentation.geometry),
        "labels": [label_to_dict(label) for label in segmentation.labels],
        "totals": [asdict(total) for total in segmentation.totals],
        "provenance": segmentation.provenance,
    }


def segmentation_of(message: dict[str, Any]) -> Segmentation:
    """Return the segmentation of a message, in memory of its own, so that the files may be removed."""
    return Segmentation(
        np.load(message["voxels"]),
        _geometry(message["geometry"]),
        tuple(label_from_dict(label) for label in message["labels"]),
        message["provenance"],
        None if message["confidence"] is None else np.load(message["confidence"]),
        tuple(Total(total["name"], tuple(total["labels"])) for total in message["totals"]),
    )


def error_message(error: BaseException) -> dict[str, Any]:
    """Return the message of an error.

    A fault of the program is reported as one; the details are in the log.
    """
    error = torch_failure(error) or error
    text = error.args[0] if isinstance(error, LightSegError) else plain(without_secrets(str(error)))
    # Of an error that another module defines, the nearest class that the receiver knows.
    known = (kind.__name__ for kind in type(error).__mro__ if _CLASSES.get(kind.__name__) is kind)
    return {"error": next(known, None), "message": text or type(error).__name__}


def error_of(message: dict[str, Any]) -> LightSegError:
    """Return the error of a message, as it was raised in the other process."""
    if message["error"] is None:
        return LightSegError(
            _(
                "The computation failed because of an error in LightSeg ({reason}). Report it together with the log."
            ).format(reason=message["message"])
        )
    return _CLASSES.get(message["error"], LightSegError)(message["message"])


def _written(voxels: np.ndarray, folder: Path, name: str) -> str:
    """Write voxels to a file in `folder` and return its path.

    Raises:
        OutputError: of a full disk for one.
    """
    path = folder / f"{name}.npy"
    try:
        np.save(path, voxels)
    except OSError as error:
        raise output_error(path, error) from error
    return str(path)


def _geometry(fields: dict[str, Any]) -> Geometry:
    """Return the geometry of a message."""
    forms = fields["nifti"] and NiftiForms(**fields["nifti"])
    return Geometry(**{name: tuple(value) for name, value in fields.items() if name != "nifti"}, nifti=forms)
