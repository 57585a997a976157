"""`make chaos`: let faults meet LightSeg's jobs, and see that nothing is lost or half done and the next run works.

    python Testing/Chaos/chaos.py [--seconds 60] [--seed 0] [--job NAME] [--fault NAME] [--markdown FILE]

All jobs meet all faults that can happen to them, in turn, the quick ones first, until the seconds are over. The exit
status is 1 where something was lost.
"""

# ruff: noqa: E402 (threads must be few before anything is imported: a fork takes none along)
from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

if __name__ == "__main__":
    THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    os.environ |= dict.fromkeys(THREADS, "1")
TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent / "LightSeg")]

import torch
from faults import FAULTS, LIMITS, Fault
from forking import Ending, forked
from jobs import JOBS, Job, left_over
from real_inputs import make_inputs


@dataclass
class Tally:
    """Tries of a job with a fault, and what was wrong with some of them."""

    tries: int = 0
    lost: list[str] = field(default_factory=list)


class Chaos:
    """The inputs, the jobs, and a folder for one try."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._used: list[Path] = []
        self.root = Path(tempfile.mkdtemp(prefix="chaos-"))
        os.environ |= {name: str(self.root / "user") for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME")}
        os.environ["LIGHTSEG_MODELS"] = str(self.root / "models")
        torch.set_num_threads(1)
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            inputs = make_inputs(self.root)
            self.jobs = [job(inputs) for job in JOBS]
            for job in self.jobs:
                self._measure(job)

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def _new_folder(self) -> Path:
        """For one try, at a place where none was before: a process looks once for what was left in a folder."""
        folder = self.root / f"try {len(self._used)}"
        self._used.append(folder)
        return folder

    def _measure(self, job: Job) -> None:
        """How long a job takes; what it imports late is there afterwards, but for what a worker does."""
        here = job.name.startswith(("segment", "train"))  # first in this process, for the sake of what is imported
        for in_fork in (False, True) if here else (True,):
            folder = self._new_folder()
            (folder / "tmp").mkdir(parents=True)
            (folder / "target").mkdir()
            call = job.call(folder, folder / "target", job.prepare(folder, folder / "target"))
            kept = dict(os.environ)
            ending = forked(call, LIMITS) if in_fork else None
            code = call() if ending is None else ending.code
            os.environ.clear()
            os.environ.update(kept)
            if code:
                raise RuntimeError(f"{job.name} fails without any fault: {ending.err if ending else code}")
            job.finished(folder, folder / "target")
            job.seconds = ending.seconds if ending else 1.0
            shutil.rmtree(folder)

    def attempt(self, job: Job, fault: Fault, number: int) -> None:
        """Let the fault happen once. Raises AssertionError where something was lost, half done or left behind."""
        folder, random = self._new_folder(), Random(f"{self.seed} {job.name} {fault.name} {number}")
        (folder / "tmp").mkdir(parents=True)
        try:
            with fault.place(folder) as target:
                call = job.call(folder, target, job.prepare(folder, target))
                for ending in fault.strike(job, call, target, random):
                    judge(ending, fault.stops)
                job.check(folder, target)
                fault.lift(job, target)
                again = forked(call, LIMITS)
                judge(again, stops=False)
                assert again.code == 0, f"the next run fails: {again.err.strip()[-300:]}"
                job.finished(folder, target)
                left = left_over(folder)
                assert not left, f"left behind: {', '.join(left)}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def judge(ending: Ending, stops: bool) -> None:
    """Raise AssertionError for an ending that is neither a result nor a sentence; stops: or a signal."""
    assert not ending.late, f"it hangs: {ending.err.strip()[-200:]}"
    assert ending.code is not None or stops, f"it ends by signal {ending.signal}"
    assert ending.code in (None, 0, 1, 2), f"exit code {ending.code}: {ending.err.strip()[-300:]}"
    for words in ("Traceback", "unexpected error"):
        assert words not in ending.err, ending.err.strip()[-400:]


def table(tallies: dict[tuple[str, str], Tally], jobs: list[str], faults: list[str]) -> list[str]:
    """Lines in Markdown: tries that were survived, out of all where some were not."""

    def cell(pair: tuple[str, str]) -> str:
        tally = tallies.get(pair)
        if tally is None:
            return "-"
        return str(tally.tries) if not tally.lost else f"{tally.tries - len(tally.lost)} of {tally.tries}"

    lines = ["| Fault | " + " | ".join(f"`{job}`" for job in jobs) + " |", "|---|" + "---:|" * len(jobs)]
    return lines + [f"| {fault} | " + " | ".join(cell((job, fault)) for job in jobs) + " |" for fault in faults]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long to try (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other moments for another number (default: %(default)s)")
    parser.add_argument("--job", help="this one alone", choices=[job.name for job in JOBS])
    parser.add_argument("--fault", help="this one alone", choices=[fault.name for fault in FAULTS])
    parser.add_argument("--markdown", type=Path, help="write the table to this file, too")
    arguments = parser.parse_args()
    chaos = Chaos(arguments.seed)
    tallies: dict[tuple[str, str], Tally] = {}
    try:
        jobs = [job for job in chaos.jobs if arguments.job in (None, job.name)]
        faults = [fault for fault in FAULTS if arguments.fault in (None, fault.name)]
        until, number = time.monotonic() + arguments.seconds, 0
        while time.monotonic() < until:
            for job in sorted(jobs, key=lambda job: job.seconds):
                for fault in faults:
                    if time.monotonic() > until or not fault.fits(job):
                        continue
                    tally = tallies.setdefault((job.name, fault.name), Tally())
                    tally.tries += 1
                    try:
                        chaos.attempt(job, fault, number)
                    except Exception as error:  # what a check meets in half a file is a finding, too
                        tally.lost.append(f"{type(error).__name__}: {error}")
                        print(f"{job.name}, {fault.name}, try {number}: {tally.lost[-1]}", flush=True)
            number += 1
    finally:
        chaos.close()
    lines = table(tallies, [job.name for job in jobs], [fault.name for fault in faults])
    tries, lost = sum(tally.tries for tally in tallies.values()), sum(len(tally.lost) for tally in tallies.values())
    lines += ["", f"{tries} tries, {lost} of them with something lost, half done or left behind."]
    print("\n".join(lines))
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lost > 0


if __name__ == "__main__":
    sys.exit(main())
