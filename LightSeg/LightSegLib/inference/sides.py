"""Left and right in labels that hold both sides: by the plane in which they mirror each other best.

Nothing but the labels is looked at, so a tilt of the head, its contrast and what was cut away do not matter. What is
almost wholly on one side of the plane, such as one hippocampus, belongs to that side as a whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize

from ..imaging.geometry import Geometry
from ..imaging.roi import Slices

POINTS = 4000, 30_000  # voxels whose mirror images are looked at, in the search and in the refinement
TURNS = np.radians(np.arange(-40, 41, 10))
SHIFTS = np.arange(-12, 13, 4.0)  # mm from the middle of all labels
BEST = 5  # of the search, that are refined
ALIKE = 0.5  # of the mirror images that have the same label: with fewer, there is no such plane
WHOLE = 0.9  # of a piece of a label that is on one side: then all of it is


@dataclass(frozen=True)
class Plane:
    """A plane in the world, LPS mm: normal, which points to the patient's left, and its distance from the origin.

    alike: share of the labels' voxels whose mirror images have the same label.
    """

    normal: np.ndarray
    distance: float
    alike: float

    def left(self, geometry: Geometry, part: Slices | None = None) -> np.ndarray:
        """Return how far voxels [k, j, i] of a grid or a part of it are to the left, in mm; negative to the right."""
        weights = self.normal @ geometry.index_to_world[:3]
        bounds = part or [slice(0, n) for n in geometry.shape]
        k, j, i = (np.arange(each.start, each.stop, dtype=np.float32) for each in bounds)
        along = weights[2] * k[:, None, None] + weights[1] * j[:, None] + weights[0] * i
        return np.asarray(along + np.float32(weights[3] - self.distance))


def midplane(labels: np.ndarray, geometry: Geometry, paired: Sequence[int]) -> Plane | None:
    """Return the plane in which the paired labels [k, j, i] of a head mirror each other; None if there is none."""
    kept = np.where(np.isin(labels, paired), labels, 0)
    places = np.argwhere(kept)
    if len(places) < POINTS[0] // 10:
        return None
    random = np.random.default_rng(0)  # the same voxels in every run
    chosen = [places[random.choice(len(places), min(count, len(places)), replace=False)] for count in POINTS]
    mirror = [_Mirror(kept, geometry, some) for some in chosen]
    middle = mirror[1].points.mean(axis=0)
    grid = itertools.product(TURNS, TURNS, SHIFTS)
    ranked = sorted(grid, key=lambda place: -mirror[0].alike(_normal(place), _normal(place) @ middle + place[2]))
    found = []
    for place in ranked[:BEST]:
        refined = optimize.minimize(
            lambda at: -mirror[1].alike(_normal(at), _normal(at) @ middle + at[2]),
            place,
            method="Nelder-Mead",
            options={"initial_simplex": np.array(place) + np.vstack((np.zeros(3), np.diag((0.08, 0.08, 2.0))))},
        )
        found.append((float(refined.fun), tuple(refined.x)))
    value, best = min(found)
    if -value < ALIKE:
        return None
    return Plane(_normal(best), float(_normal(best) @ middle + best[2]), -value)


def split(labels: np.ndarray, geometry: Geometry, paired: Sequence[int], step: int) -> Plane | None:
    """Add `step` to the paired labels [k, j, i] on the patient's right, in place; return the plane between them.

    Without such a plane nothing is changed, and the result is None.
    """
    plane = midplane(labels, geometry, paired)
    if plane is None:
        return None
    boxes = ndimage.find_objects(labels, max(paired))
    for value in paired:
        box = boxes[value - 1]
        if box is None:
            continue
        mask = labels[box] == value
        right = plane.left(geometry, box) < 0
        pieces, count = ndimage.label(mask)
        size = np.bincount(pieces.ravel(), minlength=count + 1)
        share = np.bincount(pieces.ravel(), right.ravel(), minlength=count + 1) / np.maximum(size, 1)
        to_right = np.where(share > WHOLE, 1.0, np.where(share < 1 - WHOLE, 0.0, 0.5))[pieces]
        chosen = mask & ((to_right == 1) | ((to_right == 0.5) & right))
        labels[box][chosen] = value + step
    return plane


class _Mirror:
    """Some voxels of labels, and what their mirror images have."""

    def __init__(self, labels: np.ndarray, geometry: Geometry, indices: np.ndarray) -> None:
        matrix = geometry.index_to_world
        self.points = indices[:, ::-1] @ matrix[:3, :3].T + matrix[:3, 3]
        self._own, self._indices = labels[tuple(indices.T)], indices.T[::-1].astype(np.float64)  # i, j, k
        self._labels, self._to_index = labels, np.linalg.inv(matrix)[:3, :3]

    def alike(self, normal: np.ndarray, distance: float) -> float:
        """Return the share of voxels whose mirror images have the same label."""
        twice = 2 * (self.points @ normal - distance)
        across = self._to_index @ normal
        inside, place = np.True_, np.zeros(len(twice), np.int64)
        for length, axis in zip(self._labels.shape, (2, 1, 0), strict=True):
            index = np.rint(self._indices[axis] - twice * across[axis]).astype(np.int64)
            inside = inside & (index >= 0) & (index < length)
            place = place * length + index
        found = self._labels.ravel()[place[inside]]
        return float(np.count_nonzero(found == self._own[inside]) / len(self._own))


def _normal(turns: Sequence[float]) -> np.ndarray:
    """The direction to the patient's left, x, turned towards y and z by two angles."""
    yaw, roll = turns[0], turns[1]
    return np.array([np.cos(yaw) * np.cos(roll), np.sin(yaw) * np.cos(roll), np.sin(roll)])
