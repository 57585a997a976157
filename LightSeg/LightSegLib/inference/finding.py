"""Where a model that was made for a region has to look in a larger image: another model's labels show the place.

The other model segments a copy of the image that is as coarse as its own grid, which takes a fraction of the time; the
image itself, if it resamples that as its card asks, or needs other models.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..catalog.card import Card
from ..catalog.needed import finder_of
from ..catalog.sides import SIDES, labels_of_sides, side_of, value_shift
from ..core.errors import DownloadError, ModelError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, Progress, ProgressCallback
from ..imaging.geometry import Geometry
from ..imaging.roi import RegionOfInterest, Slices
from ..imaging.volume import Segmentation, Volume
from .contrast import other_contrast
from .other_segmenter import OtherSegmenter
from .processing.orientation import axis_steps, turned
from .processing.outer_resampling import drops_fractions
from .provenance import confidence_facts, nothing_found


@dataclass(frozen=True)
class Place:
    """A box in an image where a model shall look.

    Attributes:
        side: "left", "right", or None where that was not asked.
        region: the box.
        whole: whether none of it was cut off by a region of interest.
    """

    side: str | None
    region: RegionOfInterest
    whole: bool = True


@dataclass(frozen=True)
class Places:
    """What a finder found.

    Attributes:
        found: the boxes.
        missing: names of the finder's labels without a place.
        finder: its own result, on a coarse copy of the image or on all of it.
        notices: what its result shows of the image.
    """

    found: tuple[Place, ...]
    missing: tuple[str, ...]
    finder: Segmentation
    notices: tuple[Message, ...] = ()


def find_places(
    finder: OtherSegmenter,
    card: Card,
    volumes: Sequence[Volume],
    roi: RegionOfInterest | None,
    report: ProgressCallback | None,
    canceled: CancelCallback | None,
) -> Places:
    """Return boxes on the grid of the volumes around the labels of a card's finder, as far as they are in `roi`.

    Args:
        finder: of the other model, which takes as many of the volumes as it has channels.
        card: of the model that needs a place.
        volumes: one per channel of the card.
        roi: where labels are wanted; None for everywhere.
        report: takes the finder's progress.
        canceled: asked between its steps.

    Raises:
        NothingToAlignError: if the finder's subject is not in the image.
        LightSegError: what the finder raises.
    """
    rule = card.region_from
    assert rule is not None

    def on_progress(progress: Progress) -> None:
        if report is not None:
            report(replace(progress, step=_("Finding the place: {step}").format(step=progress.step)))

    seen, whole = list(volumes[: len(finder.card.channels)]), _sees_whole(finder.card)
    if not whole:
        order, flips = axis_steps(volumes[0].geometry, finder.card.preprocessing)
        # turned first, so that the same voxels are averaged however the image is stored
        seen = [coarsened(turned(volume, order, flips), _grid_mm(finder.card)) for volume in seen]
    try:
        result = finder.segment(seen, None, on_progress, canceled)
    except (DownloadError, ModelError) as error:
        raise type(error)(
            _("The model '{title}' finds its place with the model '{finder}'. {reason}").format(
                title=card.title, finder=finder.card.title, reason=error
            )
        ) from error
    chosen = [label for label in finder.card.labels if label.value in rule.labels]
    groups: dict[str | None, list[int]] = {}
    for label in chosen:
        groups.setdefault(side_of(label) if rule.by_side else None, []).append(label.value)
    found, missing = [], []
    limit = None if roi is None else roi.slices(volumes[0].geometry)
    for side in sorted(groups, key=lambda side: SIDES.index(side) if side in SIDES else len(SIDES)):
        mask = np.isin(result.voxels, groups[side])
        box = _whole_voxels_around(mask, result.geometry, rule.margin_mm)
        if not whole:
            box = _box(mask, result.geometry, volumes[0].geometry, rule.margin_mm)
        if box is None:
            missing.append(" / ".join(label.name for label in chosen if label.value in groups[side]))
        elif (seen_part := _both(box, limit)) is not None:
            region = RegionOfInterest.of_slices(seen_part, volumes[0].geometry)
            found.append(Place(side, region, seen_part == box))
    return Places(tuple(found), tuple(missing), result, tuple(other_contrast(card, seen[0], result)))


def coarsened(volume: Volume, spacing: float | None) -> Volume:
    """Return a copy whose voxels are the means of as many whole ones, along each axis, as fit `spacing` in mm."""
    steps = [1 if spacing is None else max(1, math.floor(spacing / mm + 1e-3)) for mm in volume.geometry.spacing[::-1]]
    steps = [min(step, length // 2) for step, length in zip(steps, volume.voxels.shape, strict=True)]
    if max(steps) <= 1:
        return volume
    shape = tuple(length // step for length, step in zip(volume.voxels.shape, steps, strict=True))
    total = np.zeros(shape, np.float32)
    for k in range(steps[0]):
        for j in range(steps[1]):
            for i in range(steps[2]):
                part = volume.voxels[k :: steps[0], j :: steps[1], i :: steps[2]]
                total += part[: shape[0], : shape[1], : shape[2]]
    matrix = volume.geometry.index_to_world @ np.diag([*steps[::-1], 1.0])
    matrix[:3, 3] = (volume.geometry.index_to_world @ [*((step - 1) / 2 for step in steps[::-1]), 1.0])[:3]
    geometry = Geometry.from_index_to_world(matrix, (shape[0], shape[1], shape[2]))
    return replace(volume, voxels=total / math.prod(steps), geometry=geometry)


def in_whole_numbers(volumes: Sequence[Volume], card: Card, place: Place) -> tuple[Sequence[Volume], list[Message]]:
    """Return the volumes, truncated in a place where the card's rule asks for whole numbers, and notices about that."""
    rule = card.region_from
    if rule is None or not rule.whole_numbers:
        return volumes, []
    seen, notices = [], []
    for volume in volumes:
        box = place.region.slices(volume.geometry)
        whole, notice = drops_fractions(volume.name, volume.voxels[box], rule.whole_numbers)
        notices += [] if notice is None else [notice]
        if whole and volume.voxels.dtype.kind == "f":
            voxels = volume.voxels.copy()
            np.trunc(voxels[box], out=voxels[box])
            volume = replace(volume, voxels=voxels)
        seen.append(volume)
    return seen, notices


