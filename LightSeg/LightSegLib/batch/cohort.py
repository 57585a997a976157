"""From an input to segmentations, a table and a page: plan, run, report; interrupted at any moment, it goes on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..catalog.card import Card
from ..catalog.lookup import card_of, resolved
from ..core.atomic_io import write_table
from ..core.errors import InputError
from ..core.leftovers import temporary_folder
from ..weights.lock import locked
from ..weights.store import WeightStore
from . import cluster, local, records
from .case import Case, Misfit
from .cases import find_cases
from .claims import Claims, claim_tables
from .engine import DASK, Engine
from .folder import RECORDS
from .overview import Callbacks, Overview, State
from .report import PAGE, write_report
from .settings import Batch, Settings, model_sha256, weights_sha256
from .size import Size

MISFITS = "misfits.csv"
TABLES = (records.TABLE, PAGE, MISFITS)
LOCK = "lock"


@dataclass(frozen=True)
class Plan:
    """What is to be done. The cases lie in a file, for there may be many."""

    card: Card
    batch: Batch
    listed: Path
    count: int
    misfits: list[Misfit] = field(default_factory=list)

    def cases(self) -> Iterator[Case]:
        return cases_in(self.listed)


def cases_in(listed: Path) -> Iterator[Case]:
    """Those of a list that `planned` has written."""
    with listed.open(encoding="utf-8") as stream:
        for line in stream:
            yield Case.from_json(json.loads(line))


@dataclass(frozen=True)
class Outcome:
    """What became of a batch: numbers of cases, what was left out, and the table."""

    state: State
    misfits: list[Misfit]
    table: Path


def _no_case(given: Path, card: Card, misfits: list[Misfit]) -> str:
    found = f" {len(misfits)} do not fit: {misfits[0].what} {misfits[0].reason}." if misfits else ""
    kind = f"{card.modality} volumes" if len(card.channels) == 1 else f"cases with {', '.join(card.channels)}"
    return f"{given} has no case for {card.title}.{found} Give a folder, a CSV file or a DICOM tree with {kind}."


@contextmanager
def planned(
    given: str | Path,
    model: str,
    out: str | Path,
    settings: Settings,
    callbacks: Callbacks | None = None,
) -> Iterator[Plan]:
    """Find the cases, and fetch the weights where they are not here.

    Raises InputError of the input and for files in the way of the results (see `Claims`), and what
    `WeightStore.ensure` raises.
    """
    given, out, model = Path(given).absolute(), Path(out).absolute(), resolved(model)
    card = card_of(model)
    if given.resolve() == out.resolve():
        raise InputError(
            f"{given} is the input. Choose another folder for the results, which would be inputs next time."
        )
    callbacks = callbacks or Callbacks()
    reporter = callbacks.reporter
    with temporary_folder() as folder:
        listed = folder / "cases.jsonl"
        batch = Batch(model, "", out, settings, uuid.uuid4().hex)
        claims = Claims(given, batch, TABLES)
        count, misfits = 0, []
        with listed.open("w", encoding="utf-8") as stream:
            for one in find_cases(given, card):
                if isinstance(one, Misfit):
                    misfits.append(one)
                    continue
                claims.look(one)
                stream.write(json.dumps(one.to_json()) + "\n")
                count += 1
                if count % 100 == 0:
                    reporter.step(f"Searching, {count} cases")
        if count == 0:
            raise InputError(_no_case(given, card, misfits))
        claims.refuse(cases_in(listed))
        WeightStore().ensure(card, callbacks.progress, callbacks.canceled, settings.options.accept_license)
        yield Plan(card, replace(batch, model_sha256=model_sha256(card)), listed, count, misfits)


def segment_files(
    given: str | Path,
    model: str,
    out: str | Path,
    settings: Settings | None = None,
    engine: Engine | None = None,
    callbacks: Callbacks | None = None,
) -> Outcome:
    """Segment all cases of an input (see `find_cases`) into the folder `out`; those done before are skipped.

    Raises LightSegError for what keeps all cases from being done; Canceled.
    """
    engine, callbacks = engine or Engine(), callbacks or Callbacks()
    with planned(given, model, out, settings or Settings(), callbacks) as plan:
        records.make_folders(plan.batch)
        batch = replace(plan.batch, form=records.form_of_earlier(plan.batch))
        size, overview = Size(engine.workers, engine.threads), Overview(plan.count, callbacks.on_state)
        with locked(batch.out / RECORDS / LOCK, callbacks.reporter, str(batch.out), wait=False):
            records.remove_parts(batch)
            claim_tables(batch, TABLES)
            try:
                run = cluster.run if engine.name == DASK else local.run
                with closing(run(plan.cases(), batch, engine, size, overview, callbacks.canceled)) as answers:
                    for answer in answers:
                        overview.finished(answer.row.status, answer.skipped, answer.row.seconds, size.workers)
            finally:  # also of what was done until an interruption
                _report(plan)
        return Outcome(overview.state, plan.misfits, batch.out / records.TABLE)


def _report(plan: Plan) -> None:
    names = [label.name for label in plan.card.labels] + [total.name for total in plan.card.totals]
    records.write_results(plan.batch, names)
    write_report(plan.card, weights_sha256(plan.card), plan.batch, lambda: records.rows(plan.batch), plan.misfits)
    write_table([("what", "reason"), *((one.what, one.reason) for one in plan.misfits)], plan.batch.out / MISFITS)
