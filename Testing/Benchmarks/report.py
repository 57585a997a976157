"""What the benchmark measured, what it claims, and the files it measures with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from in_process import LIBRARY
from measure import Cost, run

HERE = Path(__file__).resolve().parent
PEERS = Path(os.environ.get("LIGHTSEG_PEERS") or HERE.parents[1] / ".venv-peers" / "bin" / "python").absolute()
GIGABYTE = 1e9


@dataclass
class Report:
    """What was measured, and the claims that it bears out or not."""

    folder: Path
    full: bool
    claims: list[tuple[str, str, str, str]] = field(default_factory=list)

    def claim(self, what: str, measured: float, target: float, unit: str, at_least: bool = False) -> None:
        """A number beside its target."""
        met = measured >= target if at_least else measured <= target
        bound = "at least" if at_least else "at most"
        row = (what, f"{measured:.3g}{unit}", f"{bound} {target:g}{unit}", "met" if met else "MISSED")
        self.claims.append(row)

    def skip(self, what: str, reason: str) -> None:
        """A claim that cannot be shown here."""
        print(f"  {what}: not measured, {reason}", flush=True)
        self.claims.append((what, "-", "-", f"not measured: {reason}"))

    @cached_property
    def environment(self) -> dict[str, str]:
        """LightSeg's own folders, empty at first: nothing of the user's is used or changed."""
        names = ("LIGHTSEG_MODELS", "LIGHTSEG_WEIGHTS", "XDG_DATA_HOME")
        return {name: str(self.folder / name.lower()) for name in names}

    def model(self, name: str) -> dict[str, str]:
        """The nnU-Net folder of a benchmark model and LightSeg's id of it; written at its first use."""
        kept = self.folder / f"{name}.json"
        if not kept.exists():
            found = self.facts("models.py", self.folder / "nnunet", name)
            kept.write_text(json.dumps(found), encoding="utf-8")
        return json.loads(kept.read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    def facts(
        self, script: str, *words: object, python: Path | str = sys.executable, instructions: str = ""
    ) -> dict[str, Any]:
        """What a script prints as JSON in a fresh process.

        instructions: of the processor that may be used at most, as ONEDNN_MAX_CPU_ISA takes them; "" for no limit.
        """
        limit = {"ONEDNN_MAX_CPU_ISA": instructions} if instructions else {}
        result = subprocess.run(
            [python, HERE / script, *map(str, words)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | self.environment | limit | {"PYTHONPATH": str(HERE.parent)},  # of the tests' work
        )
        return json.loads(result.stdout.splitlines()[-1])  # type: ignore[no-any-return]

    def ct(self, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Path:
        """A phantom's file; written at its first use."""
        folder = self.folder / "x".join(map(str, shape))
        file = folder / "case_0000.nii.gz"
        if not file.exists():
            folder.mkdir()
            subprocess.run([sys.executable, HERE / "phantom.py", file, *map(str, (*shape, *spacing))], check=True)
        return file

    def lightseg(self, model: str, image: Path, out: Path, *options: str) -> Cost:
        """The whole command `lightseg segment`, from the start of Python to the written file."""
        command = [sys.executable, "-m", "LightSegLib.cli", "segment", image, "--model", model, "--device", "cpu"]
        return run([*command, "--out", out, "--overwrite", *options], self.environment, LIBRARY)

    def batch(self, model: str, images: Path, out: Path, *options: str) -> Cost:
        """The whole command `lightseg batch`."""
        command = [sys.executable, "-m", "LightSegLib.cli", "batch", images, "--model", model, "--device", "cpu"]
        return run([*command, "--out", out, *options], self.environment, LIBRARY)

    def nnunet(self, folder: str, images: Path, out: Path, most_bytes: int | None = None) -> Cost:
        """The whole command of nnU-Net on a folder of images, a process to read and one to write, without mirroring."""
        program = PEERS.with_name("nnUNetv2_predict_from_modelfolder")
        files = [program, "-i", images, "-o", out, "-m", folder, "-f", "0"]
        options = ["-device", "cpu", "--disable_tta", "--disable_progress_bar", "-npp", "1", "-nps", "1"]
        return run([*files, *options], {"nnUNet_def_n_proc": str(os.cpu_count())}, most_bytes=most_bytes)


def how(segmentation: Path) -> str:
    """In which form it was computed, from the header of a written segmentation."""
    with segmentation.open("rb") as stream:
        for line in stream:
            if line.startswith(b"LightSeg_Provenance:="):
                return str(json.loads(line.split(b":=", 1)[1])["computed_in"])
    raise ValueError(f"{segmentation} does not contain how it was computed")


def words(cost: Cost) -> str:
    """Seconds and gigabytes, in columns."""
    return f"{cost.seconds:>7.1f} s {cost.peak_bytes / GIGABYTE:>6.2f} GB"


def sizes(shape: Sequence[int]) -> str:
    """A size as users say it, i x j x k."""
    return "x".join(map(str, shape[::-1]))
