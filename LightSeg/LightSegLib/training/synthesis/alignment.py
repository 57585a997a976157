"""A common space for label maps, the template's: an affine map from it to each subject by the structures' places.

Landmarks are the centroids of the structures and the extents of all of them together, but for the rim. The template
is their mean over the subjects; it is unbiased, since the mean of the affine maps to the subjects is the identity, and
it is its own mirror image where structures are paired. Every landmark weighs by how well it agrees among subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .label_maps import LabelMap
from .settings import Settings

ROUNDS = 6
EXTENT = (0.5, 99.5)  # percentiles of the structures' voxels along each axis
SURE = 1.0  # mm: no landmark is trusted more than one with this error


@dataclass(frozen=True)
class TemplateSpace:
    """mean: landmarks [landmarks, 3] in template space, LPS mm. affines: 4x4 from template to each subject's mm.

    residuals: distance in mm between each subject's landmarks and the mapped mean ones, root of the weighted mean
    square.
    box: least and largest position [2, 3] of the structures over all subjects (percentiles as in EXTENT).
    """

    mean: np.ndarray
    affines: tuple[np.ndarray, ...]
    residuals: tuple[float, ...]
    box: np.ndarray


def landmarks(label_map: LabelMap, settings: Settings) -> np.ndarray:
    """Positions [structures + 6, 3] in LPS mm of one label map; NaN for a structure that it lacks."""
    classes = np.array(settings.source_classes)[label_map.sources.numpy()]
    index = np.argwhere(classes > 0)
    label = classes[tuple(index.T)]
    matrix = label_map.index_to_world
    world = index[:, ::-1] @ matrix[:3, :3].T + matrix[:3, 3]
    count = len(settings.structures)
    voxels = np.bincount(label, minlength=count + 1)[1:]
    with np.errstate(invalid="ignore"):
        centroids = np.stack([np.bincount(label, world[:, axis], count + 1)[1:] / voxels for axis in range(3)], 1)
    rim = [n for n, value in enumerate(settings.structures, start=1) if value.rim]
    world = world[~np.isin(label, rim)] if len(rim) < count else world
    extents = np.repeat(world.mean(0)[None], 6, 0)
    for axis in range(3):
        extents[2 * axis : 2 * axis + 2, axis] = np.percentile(world[:, axis], EXTENT)
    return np.concatenate((centroids, extents))


def align(points: Sequence[np.ndarray], settings: Settings) -> TemplateSpace:
    """The template space of subjects with the given landmarks."""
    centers = [np.nanmean(subject, 0) for subject in points]
    centered = [subject - center for subject, center in zip(points, centers, strict=True)]
    swap = _mirrored_landmarks(settings)
    mean = np.nanmean(centered, 0)
    weights = np.ones(len(mean))
    for _ in range(ROUNDS):
        mean = _symmetric(mean, swap)
        affines = [_fit(mean, subject, weights) for subject in centered]
        back = [_apply(np.linalg.inv(affine), subject) for affine, subject in zip(affines, centered, strict=True)]
        mean = np.nanmean(back, 0)
        error = np.sqrt(np.nanmean([((subject - mean) ** 2).sum(1) for subject in back], 0))
        weights = 1 / (np.nan_to_num(error, nan=np.inf) ** 2 + SURE**2)
        mean = _apply(np.mean(affines, 0), mean)  # towards a mean of the affine maps that is the identity
    mean = _symmetric(mean, swap)
    mean = mean - np.where(swap is not None, [0.0, 1.0, 1.0], 1.0) * _middle(mean)
    affines = [_fit(mean, subject, weights) for subject in points]
    residuals, corners = [], []
    for affine, subject in zip(affines, points, strict=True):
        square = ((_apply(affine, mean) - subject) ** 2).sum(1)
        known = ~np.isnan(square)
        residuals.append(float(np.sqrt(np.average(square[known], weights=weights[known]))))
        corners.append(_apply(np.linalg.inv(affine), subject[-6:]))
    box = np.stack((np.min(corners, (0, 1)), np.max(corners, (0, 1))))
    return TemplateSpace(mean, tuple(affines), tuple(residuals), box)


def _middle(mean: np.ndarray) -> np.ndarray:
    """Middle of the extents, the template's origin; where there is symmetry, x is zero already."""
    extents = mean[-6:]
    return (extents.min(0) + extents.max(0)) / 2


def _mirrored_landmarks(settings: Settings) -> np.ndarray | None:
    if not settings.class_pairs:
        return None
    structures = [label - 1 for label in settings.mirrored_classes[1:]]
    count = len(structures)
    return np.array([*structures, *(count + n for n in (1, 0, 2, 3, 4, 5))])


def _symmetric(mean: np.ndarray, swap: np.ndarray | None) -> np.ndarray:
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
    return points @ matrix[:3, :3].T + matrix[:3, 3]
