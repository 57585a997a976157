"""Frames of an earlier image in the folder of results, which would pass for frames of the one that has its name now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import OutputError
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from . import records
from .settings import Batch

LISTED = 5  # files in a message


def remove_earlier_frames(batch: Batch, present: Mapping[str, records.Row]) -> list[Message]:
    """Remove the results of frames whose series is another image now, and return notices.

    A case of the same name is computed again where its input has changed; the frames that the image of now lacks, or
    that were not reached before an interruption, would stay. A file that was changed since does stay, without a record.

    Args:
        present: names of the series of this run, each with a row of it.

    Raises:
        OutputError: if a record cannot be removed; the others are.
    """
    removed: Counter[tuple[str, str]] = Counter()  # by image then and now
    changed: dict[tuple[str, str], list[Path]] = {}
    failures: list[OutputError] = []
    for row in records.all_rows(batch) if present else ():
        of_this_run = not row.image_id and row.run == batch.run  # its input is out of reach
        if row.series not in present or row.image_id == present[row.series].image_id or of_this_run:
            continue
        images = (row.input, present[row.series].input)
        try:
            stay = records.remove_results(row, batch)
        except OutputError as error:
            failures.append(error)
            continue
        removed[images] += 1
        if stay:
            changed.setdefault(images, []).extend(stay)
    if failures:
        raise failures[0]
    notices = [
        _(
            "Results of {earlier} were removed from {folder}, where those of {now} are now (number of frames: {count})."
        ).format(count=count, earlier=_earlier(*images), folder=batch.out, now=images[1])
        for images, count in removed.items()
    ]
    for images, paths in changed.items():
        names = [path.name for path in paths[:LISTED]]
        names += [_("and {count} more").format(count=len(paths) - LISTED)] if len(paths) > LISTED else []
        notices.append(
            _(
                "Results in {folder}, of {earlier}, were changed after they were written, so they stay beside those of "
                "{now}, but are in no table: {files}."
            ).format(files=joined(", ", names), folder=batch.out, earlier=_earlier(*images), now=images[1])
        )
    return notices


def _earlier(then: str, now: str) -> Message | str:
    """Return what an earlier image is called beside the one of now, which may be another in the same file."""
    return then if then not in ("", now) else _("an earlier image with the same name")
