"""How long a model takes, as far as that is known before it runs: measured here, or published by its authors."""

from __future__ import annotations

from typing import Any

from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from .card import Card

LONG = 60  # seconds


def published(card: Card) -> dict[str, Any]:
    """Return what the authors state of time and memory, in their words or in seconds and MB."""
    found = card.performance.get("published", {})
    return found if isinstance(found, dict) else {}


def duration(card: Card) -> Message | None:
    """Return the measured time of a run, or else the published one, with the memory and on what; None for neither."""
    if (measured := card.measured) is not None:
        return _("{seconds:.0f} s and {memory:.1f} GB on {cores} cores of {processor}").format(
            seconds=measured.seconds,
            memory=measured.memory_mb / 1000,
            cores=measured.cores,
            processor=measured.processor,
        )
    stated = [str(published(card)[name]) for name in ("time", "memory") if name in published(card)]
    return _("published: {figures}").format(figures=joined("; ", stated)) if stated else None


def warning(card: Card) -> Message | None:
    """Return a sentence on a model that takes more than a minute on a laptop, or may do so; None for any other.

    What is not measured are the large networks of the authors' archives. On the coarse images of "fastest" models
    these have only a few tiles to compute.
    """
    known = duration(card)
    if card.measured is not None:
        seconds = card.measured.seconds
        return _("More than a minute on a laptop: {time}.").format(time=known) if seconds > LONG else None
    if (card.weights.archive is None and not card.parts) or card.quality == "fastest":
        return None
    if known is not None:
        return _("This takes minutes on a laptop without a graphics card ({time}).").format(time=known)
    return _("This may take minutes on a laptop without a graphics card; its time was not measured yet.")