def joined(
    card: Card, places: Places, results: Sequence[Segmentation], volume: Volume, facts: dict[str, Any]
) -> Segmentation:
    """Return one segmentation of those at the places; where two have a label at one voxel, the first one's counts.

    Args:
        card: of the model.
        places: where it looked.
        results: what it found there.
        volume: the image, for its grid.
        facts: of the whole run, for the provenance, whose others are those of the first result, or the finder's where
            there is none.
    """
    rule = card.region_from
    assert rule is not None
    labels = labels_of_sides(card) if rule.by_side else card.result_labels
    voxels = np.zeros(volume.geometry.shape, np.uint8 if labels[-1].value <= 255 else np.uint16)
    confidence: np.ndarray | None = None
    for place, result in zip(places.found, results, strict=True):
        used = place.region.slices(volume.geometry)
        part, new = voxels[used], result.voxels[used]
        free = (part == 0) & (new > 0)
        if result.confidence is not None:
            confidence = np.zeros(volume.geometry.shape, np.uint8) if confidence is None else confidence
            np.copyto(confidence[used], result.confidence[used], where=free | (confidence[used] == 0))
        part[free] = new[free].astype(voxels.dtype) + value_shift(card, place.side)
    provenance = (results[0] if results else places.finder).provenance | facts | _finder_facts(places, card)
    provenance["memory_estimate_mb"] = max(one.provenance["memory_estimate_mb"] for one in (places.finder, *results))
    provenance["notices"] = _notices(places, results)
    for name in ("low_confidence_slices", "soft_dice", "expected_dice"):  # of one place, or of the finder
        provenance.pop(name, None)
    if confidence is not None:
        provenance |= confidence_facts(voxels, confidence)
    totals = () if rule.by_side else card.totals
    return Segmentation(voxels, volume.geometry, labels, provenance, confidence, totals)


