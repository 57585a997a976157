"""Volumes and segmentations: voxels that never travel without their geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError
from .headers import check_header

if TYPE_CHECKING:
    from .catalog.card import Label, Total

IMAGE_POSITION = "0020|0032"  # DICOM tag of a slice's position in mm
LARGEST_LABEL = 32767


@dataclass(frozen=True)
class Geometry:
    """Where voxels lie in the world, as SimpleITK states it: millimetres, LPS.

    spacing, origin: 3 numbers in x, y, z (i, j, k) order. direction: 3x3, its columns are the
    unit vectors of the i, j and k axes. shape: array order [k, j, i].
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        if not all(np.isfinite(self.spacing)) or min(self.spacing) <= 0:
            raise InputError(
                f"The image has a voxel spacing of {tuple(self.spacing)} mm, which is not positive. "
                "Correct the spacing in the file's header or export the image again."
            )
        direction = np.asarray(self.direction, float)
        if not np.isfinite(direction).all() or abs(np.linalg.det(direction.reshape(3, 3))) < 1e-3:
            raise InputError(
                "The image's direction matrix is singular. Export the image again with a valid orientation."
            )

    @property
    def index_to_world(self) -> np.ndarray:
        """4x4 matrix from voxel index (i, j, k, 1) to LPS position in mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres (1000 mm^3); holds for sheared grids too."""
        return float(abs(np.linalg.det(self.index_to_world[:3, :3]))) / 1000.0

    @property
    def is_orthogonal(self) -> bool:
        """False for sheared grids, such as a CT with gantry tilt that was never corrected."""
        direction = np.reshape(self.direction, (3, 3))
        return bool(np.allclose(direction.T @ direction, np.eye(3), atol=1e-3))

    @classmethod
    def from_index_to_world(cls, matrix: np.ndarray, shape: tuple[int, int, int]) -> Geometry:
        """Geometry of a 4x4 index-to-LPS matrix; `shape` in array order [k, j, i]."""
        axes = np.asarray(matrix, float)[:3, :3]
        spacing = np.linalg.norm(axes, axis=0)
        direction = axes / np.where(spacing > 0, spacing, 1)
        return cls(shape, _triple(spacing), _triple(np.asarray(matrix)[:3, 3]), tuple(map(float, direction.ravel())))

    def matches(self, other: Geometry, tolerance_voxels: float = 0.01) -> bool:
        """True when both grids put their corners at the same place to a hundredth of a voxel."""
        if self.shape != other.shape:
            return False
        k, j, i = self.shape
        corners = np.array([[x, y, z, 1] for x in (0, i) for y in (0, j) for z in (0, k)], float).T
        apart = (self.index_to_world @ corners - other.index_to_world @ corners)[:3]
        return bool(np.abs(apart).max() <= tolerance_voxels * min(self.spacing))


@dataclass(frozen=True)
class Volume:
    """A scalar image: `voxels` [k, j, i] and its geometry."""

    voxels: np.ndarray
    geometry: Geometry
    name: str = "volume"

    def __post_init__(self) -> None:
        if tuple(self.voxels.shape) != tuple(self.geometry.shape):
            raise ValueError(f"voxels {self.voxels.shape} do not fit geometry {self.geometry.shape}")


