"""What both engines have in common: the cases on their way, and how often a worker may die of one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..core.errors import LightSegError
from . import records
from .case import Case
from .records import Row
from .settings import Batch

TRIES = 3
CASE_PROCESSOR = (f"{__package__}.case_processor", "CaseProcessor")  # module and class of what a worker process does


@dataclass(frozen=True)
class Answer:
    """A worker's answer to a task.

    Attributes:
        row: as it was recorded.
        skipped: the case was done before.
    """

    row: Row
    skipped: bool = False

    @classmethod
    def of(cls, message: dict[str, Any]) -> Answer:
        """Return the answer of a worker's message."""
        return cls(Row(**message["row"]), message["skipped"])


@dataclass(frozen=True)
class Task:
    """A case, and how many workers have crashed on it."""

    case: Case
    crashes: int = 0

    def message(self, batch: Batch, threads: int | None) -> dict[str, Any]:
        """Return the message that asks a worker for the case."""
        return {"case": self.case.to_json(), "batch": batch.to_json(), "threads": threads}


class Tasks:
    """The cases in their order; those whose worker died are done alone, with all the memory and harming no other."""

    def __init__(self, cases: Iterable[Case], batch: Batch) -> None:
        self._waiting = iter(cases)
        self._batch = batch
        self._returned: deque[Task] = deque()
        self._alone: deque[Task] = deque()

    def fresh(self) -> Task | None:
        """Return a task that may run beside others, or None."""
        if self._returned:
            return self._returned.popleft()
        case = next(self._waiting, None)
        return None if case is None else Task(case)

    def alone(self) -> Task | None:
        """Return a task that may run only alone, or None."""
        return self._alone.popleft() if self._alone else None

    def give_back(self, tasks: Iterable[Task]) -> None:
        """Take back tasks that were interrupted through no fault of their own."""
        self._returned.extend(tasks)

    def failed(self, task: Task, error: LightSegError, crashes: int = 1) -> Answer | None:
        """Return the answer for a task whose worker crashed, or None if it is tried again.

        Raises:
            OutputError: if that cannot be written either.
        """
        task = Task(task.case, task.crashes + crashes)
        if task.crashes < TRIES:
            self._alone.append(task)
            return None
        row = records.failed(task.case, self._batch, f"Given up after {task.crashes} tries. {error}")
        records.write_record(row, self._batch)
        return Answer(row)
