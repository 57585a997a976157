"""The faults: what happens to a job while it runs, and the messages that may result."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from forking import Ending, Fork, Limits
from http_server import Answer
from jobs import Download, Job, spoil_clock

LIMITS = Limits(processor=120, seconds=120)
DISK = 128 << 20  # bytes; a download wants 64 MiB to be left over
WRITING = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")  # events of Python's audit, PEP 578
LEAST_QUOTA = 4096  # bytes of a quota that leave room for the output of a command, which goes to a file, too
ORPHANS = 30.0  # seconds that what a killed command has started may take to notice


class Fault(ABC):
    """One kind of fault."""

    name = ""
    stops = True  # whether the command may end by a signal

    def fits(self, job: Job) -> bool:
        """Whether this can happen to the job."""
        return True

    @contextmanager
    def place(self, folder: Path) -> Iterator[Path]:
        """The folder that the job writes to."""
        target = folder / "target"
        target.mkdir()
        yield target

    @abstractmethod
    def strike(self, job: Job, call: Callable[[], int], target: Path, random: Random) -> list[Ending]:
        """Run the call, and let the fault happen; how each process ended."""

    def lift(self, job: Job, target: Path) -> None:  # noqa: B027 (most faults are over by themselves)
        """The fault is over."""


class Killed(Fault):
    """By a signal, at any time."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self._number = name, number

    def strike(self, job: Job, call: Callable[[], int], target: Path, random: Random) -> list[Ending]:
        fork = Fork(call, LIMITS)
        if not fork.has_ended(random.uniform(0, 1.2) * job.seconds):
            fork.kill(self._number, group=random.random() < 0.3)
            if not fork.has_ended(ORPHANS):
                raise AssertionError(f"it does not end by {signal.Signals(self._number).name}")
            wait_for_group(fork.process)
        return [fork.ending()]


class KilledAtFile(Fault):
    """Before it makes, renames or removes any file: each of these moments is as likely."""

    name = "kill -9 at a file operation"

    def __init__(self) -> None:
        self._operations: dict[str, int] = {}

    def strike(self, job: Job, call: Callable[[], int], target: Path, random: Random) -> list[Ending]:
        most = self._operations.get(job.name, 0)
        if not most:  # the first time, they are counted
            counted = target.parent / "count"
            ending = Fork(lambda: _counted(call, 0, counted), LIMITS).ending()
            self._operations[job.name] = int(counted.read_text())
            return [ending]
        return [Fork(lambda: _counted(call, random.randint(1, most), None), LIMITS).ending()]


def _counted(call: Callable[[], int], last: int, counter: Path | None) -> int:
    """Run the call, up to before operation `last` on files."""
    operations = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal operations
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in WRITING:
            operations += 1
            if operations == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    code = call()
    if counter is not None:
        counter.write_text(str(operations))
    return code


class Quota(Fault):
    """No file may become larger than so many bytes."""

    name = "quota reached"
    stops = False

    def strike(self, job: Job, call: Callable[[], int], target: Path, random: Random) -> list[Ending]:
        most = random.choice((LEAST_QUOTA, random.randrange(LEAST_QUOTA, 100_000)))

        def limited() -> int:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            return call()

        return [_patient(limited)]


class Disk(Fault):
    """The job writes to a small disk of its own, where the system allows one to be made."""

    stops = False
    possible = True

    def fits(self, job: Job) -> bool:
        return Disk.possible and sys.platform == "linux" and os.geteuid() == 0

    @contextmanager
    def place(self, folder: Path) -> Iterator[Path]:
        target = folder / "target"
        target.mkdir()
        mount = ("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", target)
        Disk.possible = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        try:
            yield target
        finally:
            subprocess.run(("umount", "-l", target), capture_output=True, check=False)


