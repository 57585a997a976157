"""The command `lightseg batch`: many cases, from files to files."""

from __future__ import annotations

import argparse
import sys

from .errors import LightSegError
from .printing import ProgressLine, silence_itk


def _batch(arguments: argparse.Namespace) -> None:
    from .batch.cohort import segment_files
    from .batch.settings import Settings

    silence_itk()
    settings = Settings(
        arguments.device,
        arguments.full_precision,
        arguments.mirror,
        "label" if arguments.largest_component else None,
        not arguments.no_openvino,
        arguments.format,
        not arguments.no_pictures,
    )
    progress = ProgressLine(arguments.quiet)
    try:
        outcome = segment_files(
            arguments.input,
            arguments.model,
            arguments.out,
            settings,
            arguments.workers,
            arguments.threads,
            arguments.accept_licence,
            progress,
            lambda state: progress.show(*state.lines()),
        )
    finally:
        progress.clear()
    state = outcome.state
    if not arguments.quiet:
        for misfit in outcome.misfits:
            print(f"lightseg: left out: {misfit.what} {misfit.reason}", file=sys.stderr)
        print(f"{state.text()}; {outcome.table} written")
    if state.failed:
        raise LightSegError(
            f"{state.failed} of {state.cases} cases failed. "
            f"The reasons stand in {outcome.table}; run the same command again to try these once more."
        )


BATCH_JOBS = {"batch": _batch}
