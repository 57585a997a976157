"""Where in an image a template fits best, over all displacements at once.

The mutual information of the two for every displacement follows from cross-correlations of the images' gray-level
classes, which the fast Fourier transform computes: Öfverstedt, Lindblad and Sladoje, "Fast computation of mutual
information in the frequency domain with applications to global multimodal image alignment", Pattern Recognition
Letters 159 (2022), doi:10.1016/j.patrec.2022.05.022.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from .levels import Level, averaged, upright
from .template import Template

MM = 8.0  # voxels in which the search is made
TURNS = (0.0, 20.0, -20.0)  # degrees about each axis, one axis at a time
CLASSES = 6  # of gray levels
PEAKS = 2  # kept of every turn
KEPT = 3  # and of those of each form of the template
LEAST_OVERLAP = 0.35  # of the template's voxels that must be in the image

Check = Callable[[], None]


@dataclass(frozen=True)
class Peak:
    """A displacement of the template by whole voxels [k, j, i], and the mutual information there in nats."""

    shift: tuple[int, int, int]
    information: float


class DisplacementSearch:
    """Searches templates of at most `reach` voxels [k, j, i] in one image; its transforms are computed once.

    Args:
        classes: number of each voxel's gray-level class, int [k, j, i]; -1 where there is not an image.
    """

    def __init__(self, classes: np.ndarray, reach: tuple[int, int, int]) -> None:
        self._shape = tuple(
            fft.next_fast_len(length + other - 1, real=True) for length, other in zip(classes.shape, reach, strict=True)
        )
        self._reach = reach
        self._count = int(classes.max()) + 1
        self._spectra = [self._spectrum(classes == number) for number in range(self._count)]

    def __call__(self, classes: np.ndarray, peaks: int) -> list[Peak]:
        """Return the best displacements of a template, whose classes [k, j, i] are given as for the image.

        Peaks are local maxima, best first. A displacement takes template voxel x to image voxel x + shift.
        """
        information = self._information(classes)
        best = ndimage.maximum_filter(information, size=5, mode="constant", cval=-np.inf)
        places = np.argwhere((information == best) & np.isfinite(information))
        values = information[tuple(places.T)]
        order = np.argsort(-values, kind="stable")[:peaks]
        offset = np.array(self._reach) - 1
        found = []
        for n in order:
            k, j, i = (int(step) for step in places[n] - offset)
            found.append(Peak((k, j, i), float(values[n])))
        return found

    def _information(self, classes: np.ndarray) -> np.ndarray:
        """Mutual information, -inf where the overlap is too small, for displacements from -reach + 1 on; [k, j, i]."""
        kinds = [self._spectrum(classes == number).conj() for number in range(int(classes.max()) + 1)]
        voxels = np.count_nonzero(classes >= 0)
        counted = np.arange(voxels + 1, dtype=np.float32)
        n_log_n = counted * np.log(np.maximum(counted, 1))
        joint = np.zeros(self._shape, np.float32)
        of_template = np.zeros((len(kinds), *self._shape), np.int32)
        of_image = np.zeros((self._count, *self._shape), np.int32)
        for a, kind in enumerate(kinds):
            for b, spectrum in enumerate(self._spectra):
                # whole numbers again, so that the result does not depend on how the transform rounds
                counts = np.rint(fft.irfftn(kind * spectrum, self._shape)).astype(np.int32)
                np.maximum(counts, 0, out=counts)
                joint += n_log_n[counts]
                of_template[a] += counts
                of_image[b] += counts
        overlap = of_template.sum(axis=0)
        information = joint - n_log_n[of_template].sum(axis=0) - n_log_n[of_image].sum(axis=0) + n_log_n[overlap]
        # what few voxels share by chance, the bias of Miller and Madow
        information = (information - (len(kinds) - 1) * (self._count - 1) / 2) / np.maximum(overlap, 1)
        information[overlap < LEAST_OVERLAP * voxels] = -np.inf
        return np.roll(information, [reach - 1 for reach in self._reach], axis=(0, 1, 2))

    def _spectrum(self, mask: np.ndarray) -> np.ndarray:
        """Return the Fourier transform of a mask, padded to the search's size."""
        return fft.rfftn(mask.astype(np.float32), self._shape)


def starts(
    level: Level, template: Template, margin: float, check: Check, workers: Executor | None = None
) -> list[np.ndarray]:
    """Rigid maps [4, 4] from template to image, in mm (LPS), where they agree best; none for a small image.

    Args:
        margin: mm around the template's focus where its image counts.
        check: called between steps, raises to stop.
        workers: try the turns of the template side by side; the answer is the same.
    """
    image, valid, origin = upright(level, MM)
    if not valid.any():
        return []
    wide, geometry = averaged((template.away <= margin).astype(np.float32), template.geometry, MM)
    coarse = [averaged(template.form(bare), template.geometry, MM)[0] for bare in (True, False)]
    places = np.argwhere(wide > 0.5)
    center = places.mean(axis=0)
    spacing = np.array(geometry.spacing[::-1])
    half = math.ceil(np.linalg.norm((places - center) * spacing, axis=1).max() / MM) + 1
    shape = (2 * half + 1,) * 3
    world = np.array(geometry.origin) + (center * spacing)[::-1]
    search = DisplacementSearch(np.where(valid, _classes(image, valid), -1), shape)

    def best_places(turn: np.ndarray, form: np.ndarray) -> list[tuple[float, np.ndarray]]:
        check()
        # a grid of MM about the center, whose voxel n is at  world + turn^-1 (n - half) * MM  in the template
        step = np.linalg.inv(turn)[::-1, ::-1] * MM / spacing[:, None]
        grid = (step, center - step @ np.full(3, half), shape)
        mask = ndimage.affine_transform(wide, *grid, order=1) > 0.5
        turned = ndimage.affine_transform(form, *grid, order=1)
        places = []
        for peak in search(np.where(mask, _classes(turned, mask), -1), PEAKS):
            matrix = np.eye(4)
            matrix[:3, :3] = turn
            matrix[:3, 3] = origin + MM * (np.array(peak.shift) + half)[::-1] - turn @ world
            places.append((peak.information, matrix))
        return places

    each = list(itertools.product(coarse, _turns()))
    tried = list((workers.map if workers else map)(lambda pair: best_places(pair[1], pair[0]), each))
    count = len(each) // len(coarse)
    found = [list(itertools.chain(*tried[n * count : (n + 1) * count])) for n in range(len(coarse))]
    chosen: list[np.ndarray] = []
    for entries in found:
        for _, matrix in sorted(entries, key=lambda entry: -entry[0])[:KEPT]:
            if not any(np.abs(matrix - other).max() < MM for other in chosen):
                chosen.append(matrix)
    return chosen


def _turns() -> list[np.ndarray]:
    """Return the rotations [3, 3] that the search tries."""
    turns = [np.eye(3)]
    for axis, degrees in itertools.product(range(3), TURNS[1:]):
        a, b = (n for n in range(3) if n != axis)
        turn, angle = np.eye(3), math.radians(degrees)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        turns.append(turn)
    return turns


def _classes(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Gray-level classes with the same width, over the range of the voxels in the mask."""
    values = image[mask]
    low, high = float(values.min()), float(values.max())
    return np.clip((image - low) * (CLASSES / max(high - low, 1e-6)), 0, CLASSES - 1).astype(int)
