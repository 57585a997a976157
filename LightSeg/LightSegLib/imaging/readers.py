"""Image files as volumes: NIfTI, NRRD, MetaImage, and folders with one DICOM series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .affine import shear_degrees, snapped, straightened
from .dicom.files import is_dicom
from .dicom_reader import read_dicom
from .geometry import Geometry, triple
from .headers import check_header
from .nifti import is_nifti, read_nifti
from .volume import Volume, check_voxels

ITK_FORMATS = ("NrrdImageIO", "MetaImageIO")  # that are read by ITK; others by readers of our own
IMAGE_ENDINGS = (".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha", ".mhd")


def read_volume(path: str | Path, series: Sequence[Path] = (), part: str = "", allow_gaps: bool = False) -> Volume:
    """Read NIfTI, NRRD, MetaImage, a multi-frame DICOM file or a folder with one DICOM series, at right angles.

    An image on a sheared grid is interpolated once (see `affine.straightened`), with a notice.
    series: the files of the one to read among several DICOM series in the folder. part: which volume of a series that
    holds several (see `dicom.series.Stack`). allow_gaps: interpolate where slices of a DICOM series are missing.

    Raises InputError when the path is missing, unreadable, or holds anything but one scalar 3D image.
    """
    path = Path(path)
    if _holds_dicom(path):
        volume = read_dicom(path, series, part, allow_gaps)
        check_voxels(volume.voxels, path.name)
        return volume
    name = path.name
    voxels, geometry, notices, reading = _read(path)
    check_voxels(voxels, name)
    if snapped(geometry) is None:
        angle = round(shear_degrees(geometry), 2)
        voxels, geometry = straightened(voxels, geometry)
        size, spacing = (" x ".join(f"{n:.4g}" for n in of) for of in (geometry.shape[::-1], geometry.spacing))
        notices += (
            f"The axes of {name} are {angle:g} degrees off right angles, so it was interpolated onto {size} voxels of "
            f"{spacing} mm at right angles. The result is on that grid, at the same place, not on the file's.",
        )
        reading["straightened_degrees"] = angle
    return Volume(voxels, geometry, name.split(".")[0] or "volume", reading, notices)


def read_grid(path: str | Path) -> tuple[np.ndarray, Geometry]:
    """Voxels [k, j, i] and geometry of a file, without judging the voxels (label maps may be constant).

    The voxels are those of the file, and files with one matrix have one geometry, sheared where it is.
    """
    path = Path(path)
    if _holds_dicom(path):
        volume = read_dicom(path)
        return volume.voxels, volume.geometry
    return _read(path)[:2]


def read_labels(path: str | Path) -> tuple[np.ndarray, Geometry]:
    """As `read_grid`, but on the grid that `read_volume` gives to an image with the same matrix: the nearest voxels."""
    voxels, geometry = read_grid(path)
    return straightened(voxels, geometry, labels=True) if snapped(geometry) is None else (voxels, geometry)


def _read(path: Path) -> tuple[np.ndarray, Geometry, tuple[str, ...], dict[str, Any]]:
    """Voxels, geometry without the shear that rounding explains, notices and facts."""
    try:
        if not path.exists():
            raise InputError(_("{file} does not exist. Check the path and the spelling.").format(file=path))
        if path.is_file() and is_nifti(path):
            image = read_nifti(path)
            voxels, geometry, notices, facts = image.voxels, image.geometry, image.notices, image.facts
        else:
            (voxels, geometry), notices, facts = _by_itk(path), (), {}
    except OSError as error:
        raise InputError(
            _("{file} cannot be opened ({reason}). Check its permissions or choose another file.").format(
                file=path, reason=error.strerror or error
            )
        ) from error
    except RuntimeError as error:
        raise InputError(
            _(
                "{file} cannot be read as an image ({itk_reason}). Use NIfTI, NRRD, "
                "MetaImage or a folder with one DICOM series."
            ).format(file=path.name, itk_reason=_itk_reason(error))
        ) from error
    if (near := snapped(geometry)) is not None:
        geometry, moved = near
        facts |= {"snapped_voxels": round(moved, 4)} if moved >= 1e-4 else {}
    return voxels, geometry, notices, facts


def _by_itk(path: Path) -> tuple[np.ndarray, Geometry]:
    import SimpleITK as sitk

    check_header(path)
    format_name = sitk.ImageFileReader.GetImageIOFromFileName(str(path))
    if format_name not in ("", *ITK_FORMATS):  # without one, reading says why
        raise InputError(
            _(
                "{file} is in a format ({removesuffix}) whose place ITK does not read as its standard says. "
                "Convert it to NIfTI or NRRD; give a DICOM file the ending .dcm."
            ).format(file=path.name, removesuffix=format_name.removesuffix("ImageIO"))
        )
    image = sitk.ReadImage(str(path))
    name = path.name
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(
            _(
                "{name} has {GetNumberOfComponentsPerPixel} components per voxel. Save one component, "
                "or each channel, as a file of its own."
            ).format(name=name, GetNumberOfComponentsPerPixel=image.GetNumberOfComponentsPerPixel())
        )
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise InputError(
            _("{name} has {GetDimension} dimensions. Choose a three-dimensional image, for example one frame.").format(
                name=name, GetDimension=image.GetDimension()
            )
        )
    voxels = sitk.GetArrayFromImage(image)
    geometry = Geometry(
        (voxels.shape[0], voxels.shape[1], voxels.shape[2]),
        triple(image.GetSpacing()),
        triple(image.GetOrigin()),
        tuple(map(float, image.GetDirection())),
    )
    return voxels, geometry


def _holds_dicom(path: Path) -> bool:
    """Whether the path is read as DICOM: a folder, or a file that says so."""
    try:
        return path.is_dir() or (not path.name.lower().endswith(IMAGE_ENDINGS) and is_dicom(path))
    except OSError:  # whoever opens it next tells why it cannot be
        return False


def _itk_reason(error: RuntimeError) -> str:
    """The last line of ITK's message that says something, without its C++ prefix."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].split("): ")[-1].rstrip(".") if lines else "unknown reason"


def case_name(path: Path) -> str:
    """File name without its image ending: what pairs a prediction with its label map."""
    ending = next((ending for ending in IMAGE_ENDINGS if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]
