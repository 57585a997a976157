"""Write results to disk, whole or not at all: a file appears under its name only when it is complete."""

from __future__ import annotations

import csv
import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .catalog.terminology import TAG, terminology_entry
from .errors import OutputError
from .volume import Geometry, Segmentation, to_sitk

NIFTI_ENDINGS = (".nii.gz", ".nii")
ENDINGS = (".seg.nrrd", ".nrrd", *NIFTI_ENDINGS)


def write_segmentation(segmentation: Segmentation, path: str | Path) -> None:
    """Write labels on the input's grid as `.seg.nrrd`, `.nrrd`, `.nii.gz` or `.nii`.

    `.seg.nrrd` is 3D Slicer's segmentation file: it also holds the names, colours, terminology and
    provenance. Voxels are uint8, or uint16 where a label value needs it.

    Raises OutputError, with nothing left behind, for an unknown ending, a missing or unwritable
    folder, a full disk, and for a sheared grid in NIfTI, which cannot hold one.
    """
    path = Path(path)
    check_output(path)
    check_holds(path, segmentation.geometry)
    largest = max(label.value for label in segmentation.labels)
    image = to_sitk(segmentation.voxels.astype(np.uint8 if largest <= 255 else np.uint16), segmentation.geometry)
    if path.name.lower().endswith(".seg.nrrd"):
        for key, value in _segment_metadata(segmentation).items():
            image.SetMetaData(key, value)
    with whole_file(path) as part:
        _write_image(image, part)


def write_table(rows: Iterable[Iterable[object]], path: str | Path) -> None:
    """Write rows, the header first, as CSV. Raises OutputError as `write_segmentation` does."""
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def check_output(path: str | Path, endings: tuple[str, ...] = ENDINGS) -> None:
    """Raise OutputError now for a file that could not be written later: ask before a long computation."""
    path = Path(path)
    if not path.name.lower().endswith(endings):
        raise OutputError(f"{path.name} has no ending that can be written. Use one of {', '.join(endings)}.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Give the name of the file to write.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist. Create it or choose another one.")
    try:
        # Asking the file system beats reading permissions: it also knows of read-only and network disks.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _output_error(path, error) from error


def check_holds(path: str | Path, geometry: Geometry) -> None:
    """Raise OutputError where the file format of `path` cannot hold this grid."""
    if Path(path).name.lower().endswith(NIFTI_ENDINGS) and not geometry.is_orthogonal:
        raise OutputError(
            "The image's axes are not at right angles, which NIfTI cannot hold. "
            "Write .seg.nrrd or .nrrd, which keep the grid as it is."
        )


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it on success and removed on failure.

    Raises OutputError for what goes wrong with the file system meanwhile.
    """
    path = Path(path)
    # The ending stays last because SimpleITK chooses the format by it.
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def _write_image(image: Any, path: Path) -> None:
    """Write and read back: some of ITK's formats lose voxels on a full disk without a word."""
    import SimpleITK as sitk

    try:
        sitk.WriteImage(image, str(path), True)
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise OSError(errno.ENOSPC, "the file could not be written completely") from error
    if not np.array_equal(written, sitk.GetArrayViewFromImage(image)):
        raise OSError(errno.ENOSPC, "the file could not be written completely")


def _output_error(path: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            f"{path.name} could not be written completely: the disk is full or a quota is reached. "
            f"Make room in {path.parent} or choose another folder."
        )
    return OutputError(
        f"The folder {path.parent} is not writable ({error.strerror or error}). "
        "Choose another folder or change its permissions."
    )


def _segment_metadata(segmentation: Segmentation) -> dict[str, str]:
    """Header fields of Slicer's segmentation file (documentation of Slicer's module Segmentations, "File formats").

    All labels share one layer, so the file is one label map that any NRRD reader understands.
    """
    k, j, i = segmentation.geometry.shape
    fields = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        "LightSeg_Provenance": json.dumps(segmentation.provenance, default=str),
    }
    for number, label in enumerate(segmentation.labels):
        segment = {
            "ID": f"Segment_{label.value}",
            "Name": label.name,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{part / 255:.6f}" for part in label.color),
            "ColorAutoGenerated": "0",
            "LabelValue": str(label.value),
            "Layer": "0",
            "Extent": f"0 {i - 1} 0 {j - 1} 0 {k - 1}",
            "Tags": f"{TAG}:{terminology_entry(label.terminology)}|" if label.terminology else "",
        }
        fields |= {f"Segment{number}_{key}": value for key, value in segment.items()}
    return fields
