"""Position of a template in an image: an affine registration from any start, deterministic.

First all displacements at 8 mm, for a few turns of the template (see `search`); the best are refined by gradient
descent on Mattes' mutual information in SimpleITK: a similarity at 8 mm, then an affine map at 4 and 2 mm. ITK's metric
adds up in an order that depends on its threads, so it has one; all else is exact or elementwise.
"""

from __future__ import annotations

import contextlib
import math
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...imaging.geometry import Geometry
from ...imaging.volume import Volume
from . import search
from .levels import Level, as_itk, averaged, moved, unit
from .search import Check
from .template import Template

COARSE, MIDDLE, FINE = 8.0, 4.0, 2.0  # mm: voxels of the levels
SHELL, BARE = (8.0, 16.0), 0.1  # mm around the focus, where a bare image is darker than this share of the focus
WIDE, NARROW = 22.0, 8.0  # mm around the focus where the coarse and the fine levels look
BINS = 32
RANKS, FEWEST = 16, 50  # classes, and voxels without which there is not an information within the focus
LEAST_INFORMATION, LEAST_INNER_INFORMATION, LEAST_INSIDE = 0.26, 0.03, 0.3
SCALES, STRETCH = (0.6, 1.5), 1.5  # limits of a credible size, and of its ratio along two directions
MIDDLE_SHARE, FINE_SHARE = 0.5, 0.07
UNIT = 60.0  # mm, near the radius of a head: rotations, scales and shifts then move voxels by as much
SEED = 7
RELAXATION = 0.7


@dataclass(frozen=True)
class Registration:
    """The position of a template in an image.

    Attributes:
        matrix: 4x4, from a place in the template to that in the image, LPS mm.
        information: mutual information of the two in nats, per voxel of the focus with a margin of `WIDE`; what
            is outside the image counts as unknown.
        inner_information: the same within the focus alone.
        inside: share of the focus within the image.
        looked_again: the matrix was fitted again to what a network found; the other figures are of the one before.
    """

    matrix: np.ndarray
    information: float
    inner_information: float
    inside: float
    looked_again: bool = False

    @property
    def scales(self) -> tuple[float, float, float]:
        """How much larger the image shows what is in the template, along three right angles; largest first."""
        a, b, c = np.linalg.svd(self.matrix[:3, :3])[1]
        return float(a), float(b), float(c)

    @property
    def credible(self) -> bool:
        """Whether the image shows what the template does, and enough of it."""
        largest, _, smallest = self.scales
        return (
            self.information + self.inner_information >= LEAST_INFORMATION
            and self.inner_information >= LEAST_INNER_INFORMATION
            and self.inside >= LEAST_INSIDE
            and SCALES[0] <= smallest <= largest <= min(SCALES[1], STRETCH * smallest)
        )


def register(
    volume: Volume, template: Template, check: Check = lambda: None, workers: Executor | None = None
) -> Registration:
    """Align `template` to `volume`, a scalar image of any contrast, spacing, orientation and size.

    There is always a result; its figures show whether it is credible.

    Args:
        check: called between steps, raises to stop.
        workers: for what can be done side by side; the answer is the same.
    """
    import SimpleITK as sitk

    template = template.near(WIDE)
    image = unit(volume.voxels)
    fine = averaged(image, volume.geometry, FINE)
    middle = averaged(*fine, MIDDLE)
    check()
    starts = search.starts(middle, template, WIDE, check, workers)
    if not starts:  # less of the image than any place of the template needs
        return Registration(np.eye(4), 0.0, 0.0, 0.0)
    form = _Form(template, bare=_is_bare(middle, template, starts[0]))
    rough = _scaled(averaged(*middle, COARSE))
    found = []
    for start in starts:
        check()
        found.append(_refined(form.coarse, form.wide_coarse, rough, _similarity(start), _Descent(100, 3.0)))
    _, best = min(found, key=lambda entry: entry[0])
    check()
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(best.GetMatrix())
    affine.SetTranslation(best.GetTranslation())
    value, affine = _refined(form.middle, form.wide_middle, _scaled(middle), affine, _Descent(80, 1.0, MIDDLE_SHARE))
    check()
    _, affine = _refined(form.fine, form.narrow_fine, _scaled(fine), affine, _Descent(60, 0.5, FINE_SHARE))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(affine.GetMatrix(), (3, 3))
    matrix[:3, 3] = np.multiply(affine.GetTranslation(), UNIT)
    around, inside = _shares_inside(template, matrix, volume.geometry)
    return Registration(matrix, -value * around, _inner_information(middle, template, matrix) * inside, inside)


class _Form:
    """The template at the levels of the refinement, with masks of where they look; bare: nothing but the focus."""

    def __init__(self, template: Template, bare: bool) -> None:
        image, geometry = template.form(bare), template.geometry
        self.fine, self.middle, self.coarse = (_scaled(averaged(image, geometry, mm)) for mm in (FINE, MIDDLE, COARSE))
        wide, narrow = ((template.away <= mm).astype(np.float32) for mm in (WIDE, NARROW))
        self.wide_coarse, self.wide_middle = (_mask(wide, geometry, mm) for mm in (COARSE, MIDDLE))
        self.narrow_fine = _mask(narrow, geometry, FINE)


