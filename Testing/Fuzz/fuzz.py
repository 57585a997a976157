"""`make fuzz`: spoil real inputs at random, and report what ends neither in a result nor in a sentence.

    python Testing/Fuzz/fuzz.py [--seconds 60] [--seed 0] [--kind NAME] [--number N]

Input N of a seed is always the same; `--number N` tries it alone, keeps it and shows all output. The exit
status is 1 when something was found.
"""

# ruff: noqa: E402 (threads must be few before anything is imported: a fork takes none along)
from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from random import Random

if __name__ == "__main__":
    THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    os.environ |= dict.fromkeys(THREADS, "1")
TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent / "LightSeg")]

import torch
from forking import Ending, Limits, forked
from kinds import KINDS, OFTEN, TRAINING, Trial
from LightSegLib.core.plain_text import ACTING
from real_inputs import DICOM, MODEL, Inputs, make_inputs, run

LIMITS = Limits()
MOST_MEMORY = 1 << 30  # bytes; the inputs are of some kilobytes
MOST_LINES = 15
CODES = (0, 1, 2)  # done; anything else; what was handed over cannot be used
ROUND = (*KINDS, *OFTEN)


def fault(ending: Ending) -> str:
    """What is wrong with an ending, in a line; nothing where it is a result or a sentence."""
    text = ending.out + ending.err
    if ending.late:
        return f"hangs: killed after {LIMITS.seconds:.0f} s"
    if ending.code is None:
        return f"signal {ending.signal}: {_last(ending.err)}"
    if "Traceback (most recent call last)" in text or "unexpected error" in text:
        return f"unexpected: {_last(ending.err)}"
    if ending.code not in CODES:
        return f"exit code {ending.code}: {_last(ending.err)}"
    if ending.grown > MOST_MEMORY:
        return f"memory: {ending.grown / 1e9:.1f} GB"
    if any(sign != "\r" for sign in ACTING.findall(text)):
        return f"speaks to the terminal: {_last(text)!r}"
    if len(ending.err.splitlines()) > MOST_LINES or "weights_only" in text:
        return f"words of another program: {_last(ending.err)}"
    sentence = ending.err.rpartition("lightseg: ")[2].strip()
    if ending.code and not re.search(r"[.!?;] .*[.)]$", sentence, re.DOTALL | re.MULTILINE):  # lists may follow
        return f"no sentence: {_last(ending.err)}"
    return ""


def _last(text: str) -> str:
    return text.strip().splitlines()[-1][:300] if text.strip() else "nothing was said"


