"""What a run needs of the segmenter of another model: the one that finds its place, or one of its parts.

The segmenter itself uses the files that take such a segmenter, which therefore cannot import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..catalog.card import Card
from ..core.progress import CancelCallback, ProgressCallback
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import Segmentation, Volume


class OtherSegmenter(Protocol):
    """A `Segmenter`; see there."""

    card: Card

    def segment(
        self,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None = None,
        progress: ProgressCallback | None = None,
        canceled: CancelCallback | None = None,
    ) -> Segmentation:
        """Segment the volumes."""
        ...

    def backend(self) -> str:
        """Return the backend that the model is computed with."""
        ...
