"""Write segmentations as files that Slicer and others read."""

from __future__ import annotations

import errno
import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..catalog.terminology import TAG, terminology_entry
from ..core.atomic_io import atomic_write, check_folder
from ..core.errors import OutputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from .geometry import Geometry
from .label_files import write_nifti, write_nrrd
from .source_images import SourceImages, source_images
from .volume import Segmentation, Volume
from .write_check import check_written

PROVENANCE = "LightSeg_Provenance"  # field of a .seg.nrrd file's header
NIFTI_ENDINGS = (".nii.gz", ".nii")
DICOM_ENDING = ".dcm"
ENDINGS = (".seg.nrrd", ".nrrd", *NIFTI_ENDINGS, DICOM_ENDING)
STRUCTURES_ENDING = ".rtstruct.dcm"


def write_segmentation(
    segmentation: Segmentation,
    path: str | Path,
    source: SourceImages | None = None,
    reproducible_uids: bool = False,
) -> None:
    """Write labels as `.seg.nrrd`, `.nrrd`, `.nii.gz` or `.nii` on the input's grid, or as `.dcm` on its slices.

    `.seg.nrrd` is 3D Slicer's segmentation file: it also holds the names, colors, terminology and provenance.

    Args:
        segmentation: labels; voxels become uint8, or uint16 where a label value needs it.
        path: of the file; its ending is the format.
        source: the images that a DICOM segmentation refers to, as `source_of` gives them.
        reproducible_uids: give equal DICOM segmentations the same UIDs.

    Raises:
        OutputError: with nothing left behind, for an unknown ending, a missing or unwritable folder, a full disk, for a
            sheared grid in NIfTI, which cannot hold one, and for `.dcm` without a source.
    """
    path = Path(path)
    check_output(path)
    if path.name.lower().endswith(DICOM_ENDING):
        _write_dicom(segmentation, path, source, reproducible_uids)
        return
    check_holds(path, segmentation.geometry)
    largest = max(label.value for label in segmentation.labels)
    voxels = segmentation.voxels.astype(np.uint8 if largest <= 255 else np.uint16)
    with atomic_write(path) as part:
        if path.name.lower().endswith(NIFTI_ENDINGS):
            write_nifti(part, voxels, segmentation.geometry)
        else:
            described = path.name.lower().endswith(".seg.nrrd")
            write_nrrd(part, voxels, segmentation.geometry, _segment_metadata(segmentation) if described else {})
        check_written(part, voxels)


def source_of(path: str | Path, volume: Volume) -> SourceImages | None:
    """Return the images that an output file refers to, None unless it is a DICOM file; ask before a long computation.

    Args:
        path: of the file to write.
        volume: the one that is segmented.

    Raises:
        OutputError: for a volume that is not of a DICOM series, and without the package highdicom.
        InputError: for a series that no DICOM segmentation can refer to.
    """
    if not Path(path).name.lower().endswith(DICOM_ENDING):
        return None
    if volume.slices is None:
        raise _no_series(Path(path))
    from .dicom_segmentation_writer import check_writable

    source = source_images(volume.slices)
    check_writable(source)
    return source


def output_notices(source: SourceImages | None) -> list[Message]:
    """Return what a DICOM file has less than the result that is reported, as `source_of` gives its images."""
    if source is None or not source.grid.gaps:
        return []
    notice = _(
        "The volumes include the slices that were interpolated in gaps of the series (number of gaps: {count}), but "
        "the DICOM segmentation has only the slices of the series. Write .seg.nrrd or NIfTI to keep all of the result."
    )
    return [notice.format(count=len(source.grid.gaps))]


def _write_dicom(segmentation: Segmentation, path: Path, source: SourceImages | None, reproducible_uids: bool) -> None:
    """Write a DICOM segmentation, and read it again before it gets its name."""
    from .dicom_segmentation_reader import read_dicom_segmentation
    from .dicom_segmentation_writer import write_dicom
    from .source_images import on_original_slices

    if source is None:
        raise _no_series(path)
    with atomic_write(path) as part:
        write_dicom(segmentation, part, source, reproducible_uids)
        written = on_original_slices(segmentation.voxels, segmentation.geometry, source.grid)
        if not read_dicom_segmentation(part).holds(written, source.grid.places):
            raise OSError(errno.EIO, "the file could not be written completely")


def _no_series(path: Path) -> OutputError:
    """Return the error for a DICOM file of something else than a DICOM series."""
    return OutputError(
        _(
            "{file} would be a DICOM segmentation, which refers to the slices of a DICOM series, but the input "
            "is not one. Choose the DICOM series as input, or write .seg.nrrd or NIfTI."
        ).format(file=path.name)
    )


def check_output(path: str | Path, endings: tuple[str, ...] = ENDINGS) -> None:
    """Check, before a long computation, that an output file can be written.

    Raises:
        OutputError: now for a file that could not be written later: ask before a long computation.
    """
    path = Path(path)
    if not path.name.lower().endswith(endings):
        raise OutputError(
            _("{file} does not have a supported file extension. Use one of {endings}.").format(
                file=path.name or repr(str(path)), endings=", ".join(endings)
            )
        )
    if path.name.lower().endswith(STRUCTURES_ENDING):
        raise OutputError(
            _(
                "{file} would be a set of contours (RTSTRUCT), which LightSeg does not write. Use .dcm or .seg.nrrd."
            ).format(file=path.name)
        )
    if path.name.lower() in endings:
        raise OutputError(
            _("{file} would be a hidden file without a name. Write a name before the extension.").format(file=path)
        )
    try:
        with suppress(FileNotFoundError):
            path.lstat()
        if path.is_dir():
            raise OutputError(_("{file} is a folder. Give the name of the file to write.").format(file=path))
        check_folder(path.parent)
    except (OSError, ValueError) as error:  # too long, or with characters that no name has
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(
            _("{file} cannot be written ({reason}). Choose another name.").format(file=path, reason=reason)
        ) from error


def check_holds(path: str | Path, geometry: Geometry) -> None:
    """Check that the format of an output file can hold a grid.

    Raises:
        OutputError: if the file format of `path` cannot hold this grid.
    """
    if Path(path).name.lower().endswith(NIFTI_ENDINGS) and not geometry.is_orthogonal:
        raise OutputError(
            _(
                "The image axes are not at right angles, which NIfTI cannot store. "
                "Write .seg.nrrd or .nrrd instead, which keep the grid."
            )
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
        PROVENANCE: json.dumps(segmentation.provenance, default=str),
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