@dataclass(frozen=True)
class Segmentation:
    """Labels on the input's exact grid: `voxels` [k, j, i] of integers, 0 is background.

    `provenance` says how the result came about (model, version, weights hash, device, seconds, ...).
    `confidence`, uint8 [k, j, i], is the probability of each voxel's label in percent, 0 where nothing was computed;
    None if it was not asked for. `totals` are sums of labels.
    """

    voxels: np.ndarray
    geometry: Geometry
    labels: tuple[Label, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    confidence: np.ndarray | None = None
    totals: tuple[Total, ...] = ()

    def volumes_ml(self) -> dict[str, float]:
        """Volume of every label in ml, by name and in the order of the label table, then of every total."""
        values = max(label.value for label in self.labels) + 1
        # slice by slice: numpy counts in a copy of 8 bytes a voxel
        counts = np.sum([np.bincount(part.ravel(), minlength=values) for part in self.voxels], axis=0)
        ml = counts * self.geometry.voxel_volume_ml
        single = {label.name: float(ml[label.value]) for label in self.labels}
        return single | {total.name: float(ml[list(total.labels)].sum()) for total in self.totals}


def check_voxels(voxels: np.ndarray, name: str) -> None:
    """Refuse voxels that no network can make sense of.

    Raises InputError for empty, two-dimensional, time-varying or colour arrays, for NaN or infinite
    voxels and for a constant image.
    """
    if voxels.ndim == 4:
        raise InputError(
            f"{name} has {voxels.ndim} dimensions: it is a time series or has several components. "
            "Choose one frame or one component and save it as a three-dimensional image."
        )
    if voxels.ndim != 3 or min(voxels.shape, default=0) < 2:
        raise InputError(
            f"{name} is not a three-dimensional image (its size is {' x '.join(map(str, voxels.shape[::-1]))}). "
            "Choose a volume with at least two slices along every axis."
        )
    if voxels.dtype.kind not in "iufb":
        raise InputError(
            f"{name} has voxels of type {voxels.dtype}, which are not numbers on a grey scale. "
            "Convert it to an integer or floating-point image."
        )
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        bad = int(np.size(voxels) - np.count_nonzero(np.isfinite(voxels)))
        raise InputError(
            f"{name} has {bad} voxels that are NaN or infinite. "
            "Replace them, for example by the lowest value of the image, and try again."
        )
    if voxels.min() == voxels.max():
        raise InputError(
            f"{name} is constant: every voxel has the value {voxels.flat[0]}. "
            "Check that the right image was chosen and that it was exported completely."
        )


def check_labels(voxels: np.ndarray, name: str) -> None:
    """Refuse what is no label map: InputError for NaN, fractional or negative voxels and values above 32767."""
    if voxels.dtype.kind == "f" and not np.array_equal(voxels, np.round(voxels)):
        raise InputError(f"{name} is not a label map: it has fractional voxels. Choose the file with the labels.")
    if voxels.size and (voxels.min() < 0 or voxels.max() > LARGEST_LABEL):
        raise InputError(
            f"{name} is not a label map: it has voxels below 0 or above {LARGEST_LABEL}. "
            "Choose the file with the labels."
        )


def _triple(values: Any) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


# --- files -------------------------------------------------------------------------------------


def read_volume(path: str | Path, series: Sequence[Path] = ()) -> Volume:
    """Read NIfTI, NRRD, MetaImage or a folder with one DICOM series through SimpleITK.

    series: the files, in the order of the slices, of the one to read among several DICOM series in the folder.

    Raises InputError when the path is missing, unreadable, or holds anything but one scalar 3D image.
    """
    voxels, geometry = read_grid(path, series)
    check_voxels(voxels, Path(path).name)
    return Volume(voxels, geometry, Path(path).name.split(".")[0] or "volume")


def read_grid(path: str | Path, series: Sequence[Path] = ()) -> tuple[np.ndarray, Geometry]:
    """Voxels [k, j, i] and geometry of a file, without judging the voxels (label maps may be constant)."""
    import SimpleITK as sitk

    path = Path(path)
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist. Check the path and the spelling.")
        if path.is_file():
            check_header(path)
        image = _read_dicom(path, series) if path.is_dir() else sitk.ReadImage(str(path))
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened ({error.strerror or error}). Check its permissions or choose another file."
        ) from error
    except RuntimeError as error:
        raise InputError(
            f"{path.name} cannot be read as an image ({_itk_reason(error)}). "
            "Use NIfTI, NRRD, MetaImage or a folder with one DICOM series."
        ) from error
    name = path.name
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(
            f"{name} has {image.GetNumberOfComponentsPerPixel()} components per voxel. "
            "Save one component, or each channel, as a file of its own."
        )
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise InputError(
            f"{name} has {image.GetDimension()} dimensions. Choose a three-dimensional image, for example one frame."
        )
    voxels = sitk.GetArrayFromImage(image)
    geometry = Geometry(
        (voxels.shape[0], voxels.shape[1], voxels.shape[2]),
        _triple(image.GetSpacing()),
        _triple(image.GetOrigin()),
        tuple(map(float, image.GetDirection())),
    )
    return voxels, geometry


def to_sitk(voxels: np.ndarray, geometry: Geometry) -> Any:
    """SimpleITK image of an array [k, j, i] and its geometry."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def _read_dicom(folder: Path, files: Sequence[Path]) -> Any:
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


def _itk_reason(error: RuntimeError) -> str:
    """The last line of ITK's message that says something, without its C++ prefix."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].split("): ")[-1].rstrip(".") if lines else "unknown reason"
