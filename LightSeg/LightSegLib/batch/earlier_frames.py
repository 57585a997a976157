"""Frames of an earlier image in the folder of results, which would pass for frames of the one that has its name now."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import OutputError
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from . import records
from .settings import Batch

LISTED = 5  # files in a message


def remove_earlier_frames(batch: Batch, present: Mapping[str, str]) -> list[Message]:
    """Remove the results of frames whose series is another image now, and return notices.

    A case of the same name is computed again where its input has changed; the frames that the image of now lacks, or
    that were not reached before an interruption, would stay. A file that was changed since does stay, without a record.

    Args:
        present: names of the series of this run, with the `Row.image_id` that their frames have now.

    Raises:
        OutputError: if a record cannot be removed; the others are.
    """
    removed, changed = 0, []
    failures: list[OutputError] = []
    for row in records.all_rows(batch) if present else ():
        of_this_run = not row.image_id and row.run == batch.run  # its input is out of reach
        if row.series not in present or row.image_id == present[row.series] or of_this_run:
            continue
        try:
            changed += records.remove_results(row, batch)
        except OutputError as error:
            failures.append(error)
        else:
            removed += 1
    if failures:
        raise failures[0]
    notices = []
    if removed:
        notices.append(
            _("The results of {count} frames of earlier images with the same names were removed from {folder}.").format(
                count=removed, folder=batch.out
            )
        )
    if changed:
        names = [path.name for path in changed[:LISTED]]
        names += [_("and {count} more").format(count=len(changed) - LISTED)] if len(changed) > LISTED else []
        notices.append(
            _("{files} in {folder} were changed after they were written, so they stay, but are in no table.").format(
                files=joined(", ", names), folder=batch.out
            )
        )
    return notices
