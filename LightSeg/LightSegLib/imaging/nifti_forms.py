"""The place of a NIfTI image: the matrices sform and qform, which of them counts here, and which in 3D Slicer.

Source: nifti1.h, "3D IMAGE (VOLUME) ORIENTATION AND LOCATION IN SPACE". It leaves open which of two matrices counts:
nibabel, FSL and SPM take the sform where there is one. ITK 5.4, and so 3D Slicer, takes it where its code is 1 or where
there is no qform, and the size of the voxels from pixdim (`itkNiftiImageIO.cxx`, SetImageIOOrientationFromNIfTI).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .ras import LPS_TO_RAS

if TYPE_CHECKING:
    from .nifti_header import Header

SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT, the only code of an sform that ITK prefers to a qform
RIGHT_ANGLES = 1e-3  # cosine between axes, up to which ITK takes an sform
FLOAT32_MOVE = 1e-3  # voxels, by which a file that holds float32 may move a position, hundreds of mm from the origin
LARGEST = 3e38  # of a float32


@dataclass(frozen=True)
class NiftiForms:
    """What a NIfTI header states about the place of its voxels, in mm.

    Attributes:
        pixdim: handedness (the sign of the third axis of the qform) and the spacing along i, j and k.
        qform_code: 0 where there is no qform.
        quaternion: b, c and d of its rotation, and the offset in RAS.
        sform_code: 0 where there is no sform.
        rows: of its matrix, index (i, j, k) to RAS [3, 4], one after the other.
    """

    pixdim: tuple[float, ...]
    qform_code: int
    quaternion: tuple[float, ...]
    sform_code: int
    rows: tuple[float, ...]

    @classmethod
    def of_header(cls, header: Header) -> NiftiForms:
        """Return what a header states."""
        handedness, unit = float(header.pixdim[0]), header.unit
        return cls(
            (handedness, *_floats(header.pixdim[1:4] * unit)),
            header.qform_code,
            (*_floats(header.quaternion[:3]), *_floats(header.quaternion[3:] * unit)),
            header.sform_code,
            _floats(header.rows.ravel() * unit),
        )

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> NiftiForms:
        """Return a grid with right angles, index (i, j, k) to LPS mm, as sform and qform, as a scanner places it."""
        from scipy.spatial.transform import Rotation

        matrix = LPS_TO_RAS @ matrix
        axes = directions(matrix)
        handedness = -1.0 if np.linalg.det(axes) < 0 else 1.0
        *vector, real = Rotation.from_matrix(axes * [1, 1, handedness]).as_quat()
        sign = -1 if real < 0 else 1  # of a quaternion with a real part of 0 and more, which alone can be stored
        return cls(
            (handedness, *_floats(np.linalg.norm(matrix[:3, :3], axis=0))),
            SCANNER,
            (*_floats(sign * np.array(vector)), *_floats(matrix[:3, 3])),
            SCANNER,
            _floats(matrix[:3].ravel()),
        )

    @property
    def can_be_written(self) -> bool:
        """Whether all numbers are those of a float32."""
        return all(abs(value) < LARGEST for value in (*self.pixdim, *self.quaternion, *self.rows))

    @property
    def sform(self) -> np.ndarray:
        """The matrix of the sform, index (i, j, k) to RAS mm."""
        return np.vstack([np.reshape(self.rows, (3, 4)), [0, 0, 0, 1]])

    @property
    def qform(self) -> np.ndarray:
        """The matrix of the qform, index (i, j, k) to RAS mm ("QUATERNION REPRESENTATION OF ROTATION MATRIX")."""
        b, c, d = self.quaternion[:3]
        norm = b * b + c * c + d * d
        if norm > 1:  # through rounding: a is 0 then
            b, c, d = (part / math.sqrt(norm) for part in (b, c, d))
        a = math.sqrt(max(0.0, 1 - norm))
        rotation = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        handedness, *spacing = self.pixdim
        steps = spacing * np.array([1, 1, -1 if handedness < 0 else 1 if math.isfinite(handedness) else math.nan])
        matrix = np.eye(4)
        matrix[:3, :3] = rotation * steps
        matrix[:3, 3] = self.quaternion[3:]
        return matrix

    @property
    def stated(self) -> dict[str, np.ndarray]:
        """The matrices that the header states, index to RAS mm, by their names; the one that counts first."""
        found = {"sform": self.sform} if self.sform_code > 0 else {}
        return found | ({"qform": self.qform} if self.qform_code > 0 else {})

    def taken(self, shape: tuple[int, int, int]) -> tuple[str, np.ndarray]:
        """Return the matrix that counts, with its name: as in nibabel, the spacing alone has the image's center at 0.

        Args:
            shape: of the image [k, j, i].
        """
        for name, matrix in self.stated.items():
            return name, matrix
        steps = np.array(self.pixdim[1:]) * [-1, 1, 1]
        matrix = np.diag([*steps, 1.0])
        matrix[:3, 3] = -steps * (np.array(shape[::-1]) - 1) / 2
        return "pixdim", matrix

    def in_slicer(self) -> tuple[str, np.ndarray]:
        """Return the matrix, index to RAS mm, at which 3D Slicer shows the image, with the name of what it goes by."""
        stated = self.stated
        if not stated:
            return "pixdim", LPS_TO_RAS @ np.diag([*self.pixdim[1:], 1.0])  # its first voxel is at the origin
        preferred = self.sform_code == SCANNER and _right_angled(self.sform)
        name = "qform" if "qform" in stated and not preferred else "sform"
        matrix = stated[name].copy()
        matrix[:3, :3] = directions(matrix) * self.pixdim[1:]
        return name, matrix

    def places(self, matrix: np.ndarray, shape: tuple[int, int, int], within: float) -> bool:
        """Return whether a file on another grid of this shape may state the same, since it is at the same place.

        Args:
            matrix: of the grid, index (i, j, k) to LPS mm.
            shape: of the grid [k, j, i].
            within: voxels, by which it may be moved.
        """
        corners = _corners(shape)
        apart = np.linalg.inv(LPS_TO_RAS @ matrix) @ self.taken(shape)[1] @ corners - corners
        return self.can_be_written and bool(np.abs(apart).max() <= within + FLOAT32_MOVE)


def farthest_voxel_apart(one: np.ndarray, other: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Return how far apart two matrices place a voxel of an image [k, j, i], at most, in mm."""
    return float(np.linalg.norm(((one - other) @ _corners(shape))[:3], axis=0).max())


def directions(matrix: np.ndarray) -> np.ndarray:
    """Return the unit vectors of a matrix's columns [3, 3]."""
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    return np.asarray(matrix[:3, :3] / np.where(lengths > 0, lengths, 1))


def _corners(shape: tuple[int, int, int]) -> np.ndarray:
    """Return the indices (i, j, k, 1) of the outer voxels of an image [k, j, i], as columns [4, 8]."""
    k, j, i = shape
    return np.array([[x, y, z, 1] for x in (0, i - 1) for y in (0, j - 1) for z in (0, k - 1)], float).T


def _right_angled(matrix: np.ndarray) -> bool:
    """Return whether the axes of a matrix are at right angles."""
    axes = directions(matrix)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() <= RIGHT_ANGLES)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    """Return an array as a tuple."""
    return tuple(float(value) for value in values)
