"""Where a template lies in an image: an affine registration from any start, the same on every run.

First all displacements at 8 mm, for a few turns of the template (see `search`); the best are refined by gradient
descent on Mattes' mutual information in SimpleITK: a similarity at 4 mm, then an affine map at 4 and 2 mm. ITK's metric
adds up in an order that depends on its threads, so it has one; all else is exact or elementwise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..volume import Geometry, Volume, to_sitk
from .search import DisplacementSearch
from .template import Template

COARSE, MIDDLE, FINE = 8.0, 4.0, 2.0  # mm
TURNS = (0.0, 20.0, -20.0)  # degrees about each axis, one axis at a time
CLASSES = 6  # of grey levels in the search
PEAKS = 2  # kept of every turn
REFINED = 3  # of the peaks of each form of the template
SHELL, BARE = (8.0, 16.0), 0.1  # mm around the focus, where a bare image is darker than this share of the focus
WIDE, NARROW = 22.0, 8.0  # mm around the focus where the coarse and the fine levels look
PERCENTILES = (0.5, 99.8)  # of intensities that become 0 and 1
BINS = 32
RANKS, FEWEST = 16, 50  # classes, and voxels without which there is no information within the focus
LEAST_INFORMATION, LEAST_INNER_INFORMATION, LEAST_INSIDE = 0.13, 0.045, 0.3
SCALES = (0.6, 1.5)
MIDDLE_SHARE, FINE_SHARE = 0.5, 0.07
UNIT = 60.0  # mm, near the radius of a head: rotations, scales and shifts then move voxels by as much
SEED = 7
RELAXATION = 0.7

Check = Callable[[], None]


@dataclass(frozen=True)
class Registration:
    """How a template lies in an image.

    matrix: 4x4, from a place in the template to that in the image, LPS mm. information: mutual information of the two
    in nats, per voxel of the focus with a margin of `WIDE`; what lies outside the image counts as nothing known.
    inner_information: the same within the focus alone. inside: share of the focus within the image.
    """

    matrix: np.ndarray
    information: float
    inner_information: float
    inside: float

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
            self.information >= LEAST_INFORMATION
            and self.inner_information >= LEAST_INNER_INFORMATION
            and self.inside >= LEAST_INSIDE
            and SCALES[0] <= smallest <= largest <= SCALES[1]
        )


def register(volume: Volume, template: Template, check: Check = lambda: None) -> Registration:
    """Align `template` to `volume`, a scalar image of any contrast, spacing, orientation and size.

    There is always an answer; whether it is one, its figures tell. check: called between steps, raises to stop.
    """
    import SimpleITK as sitk

    template = template.near(WIDE)
    image = _unit(volume.voxels)
    fine = _averaged(image, volume.geometry, FINE)
    middle = _averaged(*fine, MIDDLE)
    check()
    starts = _starts(middle, template, check)
    if not starts:  # less of the image than any place of the template needs
        return Registration(np.eye(4), 0.0, 0.0, 0.0)
    form = _Form(template, bare=_is_bare(middle, template, starts[0]))
    rough = _scaled(_averaged(*middle, COARSE))
    found = []
    for start in starts:
        check()
        found.append(_refined(form.coarse, form.wide_coarse, rough, _similarity(start), 100, 3.0))
    _, best = min(found, key=lambda entry: entry[0])
    check()
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(best.GetMatrix())
    affine.SetTranslation(best.GetTranslation())
    value, affine = _refined(form.middle, form.wide_middle, _scaled(middle), affine, 80, 1.0, MIDDLE_SHARE)
    check()
    _, affine = _refined(form.fine, form.narrow_fine, _scaled(fine), affine, 60, 0.5, FINE_SHARE)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(affine.GetMatrix(), (3, 3))
    matrix[:3, 3] = np.multiply(affine.GetTranslation(), UNIT)
    around, inside = _shares_inside(template, matrix, volume.geometry)
    return Registration(matrix, -value * around, _inner_information(middle, template, matrix) * inside, inside)


class _Form:
    """The template at the levels of the refinement, with masks of where they look; bare: nothing but the focus."""

    def __init__(self, template: Template, bare: bool) -> None:
        image, geometry = _image(template, bare), template.geometry
        self.fine, self.middle, self.coarse = (_scaled(_averaged(image, geometry, mm)) for mm in (FINE, MIDDLE, COARSE))
        wide, narrow = ((template.away <= mm).astype(np.float32) for mm in (WIDE, NARROW))
        self.wide_coarse, self.wide_middle = (_mask(wide, geometry, mm) for mm in (COARSE, MIDDLE))
        self.narrow_fine = _mask(narrow, geometry, FINE)


Level = tuple[np.ndarray, Geometry]


def _image(template: Template, bare: bool) -> np.ndarray:
    image = template.image.astype(np.float32)
    return image * template.focus / np.float32(255) if bare else image


def _is_bare(middle: Level, template: Template, start: np.ndarray) -> bool:
    """Whether there is nothing around the focus in the image, as around a brain whose skull was removed."""
    image = _moved(middle, (template.image, template.geometry), start)
    away, known = template.away, image >= 0
    near, within = known & (away > SHELL[0]) & (away <= SHELL[1]), known & (away == 0)
    if not near.any() or not within.any():
        return False
    return bool(image[near].mean() < BARE * image[within].mean())


def _moved(level: Level, grid: Level, matrix: np.ndarray) -> np.ndarray:
    """An image interpolated on the grid of another, to which `matrix` goes from there; -1 outside."""
    import SimpleITK as sitk

    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    moved = sitk.Resample(_sitk(level), _sitk(grid), transform, sitk.sitkLinear, -1.0, sitk.sitkFloat32)
    return sitk.GetArrayFromImage(moved)


def _starts(middle: Level, template: Template, check: Check) -> list[np.ndarray]:
    """Rigid maps [4, 4] from template to image, best first, from the search at the coarse level."""
    image, valid, origin = _upright(middle, COARSE)
    wide, geometry = _averaged((template.away <= WIDE).astype(np.float32), template.geometry, COARSE)
    coarse = [_averaged(_image(template, bare), template.geometry, COARSE)[0] for bare in (True, False)]
    places = np.argwhere(wide > 0.5)
    centre = places.mean(axis=0)
    spacing = np.array(geometry.spacing[::-1])
    half = math.ceil(np.linalg.norm((places - centre) * spacing, axis=1).max() / COARSE) + 1
    shape = (2 * half + 1,) * 3
    world = np.array(geometry.origin) + (centre * spacing)[::-1]
    search = DisplacementSearch(np.where(valid, _classes(image, valid), -1), shape)
    found: list[list[tuple[float, np.ndarray]]] = [[], []]
    for turn in _turns():
        # a grid of COARSE about the centre, whose voxel n is at  world + turn^-1 (n - half) * COARSE  in the template
        step = np.linalg.inv(turn)[::-1, ::-1] * COARSE / spacing[:, None]
        grid = (step, centre - step @ np.full(3, half), shape)
        mask = ndimage.affine_transform(wide, *grid, order=1) > 0.5
        for form, form_image in enumerate(coarse):
            check()
            turned = ndimage.affine_transform(form_image, *grid, order=1)
            for peak in search(np.where(mask, _classes(turned, mask), -1), PEAKS):
                matrix = np.eye(4)
                matrix[:3, :3] = turn
                matrix[:3, 3] = origin + COARSE * (np.array(peak.shift) + half)[::-1] - turn @ world
                found[form].append((peak.information, matrix))
    chosen: list[np.ndarray] = []
    for entries in found:
        for _, matrix in sorted(entries, key=lambda entry: -entry[0])[:REFINED]:
            if not any(np.abs(matrix - other).max() < COARSE for other in chosen):
                chosen.append(matrix)
    return chosen


def _turns() -> list[np.ndarray]:
    turns = [np.eye(3)]
    for axis, degrees in itertools.product(range(3), TURNS[1:]):
        a, b = (n for n in range(3) if n != axis)
        turn, angle = np.eye(3), math.radians(degrees)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        turns.append(turn)
    return turns


def _upright(level: Level, mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image on a grid along L, P, S: voxels and where they are known, [k, j, i], and LPS of the first."""
    import SimpleITK as sitk

    image, geometry = level
    k, j, i = geometry.shape
    corners = np.array([[x, y, z, 1] for x in (-0.5, i - 0.5) for y in (-0.5, j - 0.5) for z in (-0.5, k - 0.5)])
    world = (geometry.index_to_world @ corners.T)[:3].T
    low, high = world.min(axis=0), world.max(axis=0)
    size = [max(1, round(float(length) / mm)) for length in high - low]
    origin = (low + high) / 2 - mm * (np.array(size) - 1) / 2
    grid = (size, sitk.Transform(), sitk.sitkLinear, origin.tolist(), [mm] * 3, np.eye(3).ravel().tolist())
    smooth, _ = _averaged(image, geometry, mm), None
    known = sitk.Resample(to_sitk(np.ones(smooth[0].shape, np.float32), smooth[1]), *grid, 0.0)
    return (
        sitk.GetArrayFromImage(sitk.Resample(_sitk(smooth), *grid, 0.0)),
        sitk.GetArrayFromImage(known) > 0.5,
        origin,
    )


