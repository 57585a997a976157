"""The command `lightseg batch`: many cases, from files to files."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError, LightSegError
from ..core.i18n import Message
from ..core.i18n import tr as _
from .arguments import options_of
from .printing import ProgressLine, say, silence_itk

if TYPE_CHECKING:
    from ..batch.engine import Engine
    from ..batch.progress import BatchState
    from ..batch.run import Outcome
    from ..batch.settings import Settings

MINUTE = 60.0


def _batch(arguments: argparse.Namespace) -> None:
    """Run `lightseg batch`."""
    from ..batch.engine import DASK, Engine
    from ..batch.progress import Callbacks
    from ..batch.run import segment_files
    from ..batch.settings import DICOM, Settings
    from ..batch.several import folders_of, refusal_of_table, segment_with_models

    silence_itk()
    if arguments.reproducible_uids and arguments.format != DICOM:
        raise InputError(
            _(
                "--reproducible-uids is for DICOM segmentations, and none are to be written. "
                "Omit it, or add --format {format}."
            ).format(format=DICOM)
        )
    settings = Settings(
        options_of(arguments),
        arguments.format,
        not arguments.no_pictures,
        arguments.allow_gaps,
        arguments.reproducible_uids,
    )
    name = DASK if arguments.scheduler else arguments.engine
    engine = Engine(name, arguments.workers, arguments.threads, arguments.scheduler or "")
    progress = ProgressLine(arguments.quiet)
    several = len(arguments.models) > 1
    if arguments.dry_run:
        folders = folders_of(arguments.models, arguments.out)
        for model, folder in folders.items() if several else [(arguments.models[0], arguments.out)]:
            _preview(arguments, model, folder, settings, engine)
        if several:
            _say_refusal(refusal_of_table(arguments.out))
        return
    callbacks = Callbacks(progress, StatePrinter(progress))
    try:
        if several:
            outcomes = segment_with_models(
                arguments.input, arguments.models, arguments.out, settings, engine, callbacks
            )
            found, table = outcomes.by_model, outcomes.table
        else:
            outcome = segment_files(arguments.input, arguments.models[0], arguments.out, settings, engine, callbacks)
            found, table = {"": outcome}, outcome.table
    finally:
        progress.clear()
    if not arguments.quiet:
        for model, outcome in found.items():
            for notice in outcome.notices:
                say(f"lightseg: {notice}", file=sys.stderr)
            for skipped_input in outcome.skipped_inputs:
                say(f"lightseg: skipped: {skipped_input.what} {skipped_input.reason}", file=sys.stderr)
            say(f"{model}: {_summary(outcome)}" if model else _summary(outcome))
        if several:
            say(f"{table} written")
    failed = sum(outcome.state.failed for outcome in found.values())
    if failed:
        raise LightSegError(
            _(
                "{failed} of {cases} cases failed. See {table} for the reasons; "
                "run the same command again to retry them."
            ).format(failed=failed, cases=sum(outcome.state.cases for outcome in found.values()), table=table)
        )


def _summary(outcome: Outcome) -> str:
    """Return what was done and written, in one line."""
    earlier = outcome.count_earlier()
    rows = f" (with {earlier} {'case' if earlier == 1 else 'cases'} of earlier runs)" if earlier else ""
    return f"{outcome.state.text()}; {outcome.table} and {outcome.page.name} written{rows}"


class StatePrinter:
    """Shows the state of a batch on a terminal; elsewhere, as in the log of a job, a line every minute."""

    def __init__(self, progress: ProgressLine) -> None:
        self._progress = progress
        self._told = time.monotonic()
        self._waiting = ""

    def __call__(self, state: BatchState) -> None:
        """Show a state."""
        self._progress.show(*state.lines())
        if time.monotonic() > self._told + MINUTE or (state.waiting and state.waiting != self._waiting):
            self._told, self._waiting = time.monotonic(), state.waiting
            self._progress.log(f"lightseg: {state.text()}")


def _preview(arguments: argparse.Namespace, model: str, out: str | Path, settings: Settings, engine: Engine) -> None:
    """Print what the batch of a model would do, and about how long it would take."""
    from ..batch.cluster import count_workers
    from ..batch.preview import estimate, steps
    from ..batch.progress import Callbacks, duration
    from ..batch.run import plan_batch

    progress = ProgressLine(arguments.quiet)
    with plan_batch(arguments.input, model, out, settings, Callbacks(progress), preview=True) as plan:
        progress.clear()
        if len(arguments.models) > 1:
            say(f"{plan.card.id}:")
        to_do = 0
        for case, done in steps(plan):
            to_do += not done
            say("done before" if done else "to do", case.id, case.where, sep="\t")
        for skipped_input in plan.skipped_inputs:
            say("skipped", skipped_input.what, skipped_input.reason, sep="\t")
        line = f"{to_do} of {plan.count} cases to do, inputs skipped: {len(plan.skipped_inputs)}"
        if to_do:
            try:
                if engine.scheduler and not engine.workers:
                    engine = replace(engine, workers=max(1, count_workers(engine.scheduler)))
                found = estimate(plan, engine, StatePrinter(progress))
            finally:
                progress.clear()
            if found is None:
                line += "; no estimate because the first cases failed"
            else:
                source = "one case run now" if found.measured else "the cases done before"
                time = f"about {duration(found.of(to_do))} (workers: {found.workers})"
                line += f"; {time}, estimated from {source} ({found.seconds:.1f} s per case)"
        say(line)
        _say_refusal(plan.refusal)


def _say_refusal(refusal: Message | None) -> None:
    """Print why a batch would be refused, if it would."""
    if refusal:
        say(f"lightseg: Run as it is, the batch would be refused: {refusal}", file=sys.stderr)


BATCH_COMMANDS = {"batch": _batch}
