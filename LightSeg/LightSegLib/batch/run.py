"""From an input to segmentations, a table and a page: plan, run, report; interrupted at any moment, it goes on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..catalog.card import Card
from ..catalog.lookup import card_of, resolve_model
from ..catalog.needed import needed_models
from ..catalog.sides import possible_labels
from ..catalog.structures import wanted_labels
from ..core.atomic_io import output_error
from ..core.errors import InputError, OutputError, ReportError
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from ..core.leftovers import temporary_folder
from ..models.archived import ensure_all
from ..weights.lock import locked
from ..weights.store import WeightStore
from . import cluster, local, records
from .case import Case, SkippedInput
from .cases import find_cases
from .corrected import measure_corrected
from .earlier_frames import remove_earlier_frames
from .engine import DASK, Engine
from .folder import RECORDS
from .output_guard import OutputGuard
from .progress import BatchProgress, BatchState, Callbacks
from .report import PAGE, write_report
from .results_table import write_results
from .settings import Batch, Settings, model_sha256
from .tables import record_tables, remove_table, write_batch_table
from .time_courses import heart_table, time_courses
from .worker_limit import WorkerLimit

SKIPPED_INPUTS = "skipped_inputs.csv"
HEART = "heart.csv"  # of models whose cards name chambers, where there are series over time
TABLES = (records.TABLE, PAGE, SKIPPED_INPUTS, HEART)
LOCK = "lock"


@dataclass(frozen=True)
class BatchPlan:
    """The cases of a batch, with model and settings.

    The cases are kept in a file, since there may be many.

    Attributes:
        refusal: why it must not be run, where only a preview is asked for.
    """

    card: Card
    batch: Batch
    listed: Path
    count: int
    skipped_inputs: list[SkippedInput] = field(default_factory=list)
    refusal: Message | None = None

    def cases(self) -> Iterator[Case]:
        """Yield the cases of the batch."""
        return cases_in(self.listed)


def cases_in(listed: Path) -> Iterator[Case]:
    """Yield the cases of a list that `plan_batch` wrote."""
    with listed.open(encoding="utf-8") as stream:
        for line in stream:
            yield Case.from_json(json.loads(line))


@dataclass(frozen=True)
class Outcome:
    """The result of a batch: numbers of cases, skipped inputs, and the table, whose rows it reads again.

    Attributes:
        notices: what became of earlier results, and what is not known of the disk.
    """

    state: BatchState
    skipped_inputs: list[SkippedInput]
    table: Path
    batch: Batch
    notices: list[Message] = field(default_factory=list)

    @property
    def page(self) -> Path:
        """The page with the same rows."""
        return self.table.with_name(PAGE)

    def rows(self) -> Iterator[records.Row]:
        """Yield the rows of the table."""
        return records.rows(self.batch)

    def count_earlier(self) -> int:
        """Return how many rows are of cases that this input does not have: of earlier runs, of the same settings."""
        return max(0, sum(1 for _row in self.rows()) - self.state.finished)


def _no_case(input_path: Path, card: Card, skipped_inputs: list[SkippedInput]) -> Message:
    """Return the message for an input without a case for the model."""
    if len(card.channels) == 1:
        kind = _("{modality} volumes").format(modality=card.modality)
    else:
        kind = _("cases with {channels}").format(channels=", ".join(card.channels))
    if not skipped_inputs:
        return _(
            "{input} contains no cases for {model}. Give a folder, a CSV file or a DICOM tree with {kind}."
        ).format(input=input_path, model=card.title, kind=kind)
    return _(
        "{input} contains no cases for {model}: what was found does not fit (number of inputs: {count}), "
        "for example {file}, which {reason}. "
        "Give a folder, a CSV file or a DICOM tree with {kind}."
    ).format(
        input=input_path,
        model=card.title,
        count=len(skipped_inputs),
        file=skipped_inputs[0].what,
        reason=skipped_inputs[0].reason,
        kind=kind,
    )


def check_other_folder(input_path: Path, out: Path) -> None:
    """Check that results do not go where the inputs are.

    Raises:
        InputError: if they do.
    """
    if input_path.resolve() == out.resolve():
        raise InputError(
            _(
                "The folder for the results, {folder}, is the input folder, "
                "so the results would be inputs of the next batch. Choose another folder."
            ).format(folder=input_path)
        )


@contextmanager
def plan_batch(
    input_path: str | Path,
    model: str,
    out: str | Path,
    settings: Settings,
    callbacks: Callbacks | None = None,
    preview: bool = False,
) -> Iterator[BatchPlan]:
    """Find the cases, and fetch the weights where they are not here.

    Also raises what `ensure_all` raises.

    Args:
        input_path: folder, CSV file or DICOM tree.
        model: id, or path of a model folder.
        out: folder of the results.
        settings: options, file format and picture.
        callbacks: take progress, and may cancel.
        preview: nothing will be written, so files in the way of the results are reported, not refused.

    Raises:
        InputError: of the input and for files in the way of the results (see `OutputGuard`).
    """
    input_path, out, model = Path(input_path).absolute(), Path(out).absolute(), resolve_model(model)
    card = card_of(model)
    check_other_folder(input_path, out)
    callbacks = callbacks or Callbacks()
    reporter = callbacks.reporter
    with temporary_folder() as folder:
        listed = folder / "cases.jsonl"
        batch = Batch(model, "", out, settings, uuid.uuid4().hex)
        guard = OutputGuard(input_path, batch, TABLES)
        count, skipped_inputs = 0, []
        with listed.open("w", encoding="utf-8") as stream:
            for one in find_cases(input_path, card):
                if isinstance(one, SkippedInput):
                    skipped_inputs.append(one)
                    continue
                guard.check(one)
                stream.write(json.dumps(one.to_json()) + "\n")
                count += 1
                if count % 100 == 0:
                    reporter.step(_("Searching, {count} cases found").format(count=count))
        if count == 0:
            raise InputError(_no_case(input_path, card, skipped_inputs))
        refusal = guard.refusal(cases_in(listed))
        if refusal and not preview:
            raise InputError(refusal)
        options = settings.options
        needed = needed_models(card, options.structures)
        ensure_all(needed, callbacks.progress, callbacks.canceled, options.accept_license)
        batch = replace(batch, model_sha256=model_sha256(card, options.structures))
        refusal = refusal or guard.refusal_of_model(batch.model_sha256)
        if refusal and not preview:
            raise InputError(refusal)
        yield BatchPlan(card, batch, listed, count, skipped_inputs, refusal)


def segment_files(
    input_path: str | Path,
    model: str,
    out: str | Path,
    settings: Settings | None = None,
    engine: Engine | None = None,
    callbacks: Callbacks | None = None,
) -> Outcome:
    """Segment all cases of an input; cases that are done already are skipped.

    Args:
        input_path: folder, CSV file or DICOM tree (see `find_cases`).
        model: id, or path of a model folder.
        out: folder of the results, created if needed.
        settings: options, file format and picture.
        engine: what it runs on; as many processes as fit this computer if None.
        callbacks: take progress, and may cancel.

    Returns:
        Numbers of cases, skipped inputs with reasons, and the path of results.csv.

    Raises:
        LightSegError: for what keeps all cases from being done; a case that fails is reported in the table.
        ReportError: for a table or page that cannot be written, when all that can be is done.
        Canceled: if `canceled` of the callbacks returns True.
    """
    engine, callbacks = engine or Engine(), callbacks or Callbacks()
    with plan_batch(input_path, model, out, settings or Settings(), callbacks) as plan:
        records.make_folders(plan.batch)
        batch = replace(plan.batch, backend=records.earlier_backend(plan.batch))
        limit = WorkerLimit(engine.workers, engine.threads)
        batch_progress = BatchProgress(plan.count, callbacks.on_state)
        present: dict[str, records.Row] = {}  # of each series over time one frame of its image
        notices: list[Message] = []
        with _alone(batch, callbacks) as everywhere:
            if not everywhere:
                notice = _(
                    "{folder} cannot be locked here, so that LightSeg does not see a batch that another computer "
                    "runs there at the same time. Run one at a time."
                )
                notices.append(notice.format(folder=batch.out))
            records.remove_parts(batch)
            record_tables(batch.out, TABLES)
            notices += measure_corrected(batch, plan.card, callbacks.reporter)
            try:
                run = cluster.run if engine.name == DASK else local.run
                with closing(run(plan.cases(), batch, engine, limit, batch_progress, callbacks.canceled)) as answers:
                    for answer in answers:
                        if answer.row.series and answer.row.image_id:
                            present[answer.row.series] = answer.row
                        batch_progress.finished(answer.row.status, answer.skipped, answer.row.seconds, limit.workers)
            finally:  # also of what was done until an interruption
                failures: list[OutputError] = []
                try:
                    notices += remove_earlier_frames(batch, present)
                except OutputError as error:
                    failures.append(error)
                _report(plan, failures)
        return Outcome(batch_progress.state, plan.skipped_inputs, batch.out / records.TABLE, batch, notices)


@contextmanager
def _alone(batch: Batch, callbacks: Callbacks) -> Iterator[bool]:
    """Keep other batches out of the folder of results; yields whether those of other computers are kept out, too.

    Raises:
        InputError: if one is at work there.
        OutputError: for a folder that cannot be written.
    """
    lock = batch.out / RECORDS / LOCK
    with ExitStack() as stack:
        try:
            everywhere = stack.enter_context(locked(lock, callbacks.reporter, str(batch.out), wait=False))
        except OSError as error:
            if isinstance(error, PermissionError) and lock.is_file():
                raise OutputError(
                    _(
                        "{file} cannot be opened ({reason}), since the user who began this batch does not share its "
                        "files. Ask for permission to read and write all in {folder}, or choose another folder."
                    ).format(file=lock, reason=error.strerror, folder=batch.out)
                ) from error
            raise output_error(lock, error) from error
        yield everywhere


def _columns(plan: BatchPlan, found: set[str]) -> list[str]:
    """Return the names of the volumes in the table: of the labels that cases have, or else of the model's own.

    With the structures that someone added to a result.
    """
    card = plan.card
    names = [label.name for label in possible_labels(card) if label.name in found]
    wanted = wanted_labels(card, card.result_labels, plan.batch.settings.options.structures)
    values = {label.value for label in wanted}
    totals = [total.name for total in card.totals if values.issuperset(total.labels)]
    added = sorted(found - {label.name for label in possible_labels(card)} - {total.name for total in card.totals})
    return (names or [label.name for label in wanted]) + added + totals


def _report(plan: BatchPlan, failures: list[OutputError]) -> None:
    """Write results table, page and table of skipped inputs.

    Args:
        failures: what went wrong before.

    Raises:
        ReportError: for that, and for those that cannot be written; the others are.
    """
    batch, skipped = plan.batch, plan.skipped_inputs
    found: set[str] = set()  # labels that cases have

    def surveyed() -> Iterator[records.Row]:
        for row in records.rows(batch):
            found.update(row.ml or {})
            yield row

    courses = time_courses(surveyed())
    weights = WeightStore().sha256(plan.card)
    reports: list[Callable[[], object]] = [
        lambda: write_results(batch, _columns(plan, found)),
        lambda: write_report(plan.card, weights, batch, lambda: records.rows(batch), skipped, courses),
        lambda: write_batch_table(
            [("what", "reason"), *((one.what, one.reason) for one in skipped)], batch.out / SKIPPED_INPUTS
        ),
    ]
    if courses and plan.card.chambers:
        reports.append(lambda: write_batch_table(heart_table(plan.card, courses), batch.out / HEART))
    else:
        remove_table(batch.out / HEART)
    for report in reports:
        try:
            report()
        except OutputError as error:
            failures.append(error)
    if failures:
        raise ReportError(
            _("{reasons} What was computed is kept: start the batch again, which then only writes the tables.").format(
                reasons=joined(" ", dict.fromkeys(error.args[0] for error in failures))
            )
        ) from failures[0]
