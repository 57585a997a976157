"""On what a batch runs, as its caller chooses it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from .tasks import CASE_PROCESSOR

LOCAL, DASK = "local", "dask"


@dataclass(frozen=True)
class Engine:
    """What a batch runs on, as its caller chooses it.

    Attributes:
        name: "local" for processes on this computer, "dask" for a cluster.
        workers: how many processes, and threads of each; None for what fits.
        threads: how many processes, and threads of each; None for what fits.
        scheduler: address of a cluster; empty for one that is started on this computer.
        python: interpreter and class (its module and name) of the workers.
        handler: interpreter and class (its module and name) of the workers.
    """

    name: str = LOCAL
    workers: int | None = None
    threads: int | None = None
    scheduler: str = ""
    python: str = sys.executable
    handler: tuple[str, str] = CASE_PROCESSOR
