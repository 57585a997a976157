"""Whether what is looked at is of the size of the region that a model was made for, and the words where it is not."""

from __future__ import annotations

from typing import NamedTuple

from ..catalog.card import Card, Preprocessing
from ..core.errors import NothingToAlignError
from ..core.figures import distinct
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from ..imaging.geometry import Geometry
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import Volume
from .fit import likely_cause
from .processing.orientation import axis_steps

TOO_LARGE, TOO_SMALL = 2.0, 0.5  # times a model's region, along any axis


class _Sizes(NamedTuple):
    """Lengths of boxes as texts, "35 x 50 x 40": what is seen, what a model was made for, the largest that it takes."""

    seen: str
    made_for: str
    largest: str


def is_too_large(card: Card, steps: Preprocessing, geometry: Geometry, roi: RegionOfInterest | None) -> bool:
    """Return whether what is looked at is more than `TOO_LARGE` times as long, along any axis, as the card's region.

    Without a size in its card a model that has a finder was made for what this finds, unless a region is given.
    """
    if card.roi_mm is None:
        return card.region_from is not None and roi is None
    lengths = _lengths(steps, geometry, roi)
    return any(length > TOO_LARGE * mm for length, mm in zip(lengths, card.roi_mm, strict=True))


def too_large(card: Card, steps: Preprocessing, geometry: Geometry, roi: RegionOfInterest | None) -> Message:
    """Return the message about an image, or a region, that is too large for a model without a finder."""
    sizes = _sizes(card, steps, geometry, roi)
    if roi is None:
        return _(
            "The image shows {seen} mm, but this model was made for a region of {size} mm. "
            "Set a region of interest around the structure."
        ).format(seen=sizes.seen, size=sizes.made_for)
    return _(
        "The region of interest covers {seen} mm of the image, but this model was made for one of {size} mm, "
        "so the result is probably wrong. Set a smaller region around the structure."
    ).format(seen=sizes.seen, size=sizes.made_for)


def too_small(card: Card, steps: Preprocessing, geometry: Geometry, roi: RegionOfInterest | None) -> Message | None:
    """Return the notice about a region of which the image has less than `TOO_SMALL` of the card's; None for others."""
    if roi is None or card.roi_mm is None:
        return None
    lengths = _lengths(steps, geometry, roi)
    if all(length >= TOO_SMALL * mm for length, mm in zip(lengths, card.roi_mm, strict=True)):
        return None
    return _(
        "The region of interest covers {seen} mm of the image, but this model was made for one of {size} mm, "
        "so the result is probably cut off or wrong. Set a larger region around the structure."
    ).format(seen=" x ".join(f"{mm:.3g}" for mm in lengths), size=_sizes(card, steps, geometry, roi).made_for)


def no_place(
    error: NothingToAlignError,
    finder: Card,
    card: Card,
    steps: Preprocessing,
    image: Volume,
    roi: RegionOfInterest | None,
) -> Message:
    """Return why a model has no place in an image in which its finder found nothing.

    Args:
        error: the finder's.
        finder: card of the finder.
        card: of the model.
        steps: of the model in this run.
        image: as it is; the finder may have seen a coarse copy.
        roi: where labels are wanted, which is too large for the model; None for everywhere.
    """
    if cause := likely_cause(finder, image):
        return joined(" ", (cause, error.fact))
    if roi is None:
        return _(
            "{what} The model '{title}' looks there for its place: "
            "if the structure is in the image, set a region of interest around it."
        ).format(what=error, title=card.title)
    sizes = _sizes(card, steps, image.geometry, roi)
    return _(
        "The region of interest covers {seen} mm of the image, but the model '{title}' was made for one of {size} mm "
        "and takes at most {largest} mm, so it looked for its place in the whole image. {what} "
        "If the structure is in the image, set a smaller region around it."
    ).format(title=card.title, what=error.fact, seen=sizes.seen, size=sizes.made_for, largest=sizes.largest)


def no_place_in_ct(card: Card, steps: Preprocessing, image: Volume, roi: RegionOfInterest | None) -> Message:
    """Return the message about a CT in which a model for MR would have to look for its place; see `no_place`."""
    if roi is None:
        return _(
            "{volume} is a CT by its attributes or its values, in which '{title}' cannot find its place. "
            "Choose an MR image, or set a region of interest around the structure."
        ).format(volume=image.name, title=card.title)
    sizes = _sizes(card, steps, image.geometry, roi)
    return _(
        "{volume} is a CT by its attributes or its values, in which '{title}' cannot find its place, "
        "and the region of interest covers {seen} mm of the image. "
        "Choose an MR image, or set a region of at most {largest} mm around the structure."
    ).format(volume=image.name, title=card.title, seen=sizes.seen, largest=sizes.largest)


def _lengths(steps: Preprocessing, geometry: Geometry, roi: RegionOfInterest | None) -> tuple[float, ...]:
    """Return how long what is looked at is, in mm, along i, j, k of the model's orientation."""
    used = [slice(0, length) for length in geometry.shape] if roi is None else roi.slices(geometry)
    extent = [(part.stop - part.start) * mm for part, mm in zip(used, geometry.spacing[::-1], strict=True)]
    order, _flips = axis_steps(geometry, steps)
    return tuple(extent[axis] for axis in order[::-1])


def _sizes(card: Card, steps: Preprocessing, geometry: Geometry, roi: RegionOfInterest | None) -> _Sizes:
    """Return the sizes that a message compares; of what is seen with as many digits as distinguish it from a limit."""
    made_for = card.roi_mm or ()
    largest = [TOO_LARGE * mm for mm in made_for]
    pairs = [distinct(*pair, digits=0) for pair in zip(_lengths(steps, geometry, roi), largest, strict=True)]
    return _Sizes(
        " x ".join(seen for seen, _most in pairs),
        " x ".join(f"{mm:.4g}" for mm in made_for),
        " x ".join(most for _seen, most in pairs),
    )
