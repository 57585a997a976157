"""Positions of voxels in the world."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _

if TYPE_CHECKING:
    from .nifti_forms import NiftiForms

SMALLEST_STEP, LARGEST_STEP = 1e-6, 1e4  # mm between voxels: from below what microscopes see to beyond any body
FARTHEST = 1e7  # mm from the origin


class GeometryError(InputError):
    """A geometry that no medical image has; whoever has read it knows the image."""

    def of(self, name: str) -> InputError:
        """Return the error with the name of the image."""
        message = self.args[0]
        return InputError(message.format(**message.fields | {"image": name}))


@dataclass(frozen=True)
class Geometry:
    """Position of voxels in the world, in SimpleITK's convention: millimeters, LPS.

    Attributes:
        spacing: 3 numbers in x, y, z (i, j, k) order.
        origin: 3 numbers in x, y, z (i, j, k) order.
        direction: 3x3, its columns are the unit vectors of the i, j and k axes.
        shape: array order [k, j, i].
        nifti: what the NIfTI file that this is from states about its place; None for any other source.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    nifti: NiftiForms | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not all(np.isfinite(self.spacing)) or min(self.spacing) <= 0:
            raise GeometryError(
                _(
                    "{image} has a voxel spacing of {spacing} mm, which is not positive. "
                    "Correct the spacing in the file header or export the image again."
                ).format(image=_("The image"), spacing=" x ".join(f"{step:.4g}" for step in self.spacing))
            )
        if not all(SMALLEST_STEP <= step <= LARGEST_STEP for step in self.spacing):
            raise GeometryError(
                _(
                    "{image} has a voxel spacing of {spacing} mm, "
                    "which is not plausible for a medical image. "
                    "Correct the spacing in the file header or export the image again."
                ).format(image=_("The image"), spacing=" x ".join(f"{step:.4g}" for step in self.spacing))
            )
        if not all(abs(place) <= FARTHEST for place in self.origin):
            raise GeometryError(
                _(
                    "{image} has its origin at {origin} mm, which is not plausible for a medical image. "
                    "Correct the origin in the file header or export the image again."
                ).format(image=_("The image"), origin=", ".join(f"{place:.4g}" for place in self.origin))
            )
        direction = np.asarray(self.direction, float)
        if not np.isfinite(direction).all() or abs(np.linalg.det(direction.reshape(3, 3))) < 1e-3:
            raise GeometryError(
                _("{image} has a singular direction matrix. Export the image again with a valid orientation.").format(
                    image=_("The image")
                )
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
        """Whether the axes are perpendicular; a CT with uncorrected gantry tilt is not."""
        direction = np.reshape(self.direction, (3, 3))
        return bool(np.allclose(direction.T @ direction, np.eye(3), atol=1e-3))

    @classmethod
    def from_index_to_world(cls, matrix: np.ndarray, shape: tuple[int, int, int]) -> Geometry:
        """Return the geometry of a 4x4 index-to-LPS matrix; `shape` in array order [k, j, i]."""
        axes = np.asarray(matrix, float)[:3, :3]
        spacing = np.linalg.norm(axes, axis=0)
        direction = axes / np.where(spacing > 0, spacing, 1)
        return cls(shape, triple(spacing), triple(np.asarray(matrix)[:3, 3]), tuple(map(float, direction.ravel())))

    def matches(self, other: Geometry, tolerance_voxels: float = 0.01) -> bool:
        """Return whether both grids have their corners at the same positions, within a share of a voxel."""
        return self.shape == other.shape and bool(
            np.abs(self._apart(other)).max() <= tolerance_voxels * min(self.spacing)
        )

    def farthest_apart(self, other: Geometry) -> float:
        """Return how far apart two grids of one shape place a corner, at most, in mm."""
        return float(np.linalg.norm(self._apart(other), axis=0).max())

    def _apart(self, other: Geometry) -> np.ndarray:
        """Return the differences [3, 8], in mm, of where two grids of one shape place their corners."""
        k, j, i = self.shape
        corners = np.array([[x, y, z, 1] for x in (0, i) for y in (0, j) for z in (0, k)], float).T
        return np.asarray((self.index_to_world @ corners - other.index_to_world @ corners)[:3])


def to_sitk(voxels: np.ndarray, geometry: Geometry) -> Any:
    """SimpleITK image of an array [k, j, i] and its geometry."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def triple(values: Iterable[float]) -> tuple[float, float, float]:
    """Return three values as a tuple of floats."""
    x, y, z = (float(value) for value in values)
    return x, y, z
