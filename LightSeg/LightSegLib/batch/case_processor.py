"""One case from its files to its files, in the process that computes."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..core import system
from ..core.errors import DiskFullError, LightSegError, ModelError
from ..core.i18n import tr as _
from ..core.packages import torch_failure
from ..core.progress import Progress, ProgressCallback
from ..worker.segment_handler import SegmenterCache
from . import records
from .case import Case
from .open_frames import OpenFrames
from .records import DONE, Row
from .settings import Batch

if TYPE_CHECKING:
    from ..catalog.card import Card
    from ..imaging.volume import Segmentation, Volume
    from ..inference.segmenter import Segmenter

T = TypeVar("T")
DISK_WAIT_SECONDS = 600.0  # seconds that a finished segmentation waits for room on the disk
RETRY_SECONDS = 2.0  # seconds between two attempts to write


class CaseProcessor:
    """Does the jobs of a worker process: {"case", "batch", "threads"}; the model stays loaded.

    The answer: {"row", "skipped": it was done before}. Every problem with a case is recorded in its row; OutputError is
    raised where that cannot be written. A job without a case asks for the backend of the batch, which the answer
    {"backend"} names; DeviceError is raised where this computer does not have the one that is decided.
    """

    def __init__(self) -> None:
        self._segmenters = SegmenterCache()
        self._cards: dict[str, Card] = {}  # by their hashes; reading them takes longer than a small case
        self._threads = 0
        self._frames = OpenFrames()

    def __call__(self, job: dict[str, Any], progress: ProgressCallback) -> dict[str, Any]:
        """Do a job and return the answer."""
        batch = Batch.from_json(job["batch"])
        if "case" not in job:
            return {"backend": self.backend(batch)}
        case = Case.from_json(job["case"])
        started = time.perf_counter()
        system.reset_peak_memory()
        input_sha256 = ""
        try:
            input_sha256 = self._frames.sha256(case)
            if row := records.finished(case, batch, input_sha256):
                row = records.renew_moment(row, case, batch)
                return {"row": asdict(row), "skipped": row.run != batch.run}
            row = self._segment_case(case, batch, job["threads"], progress, input_sha256, started)
        except Exception as error:
            with suppress(OSError):
                traceback.print_exc()
            stated = torch_failure(error) or error
            words = str(stated)
            if not isinstance(stated, LightSegError):
                fault = _("The computation failed because of an error in LightSeg ({kind}: {reason}). Report it.")
                words = fault.format(kind=type(error).__name__, reason=error)
            row = records.failed(case, batch, words, input_sha256=input_sha256, **_cost(started))
        _wait_for_space(lambda: records.write_record(row, batch), progress)
        return {"row": asdict(row), "skipped": False}

    def _segment_case(
        self,
        case: Case,
        batch: Batch,
        threads: int,
        progress: ProgressCallback,
        input_sha256: str,
        started: float,
    ) -> Row:
        """Read, segment and write a case, and return its row."""
        from ..imaging.statistics import cut_off_labels
        from ..imaging.writers import check_holds, output_notices, source_of, write_segmentation
        from ..rendering.case import draw_case

        progress(Progress(_("Reading")))
        volumes = _wait_for_space(lambda: self._frames.read(case.channels, batch.settings.allow_gaps), progress)
        path = records.segmentation_path(batch, case.id)
        check_holds(path, volumes[0].geometry)
        source = source_of(path, volumes[0])
        segmentation = _wait_for_space(lambda: self.segment(volumes, batch, threads, progress), progress)
        progress(Progress(_("Writing")))
        _wait_for_space(lambda: records.begin(case, batch), progress)
        _wait_for_space(
            lambda: write_segmentation(segmentation, path, source, batch.settings.reproducible_uids), progress
        )
        if batch.settings.picture:
            _wait_for_space(lambda: draw_case(volumes[0], segmentation, records.picture_path(batch, case.id)), progress)
        return Row(
            case.id,
            DONE,
            batch.model,
            batch.model_sha256,
            batch.settings.sha256(),
            case.where,
            input_sha256,
            {name: round(ml, 6) for name, ml in segmentation.volumes_ml().items()},
            mean_confidence(segmentation),
            device=segmentation.provenance["device"],
            computed_in=segmentation.provenance["computed_in"],
            processor=segmentation.provenance["processor"],
            libraries=segmentation.provenance["libraries"],
            run=batch.run,
            backend=batch.backend,
            notices=[*segmentation.provenance.get("notices", []), *output_notices(source)],
            expected_dice=segmentation.expected_dice or None,
            cut_off=cut_off_labels(segmentation),
            **records.over_time(case),
            **_cost(started),
        )

    def card(self, batch: Batch) -> Card:
        """Return the card of a batch's model, with its weights on this computer.

        Raises:
            ModelError: if the model is another than the batch was begun with.
        """
        from ..catalog.lookup import card_of
        from ..catalog.needed import needed_models
        from ..models.archived import ensure_all
        from .settings import model_sha256

        if batch.model_sha256 not in self._cards:
            card, options = card_of(batch.model), batch.settings.options
            structures = options.structures
            ensure_all(needed_models(card, structures), accept_license=options.accept_license)
            if model_sha256(card, structures) != batch.model_sha256:
                raise ModelError(
                    _(
                        "The model {model} on this computer is not the one with which the batch was started. "
                        "Install the same version of LightSeg and of the model on all computers."
                    ).format(model=card.id)
                )
            self._cards[batch.model_sha256] = card
        return self._cards[batch.model_sha256]

    def backend(self, batch: Batch) -> str:
        """Return the backend of the batch; choose it now if it is not chosen yet."""
        from ..inference.backends.backend_choice import check_possible
        from ..inference.backends.devices import choose_device

        if not batch.backend:
            return self._segmenter(batch).backend()
        options = batch.settings.options
        check_possible(batch.backend, choose_device(options.device), options.openvino)
        return batch.backend

    def segment(self, volumes: list[Volume], batch: Batch, threads: int, progress: ProgressCallback) -> Segmentation:
        """Segment volumes, with confidence."""
        import numpy as np
        import SimpleITK as sitk
        import torch

        from ..imaging.roi import RegionOfInterest
        from ..inference.backends.precisions import INT8, OPENVINO8

        if threads != self._threads:
            torch.set_num_threads(threads)
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            self._threads = threads
        corners = batch.settings.roi
        roi = None if corners is None else RegionOfInterest(np.array(corners))
        segmentation = self._segmenter(batch).segment(volumes, roi, progress)
        if batch.settings.options.precision == INT8 and batch.backend not in ("", OPENVINO8):
            notice = _(
                "The batch was computed in {backend}: int8 does not suit its model or one of its computers. "
                "Segment one case alone to read why, or choose the precision auto."
            )
            segmentation.provenance["notices"].append(notice.format(backend=batch.backend))
        return segmentation

    def _segmenter(self, batch: Batch) -> Segmenter:
        """Return the segmenter of a batch; its model stays loaded."""
        options = batch.settings.options
        options = replace(options, precision=batch.backend or options.precision, confidence=True)
        return self._segmenters.get(self.card(batch), options)


def mean_confidence(segmentation: Segmentation) -> float | None:
    """Return the mean probability, 0 to 1, of the labeled voxels, or None if there are none."""
    labeled = segmentation.voxels > 0
    if segmentation.confidence is None or not labeled.any():
        return None
    return round(float(segmentation.confidence[labeled].mean(dtype=float)) / 100, 4)


def _cost(started: float) -> dict[str, Any]:
    """Return the seconds since `started` and the peak memory in MB, as fields of a row."""
    peak = system.peak_memory()
    return {
        "seconds": round(time.perf_counter() - started, 3),
        "peak_mb": None if peak is None else round(peak / 1e6, 1),
    }


def _wait_for_space(write: Callable[[], T], progress: ProgressCallback) -> T:
    """Do what needs room on a disk, that of temporary files or of the results, and wait for it where there is none."""
    until = time.monotonic() + DISK_WAIT_SECONDS
    while True:
        try:
            return write()
        except (DiskFullError, OSError) as error:
            full = isinstance(error, DiskFullError) or error.errno in (errno.ENOSPC, errno.EDQUOT)
            if not full or time.monotonic() > until:
                raise
        progress(Progress(_("Waiting for free disk space")))
        time.sleep(RETRY_SECONDS)
