"""Many volumes from files to files, while the application stays usable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..batch.engine import Engine
from ..batch.progress import Callbacks
from ..batch.run import Outcome, segment_files
from ..batch.settings import Settings
from ..core.errors import Canceled, InputError
from ..core.i18n import tr as _
from ..core.progress import CancelCallback
from . import jobs


def run(
    inputPath: str,
    model: str,
    outputFolder: str,
    settings: Settings | None,
    engine: Engine | None,
    callbacks: Callbacks,
) -> Outcome:
    """Segment files in a thread and its workers, and return when it is done, as `batch.run.segment_files`.

    The callbacks are called in the main thread, but `canceled`, which is asked in another one.

    Raises:
        InputError: for arguments of another kind.
        LightSegError: as `segment_files`.
        Canceled: if `canceled` returns True.
    """
    kinds = {
        "inputPath": (inputPath, str | Path),
        "outputFolder": (outputFolder, str | Path),
        "settings": (settings, Settings | None),
        "engine": (engine, Engine | None),
    }
    for name, (value, kind) in kinds.items():
        if not isinstance(value, kind):
            raise InputError(
                _("{value} cannot be used as {name}. help(LightSegLogic.segmentFiles) describes what can.").format(
                    value=repr(value), name=name
                )
            )
    engine = replace(engine or Engine(), python=jobs.interpreter())
    asked = callbacks.canceled or (lambda: False)

    def work(report: Callable[[Any], None], stopped: CancelCallback) -> Outcome:
        own = Callbacks(on_state=report, canceled=lambda: stopped() or asked())
        return segment_files(inputPath, str(model), outputFolder, settings, engine, own)

    task = jobs.Task(work)
    if callbacks.on_state is not None:
        task.progress.connect(callbacks.on_state)
    task.wait()
    if task.state == "canceled":
        raise Canceled
    if task.error is not None:
        raise task.error
    outcome: Outcome = task.result
    return outcome
