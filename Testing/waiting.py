"""Waiting for other processes: for what they do, never for a time; the deadline is for those that will never do it."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

PATIENCE = 120.0  # seconds; a busy machine takes that long for what an idle one does in one
POLL = 0.02


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return as soon as the condition holds; AssertionError where it does not within `seconds`."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited for {seconds:g} s in vain"
        time.sleep(POLL)


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has, too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