def _is_bare(middle: Level, template: Template, start: np.ndarray) -> bool:
    """Return whether there is nothing around the focus in the image, as around a brain whose skull was removed."""
    image = moved(middle, (template.image, template.geometry), start)
    away, known = template.away, image >= 0
    near, within = known & (away > SHELL[0]) & (away <= SHELL[1]), known & (away == 0)
    if not near.any() or not within.any():
        return False
    return bool(image[near].mean() < BARE * image[within].mean())


def _scaled(level: Level) -> Any:
    """Return an image whose coordinates are in `UNIT`."""
    image = as_itk(level)
    image.SetSpacing([mm / UNIT for mm in image.GetSpacing()])
    image.SetOrigin([mm / UNIT for mm in image.GetOrigin()])
    return image


def _mask(mask: np.ndarray, geometry: Geometry, mm: float) -> Any:
    """Return a mask at about `mm` per voxel as a SimpleITK image."""
    shares, geometry = averaged(mask, geometry, mm)
    return _scaled(((shares > 0.5).astype(np.uint8), geometry))


def _similarity(start: np.ndarray) -> Any:
    """Return the similarity transform of a starting position."""
    import SimpleITK as sitk

    transform = sitk.Similarity3DTransform()
    transform.SetMatrix(start[:3, :3].ravel().tolist())
    transform.SetTranslation((start[:3, 3] / UNIT).tolist())
    return transform


@dataclass(frozen=True)
class _Descent:
    """Most steps, the first of them in mm, and the share of voxels used, chosen at random with a fixed seed."""

    steps: int
    rate: float
    share: float = 1.0


def _refined(fixed: Any, mask: Any, moving: Any, transform: Any, descent: _Descent) -> tuple[float, Any]:
    """Return the metric, minus the mutual information, and the transform improved; all coordinates are in `UNIT`."""
    import SimpleITK as sitk

    step = descent.rate / UNIT
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(mask)
    if descent.share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(descent.share, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(step, 0.01 * step, descent.steps, RELAXATION, 1e-6)
    method.SetInitialTransform(transform, inPlace=True)
    positions, values = [transform.GetParameters()], []

    def passed() -> None:  # called after the step from where the value was computed
        values.append(method.GetMetricValue())
        positions.append(method.GetOptimizerPosition())

    method.AddCommand(sitk.sitkIterationEvent, passed)
    with contextlib.suppress(RuntimeError):  # so much of the template left the image that there is nothing to compare
        method.Execute(fixed, moving)
    if not values:
        return 0.0, transform
    value, position = min(zip(values, positions[: len(values)], strict=True))  # it ends where it happens to be
    transform.SetParameters(position)
    return value, transform


def _inner_information(middle: Level, template: Template, matrix: np.ndarray) -> float:
    """Mutual information in nats within the focus, of classes with as many voxels each."""
    fixed, geometry = averaged(template.image.astype(np.float32), template.geometry, MIDDLE)
    focus = averaged(template.focus.astype(np.float32), template.geometry, MIDDLE)[0]
    image = moved(middle, (fixed, geometry), matrix)
    used = (focus >= 128) & (image >= 0)
    count = int(np.count_nonzero(used))
    if count < FEWEST:
        return 0.0
    ranked = []
    for values in (fixed[used], image[used]):
        limits = np.unique(np.sort(values)[np.arange(1, RANKS) * count // RANKS])
        ranked.append(np.searchsorted(limits, values, side="right"))
    joint = np.bincount(ranked[0] * RANKS + ranked[1], minlength=RANKS**2).reshape(RANKS, RANKS) / count
    sides = joint.sum(axis=1), joint.sum(axis=0)
    bias = math.prod(np.count_nonzero(side) - 1 for side in sides) / (2 * count)
    return float(_entropy(sides[0]) + _entropy(sides[1]) - _entropy(joint) - bias)


def _entropy(shares: np.ndarray) -> float:
    """Return the entropy of shares that sum to 1, in nats."""
    known = shares[shares > 0]
    return -float((known * np.log(known)).sum())


def _shares_inside(template: Template, matrix: np.ndarray, geometry: Geometry) -> tuple[float, float]:
    """Return the shares of the template and of its focus that are within the grid of an image."""
    to_index = np.linalg.inv(geometry.index_to_world) @ matrix @ template.geometry.index_to_world
    k, j, i = np.ogrid[tuple(slice(n) for n in template.image.shape)]
    inside = np.ones(template.image.shape, bool)
    for row, length in zip(to_index[:3], geometry.shape[::-1], strict=True):
        place = row[0] * i + row[1] * j + row[2] * k + row[3]
        inside &= (place >= -0.5) & (place <= length - 0.5)
    return float(inside[template.away <= WIDE].mean()), float(inside[template.focus >= 128].mean())