def _notices(places: Places, results: Sequence[Segmentation]) -> list[str]:
    """Return all notices of the results once each, and what was not found."""
    notices = [notice for result in results for notice in result.provenance["notices"] if notice != nothing_found()]
    notices += places.notices
    notices += [
        _("{title} found no {name}, so there is no result for it.").format(
            title=places.finder.provenance["title"], name=name
        )
        for name in places.missing
    ]
    for place, result in zip(places.found, results, strict=True):
        if place.side is None:
            continue
        missing = [label.name for label in result.labels if not (result.voxels == label.value).any()]
        if len(missing) == len(result.labels):
            notices.append(_("Nothing was found on the {side}.").format(side=place.side))
        elif missing and place.whole:
            notices.append(
                _(
                    "No {names} was found on the {side}, where {title} found its place. "
                    "Check whether the image is of the kind that the model was made for."
                ).format(names=" / ".join(missing), side=place.side, title=places.finder.provenance["title"])
            )
    if not any(result.voxels.any() for result in results):
        notices.append(nothing_found())
    return list(dict.fromkeys(notices))


def _finder_facts(places: Places, card: Card) -> dict[str, Any]:
    rule, finder = card.region_from, places.finder.provenance
    assert rule is not None
    known = {name: finder[name] for name in ("model", "version", "weights_sha256", "citation")}
    boxes = {place.side or "": place.region.corners.round(3).tolist() for place in places.found}
    return {
        "region_from": known | {"labels": list(rule.labels), "margin_mm": rule.margin_mm, "rois_lps": boxes},
        **{name: finder[name] for name in ("alignment",) if name in finder},
    }


def finder_card(card: Card) -> Card:
    """Return the card of a model's finder, which it must have.

    Raises:
        ModelError: as `finder_of`.
    """
    finder = finder_of(card)
    assert finder is not None
    return finder


def _sees_whole(finder: Card) -> bool:
    """Return whether a finder takes the image as it is, not a coarse copy."""
    rule = finder.preprocessing.outer_resampling
    return (rule is not None and rule.default) or finder.region_from is not None or bool(finder.parts)


def _grid_mm(finder: Card) -> float | None:
    """Return the spacing of the grid on which the finder computes; None where it takes the image's."""
    if finder.preprocessing.alignment is not None:
        return min(finder.preprocessing.alignment.spacing)
    known = finder.preprocessing.spacing or ()
    stated = [mm for mm in known if mm is not None]
    return min(stated) if stated and len(stated) == 3 else None


def _whole_voxels_around(mask: np.ndarray, geometry: Geometry, margin: float) -> Slices | None:
    """Return slices around a mask with a margin in mm that is rounded down to whole voxels; None for an empty mask.

    The size of a voxel counts as a NIfTI file holds it, in 32 bits, as for TotalSegmentator, whose rule this is.
    """
    if not mask.any():
        return None
    slices = []
    for axis, mm in enumerate(geometry.spacing[::-1]):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        wide = int(margin / float(np.float32(mm)))
        slices.append(slice(max(0, int(used[0]) - wide), min(mask.shape[axis], int(used[-1]) + 1 + wide)))
    k, j, i = slices
    return k, j, i


def _box(mask: np.ndarray, geometry: Geometry, full: Geometry, margin: float) -> Slices | None:
    """Return slices of the full grid around a mask on another one, whose axes are parallel; None for an empty mask."""
    if not mask.any():
        return None
    bounds = []
    for axis in (2, 1, 0):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        bounds.append((used[0] - 0.5, used[-1] + 0.5))
    corners = np.array([[*corner, 1] for corner in itertools.product(*bounds)])
    index = (corners @ (np.linalg.inv(full.index_to_world) @ geometry.index_to_world).T)[:, 2::-1]  # k, j, i
    wide = margin / np.array(full.spacing[::-1])
    low = np.ceil(np.round(index.min(0) - wide, 6)).astype(int)
    high = np.floor(np.round(index.max(0) + wide, 6)).astype(int) + 1
    k, j, i = (
        slice(max(0, int(a)), max(1, min(int(b), length))) for a, b, length in zip(low, high, full.shape, strict=True)
    )
    return k, j, i


def _both(box: Slices, limit: Slices | None) -> Slices | None:
    """Return what two boxes share; None where that is nothing."""
    if limit is None:
        return box
    k, j, i = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, limit, strict=True))
    return None if any(part.stop <= part.start for part in (k, j, i)) else (k, j, i)
