"""How a result came about, as records, pages and other programs read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import __version__
from ..catalog.card import Card
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..imaging.roi import RegionOfInterest
from .confidence import lowest_confidence_slices
from .options import InferenceOptions

if TYPE_CHECKING:
    import numpy as np


def model_facts(card: Card) -> dict[str, Any]:
    """Return what computed it, and under which terms."""
    names = {label.value: label.name for label in card.labels}
    totals = {total.name: [names[value] for value in total.labels] for total in card.totals}
    return {
        "model": card.id,
        "title": card.title,
        "version": card.version,
        "license": card.license,
        "citation": card.citation,
        "lightseg": __version__,
        **({"totals": totals} if totals else {}),
    }


def settings_facts(options: InferenceOptions, card: Card, roi: RegionOfInterest | None) -> dict[str, Any]:
    """Return what the user chose, or else the card specifies."""
    rules = options.rules(card)
    return {
        "precision": options.precision,
        "mirror": bool(rules.mirror_axes),
        "tile_overlap": options.tile_overlap,
        "largest_component": rules.largest_component,
        "orientation": options.orientation,
        "split_sides": options.split_sides,
        "outer_resampling": options.outer_resampling,
        "structures": list(options.structures),
        "roi_lps": None if roi is None else roi.corners.tolist(),
    }


def confidence_facts(labels: np.ndarray, confidence: np.ndarray) -> dict[str, Any]:
    """Return the slices with the lowest confidence, each as voxel index i, j, k and confidence in percent."""
    places = lowest_confidence_slices(labels, confidence)
    return {"low_confidence_slices": [[*place.index, place.confidence] for place in places]}


def nothing_found() -> Message:
    """Return the notice of an empty result."""
    return _("The model found nothing to segment. Check the volume, the region of interest and the model.")
