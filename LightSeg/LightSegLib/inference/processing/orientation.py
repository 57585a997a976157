"""Images turned to the directions in which a network saw its own: whole axes are permuted and reversed, nothing else.

An oblique image stays oblique, and no voxel changes its value.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...catalog.card import Preprocessing
from ...imaging.geometry import Geometry, triple
from ...imaging.volume import Volume
from .resample import Shape

WORLD_AXES = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "S": (2, 1), "I": (2, -1)}  # axis, sign in LPS


def axis_steps(geometry: Geometry, preprocessing: Preprocessing) -> tuple[Shape, tuple[int, ...]]:
    """Transpose order and then axes to flip that bring array axes [k, j, i] to those that a card asks for."""
    if preprocessing.orientation == "input":
        return preprocessing.transpose, ()
    oriented, flipped = orientation_steps(geometry, preprocessing.orientation)
    k, j, i = (oriented[axis] for axis in preprocessing.transpose)
    return (k, j, i), tuple(n for n, axis in enumerate(preprocessing.transpose) if axis in flipped)


def orientation_steps(geometry: Geometry, orientation: str) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Transpose order and then axes to flip that bring array axes [k, j, i] closest to `orientation`.

    The letters name the directions in which i, j, k shall run. Only whole axes move, so an oblique grid stays oblique
    and no voxel value changes.
    """
    direction = np.reshape(geometry.direction, (3, 3))  # columns: i, j, k axes in LPS
    wanted = [WORLD_AXES[letter] for letter in orientation]
    # The assignment with the largest summed alignment; greedy choices fail near 45 degrees.
    best = max(
        ((a, b, c) for a in range(3) for b in range(3) for c in range(3) if {a, b, c} == {0, 1, 2}),
        key=lambda columns: sum(
            abs(direction[axis, column]) for (axis, _), column in zip(wanted, columns, strict=True)
        ),
    )
    order = tuple(2 - column for column in best[::-1])  # array axis 2 - column holds index axis `column`
    flips = tuple(
        2 - position
        for position, ((axis, sign), column) in enumerate(zip(wanted, best, strict=True))
        if direction[axis, column] * sign < 0
    )
    return (order[0], order[1], order[2]), flips


def oriented(array: np.ndarray, order: Shape, flips: tuple[int, ...]) -> np.ndarray:
    """Return a view of an array [k, j, i] with its axes transposed and then reversed."""
    return np.flip(array.transpose(order), flips)


def turned(volume: Volume, order: Shape, flips: tuple[int, ...]) -> Volume:
    """Return the volume with its axes transposed and then reversed, each voxel at its place."""
    voxels = np.ascontiguousarray(oriented(volume.voxels, order, flips))
    return replace(volume, voxels=voxels, geometry=turned_geometry(volume.geometry, order, flips))


def turned_geometry(geometry: Geometry, order: Shape, flips: tuple[int, ...]) -> Geometry:
    """Return the geometry of a grid whose axes are transposed and then reversed.

    Spacing and directions keep all their digits, whichever way the axes were stored.
    """
    columns = [2 - axis for axis in order[::-1]]  # index axes that become i, j, k
    direction = np.reshape(geometry.direction, (3, 3))[:, columns]
    spacing = np.array(geometry.spacing)[columns]
    origin = np.array(geometry.origin)
    k, j, i = (geometry.shape[axis] for axis in order)
    for axis in flips:
        column = 2 - axis
        origin += direction[:, column] * spacing[column] * ((k, j, i)[axis] - 1)
        direction[:, column] *= -1
    return Geometry((k, j, i), triple(spacing), triple(origin), tuple(map(float, direction.ravel())))
