"""A common space for label maps, the template's: an affine map from it to each subject by the structures' places.

Landmarks are the centroids of the structures and the extents, along the template's axes, of all of them together but
for the rim. The template is their mean over the subjects; it is unbiased, since the mean of the affine maps to the
subjects is the identity, and it is its own mirror image where structures are paired. Every landmark weighs by how well
it agrees among the subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .label_maps import LabelMap
from .settings import Settings

ROUNDS = 8
EXTENT = (0.5, 99.5)  # percentiles of the structures' voxels along each axis
SURE = 1.0  # mm: no landmark is trusted more than one with this error
POINTS = 20000  # of a subject, for its extents


@dataclass(frozen=True)
class Landmarks:
    """Positions in LPS mm of one subject: centroids [structures, 3], NaN for a structure that it lacks.

    Attributes:
        points: [n, 3] evenly spread over the structures but for the rim.
    """

    centroids: np.ndarray
    points: np.ndarray

    def positions(self, affine: np.ndarray) -> np.ndarray:
        """Centroids and extents [structures + 6, 3] as `affine` (4x4, template to subject, mm) turns the axes."""
        turned = _apply(np.linalg.inv(affine), self.points)
        extents = np.repeat(turned.mean(0)[None], 6, 0)
        for axis in range(3):
            extents[2 * axis : 2 * axis + 2, axis] = np.percentile(turned[:, axis], EXTENT)
        return np.concatenate((self.centroids, _apply(affine, extents)))


@dataclass(frozen=True)
class TemplateSpace:
    """The mean head, and how each subject's head maps to it.

    Attributes:
        mean: landmarks [structures + 6, 3] in template space, LPS mm.
        affines: 4x4 from template to each subject's mm.
        residuals: distance in mm between each subject's landmarks and the mapped mean ones, root of the weighted
            mean square.
        box: least and largest position [2, 3] of the structures over the template's subjects (percentiles EXTENT).
    """

    mean: np.ndarray
    affines: tuple[np.ndarray, ...]
    residuals: tuple[float, ...]
    box: np.ndarray


def landmarks(label_map: LabelMap, settings: Settings) -> Landmarks:
    """Return the landmarks of one label map."""
    classes = np.array(settings.source_classes)[label_map.sources.numpy()]
    index = np.nonzero(classes)
    label = classes[index]
    count = len(settings.structures)
    voxels = np.bincount(label, minlength=count + 1)[1:]
    with np.errstate(invalid="ignore"):
        means = np.stack([np.bincount(label, part, count + 1)[1:] / voxels for part in index[::-1]], 1)
    rim = [n for n, value in enumerate(settings.structures, start=1) if value.rim]
    inner = np.flatnonzero(~np.isin(label, rim)) if len(rim) < count else np.arange(len(label))
    if not len(inner):  # of this subject there is nothing but the rim
        inner = np.arange(len(label))
    inner = inner[:: max(1, len(inner) // POINTS)]
    matrix = label_map.index_to_world
    return Landmarks(_apply(matrix, means), _apply(matrix, np.stack([part[inner] for part in index[::-1]], 1)))


def align(subjects: Sequence[Landmarks], settings: Settings, among: Sequence[int] | None = None) -> TemplateSpace:
    """Return the template space of the subjects (all, or those in `among`), with a map to each."""
    among = range(len(subjects)) if among is None else among
    swap = _mirrored_landmarks(settings)
    affines = []
    for subject in subjects:  # the first guess: its present position
        affine = np.eye(4)
        affine[:3, 3] = np.nanmean(subject.positions(affine), 0)
        affines.append(affine)
    weights: np.ndarray | None = None
    for _ in range(ROUNDS):
        found = [subject.positions(affine) for subject, affine in zip(subjects, affines, strict=True)]
        back = [_apply(np.linalg.inv(affine), places) for affine, places in zip(affines, found, strict=True)]
        mean = np.nanmean([back[n] for n in among], 0)
        error = np.sqrt(np.nanmean([((back[n] - mean) ** 2).sum(1) for n in among], 0))
        weights = 1 / (np.nan_to_num(error, nan=np.inf) ** 2 + SURE**2) if weights is not None else np.ones(len(mean))
        bias = np.mean([affines[n] for n in among], 0)  # toward a mean of the affine maps that is the identity
        bias[:3, 3] = 0
        mean = _symmetric(_apply(bias, mean), swap)
        middle = (mean[-6:].min(0) + mean[-6:].max(0)) / 2
        mean = mean - (middle if swap is None else middle * [0.0, 1.0, 1.0])
        affines = [_fit(mean, places, weights) for places in found]
    assert weights is not None
    residuals, corners = [], []
    for affine, places in zip(affines, found, strict=True):
        square = ((_apply(affine, mean) - places) ** 2).sum(1)
        known = ~np.isnan(square)
        residuals.append(float(np.sqrt(np.average(square[known], weights=weights[known]))))
        corners.append(_apply(np.linalg.inv(affine), places[-6:]))
    corners = [corners[n] for n in among]
    box = np.stack((np.min(corners, (0, 1)), np.max(corners, (0, 1))))
    return TemplateSpace(mean, tuple(affines), tuple(residuals), box)


def _mirrored_landmarks(settings: Settings) -> np.ndarray | None:
    """Return, for every landmark, the number of its mirror image, or None without pairs."""
    if not settings.class_pairs:
        return None
    structures = [label - 1 for label in settings.mirrored_classes[1:]]
    count = len(structures)
    return np.array([*structures, *(count + n for n in (1, 0, 2, 3, 4, 5))])


def _symmetric(mean: np.ndarray, swap: np.ndarray | None) -> np.ndarray:
    """Return the mean landmarks made symmetric about the midsagittal plane."""
    if swap is None:
        return mean
    middle = np.nanmean(mean[:, 0] + mean[swap, 0]) / 2
    mean = mean - [middle, 0, 0]
    return np.nanmean([mean, mean[swap] * [-1, 1, 1]], 0)


def _fit(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Affine 4x4 by weighted least squares over the landmarks that both have."""
    known = ~np.isnan(source).any(1) & ~np.isnan(target).any(1)
    root = np.sqrt(weights[known])[:, None]
    homogeneous = np.c_[source[known], np.ones(known.sum())]
    matrix = np.eye(4)
    matrix[:3] = np.linalg.lstsq(homogeneous * root, target[known] * root, rcond=None)[0].T
    return matrix


def _apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points [n, 3] mapped by a 4x4 matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]
