"""One call in a process of its own, forked from one in which everything is loaded: its output and how it ended.

A fork takes milliseconds where a new interpreter takes seconds. The process may use so much processor time and memory,
and is killed with all that it has started when it takes too long.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

GIGABYTE = 1 << 30
LARGEST_FILE = GIGABYTE  # bytes that a process may write to one file
LONGEST_TEXT = 100_000  # bytes of the output that are examined


@dataclass(frozen=True)
class Limits:
    """Seconds of processor time, seconds in all, and bytes of memory beyond what the loaded program takes."""

    processor: int = 20
    seconds: float = 60.0
    memory: int = 3 * GIGABYTE


@dataclass(frozen=True)
class Ending:
    """code: the exit code, None after a signal. signal: by which it ended, 0 for none. late: it took too long.

    grown: most bytes that it held beyond what it began with.
    """

    code: int | None
    signal: int
    late: bool
    out: str
    err: str
    seconds: float
    grown: int


class Fork:
    """A call that runs in a fork of this process, the first of a group of processes of its own."""

    def __init__(self, call: Callable[[], int], limits: Limits) -> None:
        self._limits = limits
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 (closed in `ending`)
        self._answers, answer = os.pipe()
        self._started = time.monotonic()
        self.process = os.fork()
        if self.process == 0:
            os.close(self._answers)
            _behave(call, limits, (self._out.fileno(), self._err.fileno()), answer)  # does not return
        os.close(answer)

    def has_ended(self, seconds: float = 0) -> bool:
        """Whether the call has returned, or its process is gone, within so many seconds."""
        return bool(select.select([self._answers], [], [], seconds)[0])  # the end that the fork had is closed then

    def kill(self, number: int, group: bool = False) -> None:
        """Send a signal, to the call alone or to all that it has started, too."""
        with suppress(ProcessLookupError, PermissionError):
            (os.killpg if group else os.kill)(self.process, number)

    def ending(self) -> Ending:
        """Wait for its end, and kill what is late, and all that it has left running."""
        late = not self.has_ended(self._limits.seconds)
        answer = b"" if late else os.read(self._answers, 64)
        os.close(self._answers)
        self.kill(signal.SIGKILL, group=True)
        _, status = os.waitpid(self.process, 0)
        code, grown = map(int, answer.split()) if answer else (os.waitstatus_to_exitcode(status), 0)
        with self._out, self._err:
            return Ending(
                code if code >= 0 else None,
                -code if code < 0 else 0,
                late,
                _text(self._out),
                _text(self._err),
                time.monotonic() - self._started,
                grown,
            )


def forked(call: Callable[[], int], limits: Limits) -> Ending:
    """Run `call`, which returns an exit code, in a fork of this process."""
    return Fork(call, limits).ending()


def _behave(call: Callable[[], int], limits: Limits, streams: tuple[int, int], answer: int) -> None:
    """Of the forked process."""
    code, before = 120, _resident(os.getpid())
    try:
        os.setsid()
        for stream, number in zip(streams, (1, 2), strict=True):
            os.dup2(stream, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent = int(used.ru_utime + used.ru_stime)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
        resource.setrlimit(resource.RLIMIT_CPU, (spent + limits.processor, spent + limits.processor + 5))
        most = _mapped() + limits.memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak of memory begins anew
        code = call()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os.write(answer, f"{code} {max(0, _resident(os.getpid(), 'VmHWM') - before)}".encode())
        os._exit(code)


def _resident(process: int, field: str = "VmRSS") -> int:
    """Bytes of memory that a process holds."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def _mapped() -> int:
    """Bytes of address space in use, which RLIMIT_AS counts."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read(LONGEST_TEXT).decode("utf-8", "replace")