def signature(found: str) -> str:
    """Two findings with the same one are of one fault."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*|\d+", "#", found)[:90]


class Fuzz:
    """The inputs of one seed."""

    def __init__(self, seed: int, kinds: tuple[str, ...]) -> None:
        self.seed, self.kinds = seed, kinds
        self.root = Path(tempfile.mkdtemp(prefix="fuzz-"))
        os.environ |= {name: str(self.root / "user") for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME")}
        os.environ["LIGHTSEG_MODELS"] = str(self.root / "models")
        os.environ["LIGHTSEG_OFFLINE"] = "1"
        torch.set_num_threads(1)
        (self.root / "user").mkdir()
        self.inputs: Inputs = make_inputs(self.root)
        self._warm_up()

    def _warm_up(self) -> None:
        """What a command imports late is there before the first fork."""
        first = self.root / "first"
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            run("weights", "list")
            run("train", self.inputs.training, "--out", first / "model", *TRAINING)
            run(
                "evaluate",
                self.inputs.root / "labels.nii.gz",
                self.inputs.root / "labels.nii.gz",
                "--out",
                first / "o.csv",
            )
            for name in DICOM:
                run("segment", self.inputs.images / name, "--model", MODEL, "--out", first / f"{name}.nrrd")
        shutil.rmtree(first)

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def trial(self, number: int, folder: Path) -> tuple[str, Trial]:
        """The spoiled input of a number, in an empty folder."""
        kind = self.kinds[number % len(self.kinds)]
        return kind, KINDS[kind](self.inputs, folder, Random(f"{self.seed} {number}"))

    def try_one(self, number: int, folder: Path) -> tuple[str, Trial, Ending, str]:
        """Its kind, what was called, how that ended, and what is wrong with it."""
        own, temporary = folder / "in", folder / "tmp"
        own.mkdir(parents=True)
        temporary.mkdir()
        kind, trial = self.trial(number, own)
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)  # of the fork
        sys.stdout.flush()
        here = Path.cwd()
        os.chdir(own)
        ending = forked(trial, LIMITS)
        os.chdir(here)
        tempfile.tempdir = None
        os.environ.pop("TMPDIR")
        found = fault(ending)
        if not found and (left := [path.name for path in temporary.iterdir()]):
            found = f"left behind: {', '.join(left)}"
        return kind, trial, ending, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long to try (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other inputs for another number (default: %(default)s)")
    parser.add_argument("--kind", choices=sorted(KINDS), help="only inputs of this kind")
    parser.add_argument("--number", type=int, help="try this one alone, keep it, and show all that was said")
    arguments = parser.parse_args()
    fuzz = Fuzz(arguments.seed, (arguments.kind,) if arguments.kind else ROUND)
    try:
        if arguments.number is not None:
            return show(fuzz, arguments.number)
        return search(fuzz, arguments.seconds)
    finally:
        fuzz.close()


def show(fuzz: Fuzz, number: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{fuzz.seed}-{number}-"))
    kind, trial, ending, found = fuzz.try_one(number, folder)
    print(f"{kind}, in {folder}\n{' '.join(trial.words) or 'a call'}\n{ending.out}{ending.err}", end="")
    print(f"code {ending.code}, signal {ending.signal}, {ending.seconds:.1f} s, {ending.grown / 1e6:.0f} MB")
    print(found or "a result or a sentence")
    return bool(found)


def search(fuzz: Fuzz, seconds: float) -> int:
    tried: Counter[str] = Counter()
    took: Counter[str] = Counter()
    done: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    wrong: dict[str, list[int]] = {}
    slowest, largest = (0.0, 0), (0, 0)
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        folder = fuzz.root / "trial"
        kind, _, ending, found = fuzz.try_one(number, folder)
        tried[kind] += 1
        took[kind] += ending.seconds
        done[kind] += not found and ending.code == 0
        refused[kind] += not found and ending.code != 0
        slowest, largest = max(slowest, (ending.seconds, number)), max(largest, (ending.grown, number))
        if found:
            numbers = wrong.setdefault(f"{kind}: {signature(found)}", [])
            if not numbers:
                print(f"--number {number}  {kind}: {found}", flush=True)
            numbers.append(number)
        shutil.rmtree(folder, ignore_errors=True)
        number += 1
    print(f"{'KIND':<12}{'TRIED':>8}{'RESULT':>8}{'REFUSED':>9}{'FOUND':>7}{'SECONDS':>9}")
    for kind in sorted(tried):
        found_here, mean = tried[kind] - done[kind] - refused[kind], took[kind] / tried[kind]
        print(f"{kind:<12}{tried[kind]:>8}{done[kind]:>8}{refused[kind]:>9}{found_here:>7}{mean:>9.2f}")
    total = sum(map(len, wrong.values()))
    print(f"{'all':<12}{number:>8}{done.total():>8}{refused.total():>9}{total:>7}")
    print(f"slowest {slowest[0]:.1f} s (--number {slowest[1]})")
    print(f"most memory {largest[0] / 1e6:.0f} MB (--number {largest[1]})")
    for words, numbers in sorted(wrong.items(), key=lambda one: -len(one[1])):
        print(f"{len(numbers)} x {words} (--number {' '.join(map(str, numbers[:5]))})")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
