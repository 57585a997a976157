"""What a worker process does with voxels: it segments them, and keeps the last model loaded for the next job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.progress import ProgressCallback
from . import messages

if TYPE_CHECKING:
    from ..catalog.card import Card
    from ..inference.segmenter import Segmenter


class Segmenting:
    """Answers jobs with voxels."""

    def __init__(self) -> None:
        self._kept = KeptSegmenter()

    def __call__(self, job: dict[str, Any], progress: ProgressCallback) -> dict[str, Any]:
        from ..catalog.lookup import find_card
        from ..imaging.region import Region

        options = dict(job["options"])
        confidence = options.pop("confidence", False)
        segmenter = self._kept.get(find_card(job["model"]), **options)
        segmentation = segmenter.segment(
            [messages.volume_of(volume) for volume in job["volumes"]],
            None if job["region"] is None else Region(np.array(job["region"])),
            progress,
            confidence=confidence,
        )
        return {"segmentation": messages.segmentation_message(segmentation, Path(job["folder"]))}


class KeptSegmenter:
    """The segmenter of the last model and options: two models do not lie in memory at a time."""

    def __init__(self) -> None:
        self._segmenter: Segmenter | None = None
        self._made_for: tuple[Any, ...] = ()

    def get(self, card: Card, **options: Any) -> Segmenter:
        from ..inference.segmenter import Segmenter

        wanted = (card, tuple(sorted(options.items())))
        if self._segmenter is None or self._made_for != wanted:
            self._segmenter = None
            self._segmenter, self._made_for = Segmenter(card, **options), wanted
        return self._segmenter
