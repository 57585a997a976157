"""What a batch would do, and how long it would take; nothing is written to the folder of results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from ..core.errors import InputError
from ..core.leftovers import temporary_folder
from . import local, records
from .case import Case
from .engine import Engine
from .progress import BatchProgress, StateCallback
from .run import BatchPlan
from .tasks import Answer
from .worker_limit import WorkerLimit

MEASURED = 2  # cases: the first loads the model, the second shows how long one takes
TRIED = 10  # cases, at most, some of which may fail


@dataclass(frozen=True)
class Estimate:
    """Time of a batch.

    Attributes:
        measured: just now, else in earlier cases of the same batch.
    """

    seconds: float
    workers: int
    measured: bool

    def of(self, cases: int) -> float:
        """Return the seconds for so many cases."""
        return self.seconds * cases / min(self.workers, max(1, cases))


def steps(plan: BatchPlan) -> Iterator[tuple[Case, bool]]:
    """Yield every case, and whether it is done already."""
    for case in plan.cases():
        try:
            done = records.finished(case, plan.batch) is not None
        except InputError:  # it would fail, its row in the table will report it
            done = False
        yield case, done


def estimate(plan: BatchPlan, engine: Engine, on_state: StateCallback | None = None) -> Estimate | None:
    """Estimate the time of a batch by earlier cases, or by segmenting the first ones into a temporary folder.

    Returns None if these fail.
    """
    size = WorkerLimit(None, engine.threads)
    answers = [Answer(row) for row in records.rows(plan.batch) if row.status == records.DONE]
    measured = not answers
    if measured:
        with temporary_folder() as folder:
            batch = replace(plan.batch, out=folder)
            records.make_folders(batch)
            first = list(islice((case for case, done in steps(plan) if not done), TRIED))
            progress = BatchProgress(min(MEASURED, len(first)), on_state)
            with closing(local.run(first, batch, engine, size, progress)) as found:
                for answer in islice((one for one in found if one.row.status == records.DONE), MEASURED):
                    answers = [answer]
                    progress.finished(records.DONE, False, answer.row.seconds, 1)
    for answer in answers:
        size.learn(answer)
    if not answers:
        return None
    mean = sum(answer.row.seconds for answer in answers) / len(answers)
    return Estimate(mean, engine.workers or size.workers, measured)