def _classes(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Grey-level classes with the same width, over the range of the voxels in the mask."""
    values = image[mask]
    low, high = float(values.min()), float(values.max())
    return np.clip((image - low) * (CLASSES / max(high - low, 1e-6)), 0, CLASSES - 1).astype(int)


def _unit(voxels: np.ndarray) -> np.ndarray:
    """Intensities with the range between two percentiles as 0 to 1, float32."""
    sample = np.sort(voxels[tuple(slice(None, None, 1 + length // 96) for length in voxels.shape)], axis=None)
    low, high = (float(sample[round(p / 100 * (sample.size - 1))]) for p in PERCENTILES)
    scaled = voxels.astype(np.float32)
    scaled -= low
    scaled /= max(high - low, 1e-6)
    return np.clip(scaled, 0, 1, out=scaled)


def _averaged(image: np.ndarray, geometry: Geometry, mm: float) -> Level:
    """The image with voxels of about `mm` along the axes that are finer: means over what each new voxel covers."""
    new = [
        max(1, round(n * s / mm)) if s < mm else n for n, s in zip(geometry.shape, geometry.spacing[::-1], strict=True)
    ]
    for axis, length in enumerate(new):
        image = _means(image, axis, length)
    scale = np.array(geometry.shape[::-1]) / np.array(new[::-1])
    to_old = np.diag([*scale, 1.0])
    to_old[:3, 3] = (scale - 1) / 2
    k, j, i = new
    return image, Geometry.from_index_to_world(geometry.index_to_world @ to_old, (k, j, i))


def _means(image: np.ndarray, axis: int, new: int) -> np.ndarray:
    """Means along an axis over `new` parts of equal length, voxels at their borders by their shares."""
    old = image.shape[axis]
    if new == old:
        return image
    edges = np.arange(new + 1) * old / new
    first = np.floor(edges[:-1] + 1e-9).astype(int)
    total: Any = 0
    for step in range(math.ceil(old / new) + 1):
        covered = np.minimum(edges[1:], first + step + 1) - np.maximum(edges[:-1], first + step)
        share = (np.maximum(covered, 0) * new / old).astype(np.float32)
        if share.any():
            along = share.reshape([-1 if a == axis else 1 for a in range(3)])
            total = total + along * np.take(image, np.minimum(first + step, old - 1), axis)
    return np.asarray(total)


def _scaled(level: Level) -> Any:
    """An image whose coordinates are in `UNIT`."""
    image = _sitk(level)
    image.SetSpacing([mm / UNIT for mm in image.GetSpacing()])
    image.SetOrigin([mm / UNIT for mm in image.GetOrigin()])
    return image


def _sitk(level: Level) -> Any:
    return to_sitk(level[0], level[1])


def _mask(mask: np.ndarray, geometry: Geometry, mm: float) -> Any:
    averaged, geometry = _averaged(mask, geometry, mm)
    return _scaled(((averaged > 0.5).astype(np.uint8), geometry))


def _similarity(start: np.ndarray) -> Any:
    import SimpleITK as sitk

    transform = sitk.Similarity3DTransform()
    transform.SetMatrix(start[:3, :3].ravel().tolist())
    transform.SetTranslation((start[:3, 3] / UNIT).tolist())
    return transform


def _refined(
    fixed: Any, mask: Any, moving: Any, transform: Any, steps: int, rate: float, share: float = 1.0
) -> tuple[float, Any]:
    """The metric, minus the mutual information, and the transform improved; all coordinates are in `UNIT`.

    rate: first step, in mm. share: of the voxels that are used, chosen at random with a fixed seed.
    """
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(mask)
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(rate / UNIT, 0.01 * rate / UNIT, steps, RELAXATION, 1e-6)
    method.SetInitialTransform(transform, inPlace=True)
    positions, values = [transform.GetParameters()], []

    def passed() -> None:  # called after the step from where the value was computed
        values.append(method.GetMetricValue())
        positions.append(method.GetOptimizerPosition())

    method.AddCommand(sitk.sitkIterationEvent, passed)
    method.Execute(fixed, moving)
    value, position = min(zip(values, positions[: len(values)], strict=True))  # it ends where it happens to be
    transform.SetParameters(position)
    return value, transform


def _inner_information(middle: Level, template: Template, matrix: np.ndarray) -> float:
    """Mutual information in nats within the focus, of classes with as many voxels each."""
    fixed, geometry = _averaged(template.image.astype(np.float32), template.geometry, MIDDLE)
    focus = _averaged(template.focus.astype(np.float32), template.geometry, MIDDLE)[0]
    image = _moved(middle, (fixed, geometry), matrix)
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
    return _entropy(sides[0]) + _entropy(sides[1]) - _entropy(joint) - bias


def _entropy(shares: np.ndarray) -> float:
    known = shares[shares > 0]
    return -float((known * np.log(known)).sum())


def _shares_inside(template: Template, matrix: np.ndarray, geometry: Geometry) -> tuple[float, float]:
    """Shares of the template and of its focus that lie within the grid of an image."""
    to_index = np.linalg.inv(geometry.index_to_world) @ matrix @ template.geometry.index_to_world
    k, j, i = np.ogrid[tuple(slice(n) for n in template.image.shape)]
    inside = np.ones(template.image.shape, bool)
    for row, length in zip(to_index[:3], geometry.shape[::-1], strict=True):
        place = row[0] * i + row[1] * j + row[2] * k + row[3]
        inside &= (place >= -0.5) & (place <= length - 0.5)
    return float(inside[template.away <= WIDE].mean()), float(inside[template.focus >= 128].mean())
