"""Seconds and peak memory of a program, with all processes that it starts."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024
INTERVAL = 0.05  # seconds between two looks at the processes
PROC = Path("/proc")
MEMORY_MEASURE = (
    "sum over the program's processes of what is theirs alone, and what the one with most of it shares, every 50 ms"
    if PROC.is_dir()
    else "largest single process of the program"
)


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds from the start of a program to its end, and the most memory in between."""

    seconds: float
    peak_bytes: int


class TooLarge(RuntimeError):
    """A program was ended because it held more memory than it was allowed."""


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    most_bytes: int | None = None,
) -> Cost:
    """Run a program to its end; RuntimeError with its last words if it fails, TooLarge above `most_bytes`."""
    peak = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=os.environ | (environment or {}), cwd=cwd, stdout=words, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            if most_bytes is not None and peak > most_bytes:
                for member in reversed(_tree(process.pid)):
                    with contextlib.suppress(OSError):  # it has just ended
                        os.kill(member, signal.SIGKILL)
                process.wait()
                raise TooLarge(f"more than {most_bytes / 1e9:.0f} GB")
            time.sleep(INTERVAL)
        seconds = time.perf_counter() - started
        if process.returncode:
            words.seek(0)
            held = f"after {seconds:.0f} s, holding up to {peak / 1e9:.2f} GB"
            message = words.read()[-2000:]
            raise RuntimeError(f"{Path(command[0]).name} ended with {process.returncode} {held}:\n{message}")
    if not PROC.is_dir():  # the largest of all children so far: right for one that is larger than those before
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * BYTES_PER_MAXRSS
    return Cost(seconds, peak)


def own_peak() -> int:
    """Most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_MAXRSS


def _memory(pid: int) -> int:
    """Bytes that a process and its descendants hold; pages that they share, such as libraries, count once."""
    alone, shared = [], []
    for process in _tree(pid):
        try:
            _, resident, common, *_ = map(int, (PROC / str(process) / "statm").read_text(encoding="ascii").split())
        except (OSError, ValueError):  # it has just ended
            continue
        alone.append(resident - common)
        shared.append(common)
    return (sum(alone) + max(shared, default=0)) * resource.getpagesize()


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for children in (PROC / str(parent) / "task").glob("*/children"):
            try:
                found += map(int, children.read_text(encoding="ascii").split())
            except OSError:  # it has just ended
                continue
    return found
