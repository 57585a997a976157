"""Results that were corrected by hand: measured again, for the tables are to describe the files that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..catalog.anatomy import structure_key
from ..catalog.card import Card
from ..catalog.sides import possible_labels
from ..core.errors import InputError
from ..core.file_hash import sha256
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.progress import Reporter
from ..imaging.label_sources import read_volumes_ml
from . import records
from .settings import Batch

SHOWN = 100  # cases after which the progress is reported


def measure_corrected(batch: Batch, card: Card, reporter: Reporter) -> list[Message]:
    """Record the volumes of the segmentations that were changed after the batch wrote them; return notices.

    What the model found stays in the record: a segmentation that is put back as it was counts as it did.

    Raises:
        OutputError: if a record cannot be written.
        Canceled: if the user cancels.
    """
    unreadable: list[Path] = []
    for count, row in enumerate(records.all_rows(batch)):
        if count and count % SHOWN == 0:
            reporter.step(_("Looking for corrected results, {count} cases done").format(count=count))
        reporter.check_canceled()
        path = records.segmentation_path(batch, row.case)
        written = (row.files or {}).get(path.name)
        if row.status != records.DONE or not records.is_of(row, batch) or not written:
            continue
        try:
            found = sha256(path)
        except OSError:  # removed, or out of reach: nothing to measure
            continue
        corrected = "" if found == written else found
        if corrected and corrected == row.corrected and row.corrected_ml is not None:
            continue
        ml = _volumes_ml(path, row.ml or {}, card) if corrected else None
        if (measured := replace(row, corrected=corrected, corrected_ml=ml)) != row:
            records.save(measured, batch)
        if corrected and ml is None:
            unreadable.append(path)
    return [_without_labels(unreadable)] if unreadable else []


def _without_labels(paths: Sequence[Path]) -> Message:
    """Return the notice about files that count as corrected results, but may have been damaged."""
    return _(
        "Segmentations that were changed after the batch wrote them and cannot be read as labels: {count}, "
        "the first is {file}. Their cases have no volumes in the table. "
        "Save such a file as a label map, or delete it to have it computed again."
    ).format(count=len(paths), file=paths[0])


def _volumes_ml(path: Path, earlier: Mapping[str, float], card: Card) -> dict[str, float] | None:
    """Return the volumes in a corrected file, in the order of the table, then what was added; None if it has no labels.

    Args:
        earlier: as the model's result had them; what was erased has 0 ml.
    """
    # a value may be of both sides or of the left one alone: the name is that of the result
    possible = sorted(possible_labels(card), key=lambda label: label.name in earlier)
    names = {label.value: label.name for label in possible}
    totals = {total.name: total.labels for total in card.totals if total.name in earlier}
    try:
        found = read_volumes_ml(path, names)
    except (InputError, OSError, ValueError):
        return None
    ml = {name: 0.0 for name in earlier if name not in totals}
    columns = {structure_key(name): name for name in ml}  # for names that someone wrote in another way
    for name, own in found.items():
        column = name if name in ml else columns.get(structure_key(name), name)
        ml[column] = ml.get(column, 0.0) + own
    sums = {total: sum(ml.get(names[value], 0.0) for value in values) for total, values in totals.items()}
    return {name: round(value, 6) for name, value in (ml | sums).items()}
