"""LightSeg's answer beside nnU-Net's, for one model folder and the images of one case."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.writers import write_segmentation
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.processing.preprocess import prepare
from LightSegLib.inference.processing.restore import LabelRestorer
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.models.importing import import_model

LABELS = "labels.nii.gz"
EQUAL_VOXELS = 0.9999
EQUAL_SHIPPED = 0.9998  # whatever nnU-Net's own sums in halves do
LOGITS_WITHIN = 1e-3
INPUT_WITHIN = 1e-4


@dataclass(frozen=True)
class Answer:
    """The network's input [C, k, j, i] and its logits [outputs, k, j, i] on the working grid, and the labels."""

    network_input: np.ndarray
    logits: np.ndarray
    labels: sitk.Image
    seconds: float

    def same_grid(self, other: Answer) -> bool:
        """Return whether the labels are on one grid: its corners within what rounding of a NIfTI header makes of them.

        The header holds numbers of 32 bits, which ITK and LightSeg round by different ways.
        """
        size = self.labels.GetSize()
        if other.labels.GetSize() != size:
            return False
        corners = [[int(n) for n in corner] for corner in itertools.product(*((0, count - 1) for count in size))]
        ours, theirs = (
            np.array([image.TransformIndexToPhysicalPoint(corner) for corner in corners])
            for image in (self.labels, other.labels)
        )
        return bool(np.abs(ours - theirs).max() < 1e-4)  # mm

    @property
    def voxels(self) -> np.ndarray:
        return sitk.GetArrayFromImage(self.labels)


@dataclass(frozen=True)
class Comparison:
    """LightSeg beside nnU-Net as shipped (with sums in halves) and with its sums in float32."""

    case: str
    ours: Answer
    shipped: Answer
    exact: Answer

    def check(self) -> None:
        """Raise an AssertionError unless the answers are the same, within what is stated, and not trivial."""
        assert self.ours.same_grid(self.shipped) and self.ours.same_grid(self.exact)
        assert self.ours.logits.shape == self.exact.logits.shape
        assert difference(self.ours.network_input, self.exact.network_input) <= INPUT_WITHIN
        assert difference(self.ours.logits, self.exact.logits) <= LOGITS_WITHIN
        assert equal(self.ours, self.exact) >= EQUAL_VOXELS
        # Where weights of tiles are tiny, at the image's edges, halves round logits to whole numbers: as shipped,
        # nnU-Net may then differ more from itself with sums in float32.
        assert equal(self.ours, self.shipped) >= min(EQUAL_VOXELS, equal(self.exact, self.shipped))
        assert equal(self.ours, self.shipped) >= EQUAL_SHIPPED
        shares = np.bincount(self.exact.voxels.ravel()) / self.exact.voxels.size
        assert np.count_nonzero(shares > 0.01) >= 3, f"the model should find several labels, not {shares}"

    def row(self) -> tuple[str, ...]:
        """Figures for the table, in the order of HEADINGS."""
        return (
            self.case,
            f"{100 * equal(self.ours, self.shipped):.4f}",
            f"{100 * equal(self.ours, self.exact):.4f}",
            f"{difference(self.ours.logits, self.shipped.logits):.1e}",
            f"{difference(self.ours.logits, self.exact.logits):.1e}",
            f"{np.abs(self.exact.logits).max():.0f}",
            f"{difference(self.ours.network_input, self.exact.network_input):.1e}",
            f"{self.shipped.seconds:.1f}",
            f"{self.ours.seconds:.1f}",
        )


HEADINGS = (
    "case",
    "equal voxels, as shipped [%]",
    "equal voxels, float32 [%]",
    "logits differ, as shipped",
    "logits differ, float32",
    "largest logit",
    "network input differs",
    "nnU-Net [s]",
    "LightSeg [s]",
)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference between arrays of one shape; infinite where the shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.abs(ours.astype(np.float64) - theirs).max())


def equal(ours: Answer, theirs: Answer) -> float:
    """Share of equal voxels; 0 where the grids differ."""
    return float((ours.voxels == theirs.voxels).mean()) if ours.same_grid(theirs) else 0.0


class NnUnet:
    """nnU-Net in a process of its own Python, which stays for all cases."""

    def __init__(self, python: Path, log: IO[str]) -> None:
        self._log = log
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("run_nnunet.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
        )

    def answer(
        self, model: Path, folds: Sequence[int], images: Sequence[Path], out: Path, mirror: bool, float32: bool
    ) -> Answer:
        """Run it; raises RuntimeError with its own words if it fails."""
        out.mkdir()
        job = {"model": str(model), "folds": list(folds), "images": [str(image) for image in images], "out": str(out)}
        reply = self._ask(json.dumps(job | {"mirror": mirror, "float32": float32}))
        if "error" in reply:
            raise RuntimeError(f"{reply['error']}\n{Path(self._log.name).read_text(encoding='utf-8')[-2000:]}")
        network_input, logits = (np.load(out / f"{name}.npy") for name in ("preprocessed", "logits"))
        return Answer(network_input, logits, sitk.ReadImage(str(out / LABELS)), reply["seconds"])

    def _ask(self, job: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(job + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):
            return {"error": f"nnU-Net's process ended with exit code {self._process.wait(60)}"}

    def stop(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it may have ended before
            self._process.stdin.close()
        self._process.wait(60)


def lightseg_answer(model: Path, folds: Sequence[int], images: Sequence[Path], out: Path, mirror: bool) -> Answer:
    """What LightSeg makes of the model in a user's model folder of its own, in full precision on the CPU."""
    out.mkdir()
    slabs: list[torch.Tensor] = []
    add = LabelRestorer.add

    def listen(self: LabelRestorer, slab: torch.Tensor) -> None:
        slabs.append(slab.clone())
        add(self, slab)

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LIGHTSEG_MODELS", str(out / "models"))
        patched.setattr(LabelRestorer, "add", listen)
        card = import_model(model, folds=folds)
        started = time.perf_counter()
        volumes = [read_volume(image) for image in images]
        segmenter = Segmenter(card, InferenceOptions(device="cpu", precision="float32", mirror=mirror, openvino=False))
        write_segmentation(segmenter.segment(volumes), out / LABELS)
        seconds = time.perf_counter() - started
    network_input = prepare(volumes, card.preprocessing).array
    return Answer(network_input, torch.cat(slabs, dim=1).numpy(), sitk.ReadImage(str(out / LABELS)), seconds)
