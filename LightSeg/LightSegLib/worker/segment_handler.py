"""What a worker process does with voxels: it segments them, and keeps the last model loaded for the next job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.progress import ProgressCallback
from ..inference.options import InferenceOptions
from . import messages

if TYPE_CHECKING:
    from ..catalog.card import Card
    from ..inference.segmenter import Segmenter


class SegmentHandler:
    """Answers jobs with voxels."""

    def __init__(self) -> None:
        self._segmenters = SegmenterCache()

    def __call__(self, job: dict[str, Any], progress: ProgressCallback) -> dict[str, Any]:
        """Do a job and return the answer."""
        from ..catalog.lookup import card_of
        from ..imaging.roi import RegionOfInterest

        segmenter = self._segmenters.get(card_of(job["model"]), InferenceOptions.from_json(job["options"]))
        segmentation = segmenter.segment(
            [messages.volume_of(volume) for volume in job["volumes"]],
            None if job["roi"] is None else RegionOfInterest(np.array(job["roi"])),
            progress,
        )
        return {"segmentation": messages.segmentation_message(segmentation, Path(job["folder"]))}


class SegmenterCache:
    """Keeps the segmenter of the last model, so that two models are never in memory together."""

    def __init__(self) -> None:
        self._segmenter: Segmenter | None = None
        self._card: Card | None = None  # as it was given; opening a model may complete it

    def get(self, card: Card, options: InferenceOptions) -> Segmenter:
        """Return the segmenter of a model; another model's is dropped first."""
        from ..inference.segmenter import Segmenter

        if self._segmenter is None or self._card != card:
            self._segmenter = None
            self._segmenter, self._card = Segmenter(card), card
        self._segmenter.options = options
        return self._segmenter