class Full(Disk):
    """Only so many bytes are free."""

    name = "disk full"

    def strike(self, job: Job, call: Callable[[], int], target: Path, random: Random) -> list[Ending]:
        room = random.choice((0, 4096, random.randrange(200_000), random.randrange(8_000_000)))
        with (target / "filler").open("wb", 0) as stream:
            for block in (bytes(1 << 20), bytes(4096)):
                with suppress(OSError):
                    while stream.write(block):
                        pass
            stream.truncate(max(0, stream.tell() - room))
        return [_patient(call)]

    def lift(self, job: Job, target: Path) -> None:
        (target / "filler").unlink()


class ReadOnly(Disk):
    """Nothing can be written."""

    name = "read-only"

    def strike(self, job: Job, call: Callable[[], int], target: Path, random: Random) -> list[Ending]:
        subprocess.run(("mount", "-o", "remount,ro", target), check=True)
        return [_patient(call)]

    def lift(self, job: Job, target: Path) -> None:
        subprocess.run(("mount", "-o", "remount,rw", target), check=True)


class NoNetwork(Fault):
    """The server falls silent within the file, several times or for good."""

    name = "network gone"
    stops = False

    def fits(self, job: Job) -> bool:
        return isinstance(job, Download)

    def strike(self, job: Job, call: Callable[[], int], target: Path, random: Random) -> list[Ending]:
        assert isinstance(job, Download)
        whole = Answer(job.CONTENT, etag='"1"')
        cuts = [
            Answer(job.CONTENT, etag='"1"', cut=random.randrange(len(job.CONTENT)))
            for _ in range(random.choice((1, 2, 9)))
        ]
        job.answer(*cuts, *([whole] if len(cuts) < 9 else []))
        return [Fork(call, LIMITS).ending()]

    def lift(self, job: Job, target: Path) -> None:
        assert isinstance(job, Download)
        job.answer(Answer(job.CONTENT, etag='"1"'))


class ClockSetBack(Fault):
    """A run is killed, and what it left is from the future for the next one."""

    name = "clock set back"

    def strike(self, job: Job, call: Callable[[], int], target: Path, random: Random) -> list[Ending]:
        fork = Fork(call, LIMITS)
        if not fork.has_ended(random.uniform(0, 1.0) * job.seconds):
            fork.kill(signal.SIGKILL)
            wait_for_group(fork.process)
        spoil_clock(target.parent, random)

        def earlier() -> int:
            now = time.time
            time.time = lambda: now() - 3e7
            return call()

        return [fork.ending(), Fork(earlier, LIMITS).ending()]


class TwoAtOnce(Fault):
    """Two programs do the same in the same folder."""

    name = "two at once"
    stops = False

    def strike(self, job: Job, call: Callable[[], int], target: Path, random: Random) -> list[Ending]:
        first = Fork(call, LIMITS)
        first.has_ended(random.choice((0, random.uniform(0, 1.0))) * job.seconds)
        second = Fork(call, LIMITS)
        return [first.ending(), second.ending()]


FAULTS: tuple[Fault, ...] = (
    Killed("kill -9", signal.SIGKILL),
    KilledAtFile(),
    Killed("SIGTERM", signal.SIGTERM),
    Full(),
    ReadOnly(),
    Quota(),
    NoNetwork(),
    ClockSetBack(),
    TwoAtOnce(),
)


def _patient(call: Callable[[], int]) -> Ending:
    """How a call ends that may wait for room on a disk, as a batch does: it is ended then, as by a user."""
    fork = Fork(call, LIMITS)
    if not fork.has_ended(20):
        fork.kill(signal.SIGTERM)
    return fork.ending()


def wait_for_group(process: int) -> None:
    """Return when all that a command has started is gone. Raises AssertionError where something goes on."""
    until = time.monotonic() + ORPHANS
    while time.monotonic() < until:
        if not _others(process):
            return
        time.sleep(0.02)
    raise AssertionError("what it had started goes on running")


def _others(process: int) -> list[int]:
    """Processes of a group that still run, but for its first one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, group = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:3]
            if int(group) == process and int(path.parent.name) != process and state not in "ZX":
                found.append(int(path.parent.name))
    return found
