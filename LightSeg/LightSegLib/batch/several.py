"""Several models over one input: a batch for each in a folder of its own, and one table of all their results."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..catalog.lookup import card_of, resolve_model
from ..core.errors import InputError, ReportError
from ..core.figures import rounded_ml
from ..core.file_names import file_name
from ..core.i18n import Message
from ..core.i18n import tr as _
from . import records
from .engine import Engine
from .progress import Callbacks
from .run import Outcome, check_other_folder, plan_batch, segment_files
from .settings import Batch, Settings
from .tables import is_own, record_tables, recorded_tables, write_batch_table

TABLE = "all_models.csv"
FIRST, LAST = ("case", "model", "status"), ("confidence", "seconds", "notices", "error")


@dataclass(frozen=True)
class Outcomes:
    """The results of several models.

    Attributes:
        by_model: the outcome of each, by the name of its folder.
        table: of all cases and models.
    """

    by_model: dict[str, Outcome]
    table: Path


def folders_of(models: Sequence[str], out: str | Path) -> dict[str, Path]:
    """Return the folder of results of each model, by what `resolve_model` makes of its name.

    Raises:
        UnknownModelError: for a model that there is not.
        InputError: for two that have the same id.
    """
    found = {resolve_model(model): Path(out).absolute() / file_name(card_of(model).id) for model in models}
    if len(set(found.values())) < len(models):
        raise InputError(_("A model is named twice. Name each one once."))
    return found


def segment_with_models(
    input_path: str | Path,
    models: Sequence[str],
    out: str | Path,
    settings: Settings | None = None,
    engine: Engine | None = None,
    callbacks: Callbacks | None = None,
) -> Outcomes:
    """Segment all cases of an input with each of some models, one model after the other, as `segment_files` does.

    That every model has cases, and its weights, is known before the first case is computed. Each model's folder is as
    if it had been run alone, so that a later call, of one model or of several, goes on there.

    Args:
        input_path: folder, CSV file or DICOM tree.
        models: ids, or paths of model folders.
        out: folder with a folder for each model, named by its id, and the table.
        settings: options, file format and picture.
        engine: what it runs on.
        callbacks: take progress, and may cancel.

    Raises:
        LightSegError: as `segment_files`, and for a table of another program in the way.
        ReportError: as `segment_files`, when all models are done.
        Canceled: if `canceled` of the callbacks returns True; the table has what was done until then.
    """
    folders, table = folders_of(models, out), Path(out).absolute() / TABLE
    settings, callbacks = settings or Settings(), callbacks or Callbacks()
    check_other_folder(Path(input_path).absolute(), Path(out).absolute())
    if refusal := refusal_of_table(out):
        raise InputError(refusal)
    batches: dict[str, Batch] = {}
    for model, folder in folders.items():
        with plan_batch(input_path, model, folder, settings, callbacks) as plan:
            batches[folder.name] = plan.batch
    outcomes: dict[str, Outcome] = {}
    record_tables(table.parent, [TABLE])
    unwritten: list[ReportError] = []
    try:
        for model, folder in folders.items():
            try:
                outcome = segment_files(input_path, model, folder, settings, engine, callbacks)
            except ReportError as error:  # costs the other models nothing
                unwritten.append(error)
            else:
                outcomes[folder.name], batches[folder.name] = outcome, outcome.batch
    finally:  # also of what was done until an interruption
        write_batch_table(_lines(batches), table)
    if unwritten:
        raise unwritten[0]
    return Outcomes(outcomes, table)


def _lines(batches: dict[str, Batch]) -> Iterator[Sequence[object]]:
    """Yield the rows of the table: by case, and then by model as these were named."""
    rows: dict[str, list[tuple[str, records.Row]]] = {}
    names: dict[str, None] = {}
    sure: dict[str, None] = {}
    for model, batch in batches.items():
        for row in records.rows(batch):
            rows.setdefault(row.case, []).append((model, row))
            names |= dict.fromkeys(row.ml or {})
            sure |= dict.fromkeys(row.expected_dice or {})
    yield (*FIRST, *(f"{name} (ml)" for name in names), *(f"{name} (expected Dice)" for name in sure), *LAST)
    for case in sorted(rows):
        for model, row in rows[case]:
            found: dict[str, object] = {name: rounded_ml(ml) for name, ml in (row.ml or {}).items()}
            measured = [found.get(name, "") for name in names]
            measured += [(row.expected_dice or {}).get(name, "") for name in sure]
            facts = vars(row) | {"notices": " ".join(row.notices or [])}
            last = ["" if (value := facts[name]) is None else value for name in LAST]
            yield (case, model, row.status, *measured, *last)


def refusal_of_table(out: str | Path) -> Message | None:
    """Return why the table in a folder must not be replaced; None where it is not there, or as it was written.

    Earlier versions recorded nothing of it; then it begins as one of this program.
    """
    table = Path(out).absolute() / TABLE
    written = (recorded_tables(table.parent) or {}).get(TABLE)
    if not os.path.lexists(table) or (written is not None and is_own(table, written)):
        return None
    with suppress(OSError, ValueError, csv.Error), table.open(newline="", encoding="utf-8") as stream:
        if written is None and tuple(next(csv.reader(stream), ())[: len(FIRST)]) == FIRST:
            return None
    kept = _("{file} was not written by LightSeg. Move it, or choose another folder for the results.")
    if written:
        kept = _("{file} was changed after LightSeg wrote it. Move it, or choose another folder for the results.")
    return kept.format(file=table)
