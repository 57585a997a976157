"""Sheared grids: the nearest one with right angles where rounding explains the shear, else one interpolation.

Shear comes from matrices that were rounded, from CT with gantry tilt, and from affine registration.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .geometry import Geometry, to_sitk, triple

LARGEST_MOVE = 0.3  # voxels, along any axis, by which snapping may move a voxel
ROUNDED = 0.05  # of these, what rounded matrices explain; more is mentioned
EXACT = 1e-6  # shear of float32 numbers, which is left as it is
GROWTH = 8  # a straightened grid has at most so many times the voxels; more comes of a broken matrix


def shear_degrees(geometry: Geometry) -> float:
    """Return by how much the angles between axes differ from 90 degrees, at most."""
    return math.degrees(math.asin(min(1.0, float(np.abs(_cosines(geometry)).max()))))


def snapped(geometry: Geometry) -> tuple[Geometry, float] | None:
    """Return the nearest grid with right angles, and by how many voxels, along any axis, it moves a voxel at most.

    Its axes are those of the nearest rotation (or reflection), the orthogonal factor of the polar decomposition of the
    direction (N. J. Higham, SIAM J. Sci. Stat. Comput. 7, 1986); the center of the image stays in its place. None where
    a voxel would move by more than LARGEST_MOVE. It depends on the matrix and the size alone.
    """
    if np.abs(_cosines(geometry)).max() <= EXACT:
        return geometry, 0.0
    left, _, right = np.linalg.svd(np.reshape(geometry.direction, (3, 3)))
    rotation = left @ right
    center = (np.array(geometry.shape[::-1]) - 1) / 2
    middle = (geometry.index_to_world @ [*center, 1])[:3]
    origin = middle - rotation * np.array(geometry.spacing) @ center
    straight = replace(geometry, origin=triple(origin), direction=tuple(map(float, rotation.ravel())))
    moved = np.linalg.inv(straight.index_to_world) @ geometry.index_to_world @ _corners(geometry) - _corners(geometry)
    move = float(np.abs(moved[:3]).max())
    return (straight, move) if move <= LARGEST_MOVE else None


def straight_grid(geometry: Geometry) -> Geometry:
    """Return the smallest grid with right angles that covers a sheared one.

    Its voxels have the same volume.

    It keeps the plane of the two axes that are closest to a right angle, and the first of them: in a tilted CT the
    slices stay where they are, and are moved within their plane.

    Raises:
        InputError: if that takes many times the voxels.
    """
    columns = geometry.index_to_world[:3, :3]
    triples = ((0, 1, 2), (0, 2, 1), (1, 2, 0))  # the first of equal ones, so rounded: that of the slices
    first, second, third = min(triples, key=lambda axes: round(abs(_cosine(geometry, *axes[:2])), 4))
    steps = np.empty((3, 3))
    steps[:, first] = columns[:, first]
    unit = columns[:, first] / np.linalg.norm(columns[:, first])
    steps[:, second] = columns[:, second] - unit * (unit @ columns[:, second])
    normal = np.cross(steps[:, first], steps[:, second])
    normal /= np.linalg.norm(normal)
    steps[:, third] = normal * (normal @ columns[:, third])
    corners = np.linalg.inv(steps) @ (geometry.index_to_world @ _corners(geometry))[:3]
    lower, upper = corners.min(axis=1), corners.max(axis=1)
    i, j, k = (math.ceil(length - 1e-3) + 1 for length in upper - lower)
    if i * j * k > GROWTH * math.prod(geometry.shape):
        raise InputError(
            _(
                "The axes of the image deviate from right angles by {degrees:.0f} degrees. "
                "Correct the matrix in the file header or export the image again."
            ).format(degrees=shear_degrees(geometry))
        )
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = steps, steps @ lower
    return Geometry.from_index_to_world(matrix, (k, j, i))


def straightened(voxels: np.ndarray, geometry: Geometry, labels: bool = False) -> tuple[np.ndarray, Geometry]:
    """Return the voxels [k, j, i] on `straight_grid`, in their type.

    They are interpolated linearly, labels by the nearest voxel.

    Where the image has no voxels, the new ones have its lowest value, labels 0. Raises what `straight_grid` raises.
    """
    import SimpleITK as sitk

    grid = straight_grid(geometry)
    whole = voxels.dtype.kind in "iub"
    kind: Any = np.float64 if voxels.dtype.itemsize > (2 if whole else 4) else np.float32
    source = voxels if labels else voxels.astype(kind)  # ITK cuts off what integers cannot hold
    outside = 0.0 if labels else float(np.nanmin(source))
    rule = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
    k, j, i = grid.shape
    resampled = sitk.Resample(
        to_sitk(source, geometry),
        (i, j, k),
        sitk.Transform(),
        rule,
        grid.origin,
        grid.spacing,
        grid.direction,
        outside,
    )
    found = sitk.GetArrayFromImage(resampled)
    return (np.rint(found) if whole and not labels else found).astype(voxels.dtype, copy=False), grid


def _corners(geometry: Geometry) -> np.ndarray:
    """Return the indices (i, j, k, 1) of the eight outermost voxels, [4, 8]."""
    k, j, i = geometry.shape
    return np.array([[x, y, z, 1] for x in (0, i - 1) for y in (0, j - 1) for z in (0, k - 1)], float).T


def _cosine(geometry: Geometry, a: int, b: int) -> float:
    """Return the cosine of the angle between two axes."""
    direction = np.reshape(geometry.direction, (3, 3))
    return float(direction[:, a] @ direction[:, b])


def _cosines(geometry: Geometry) -> np.ndarray:
    """Return the cosines between the three axes of a grid [3]."""
    return np.array([_cosine(geometry, a, b) for a, b in ((0, 1), (0, 2), (1, 2))])
