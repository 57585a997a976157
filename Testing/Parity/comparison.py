"""LightSeg's answer beside nnU-Net's, for one model folder and the images of one case."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
from peer import Peer

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
        """Return whether the labels are on one grid."""
        return same_grid(self.labels, other.labels)

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


def same_grid(ours: sitk.Image, theirs: sitk.Image) -> bool:
    """Return whether images are on one grid: its corners within what rounding of a NIfTI header makes of them.

    The header holds numbers of 32 bits, which ITK and LightSeg round by different ways.
    """
    size = ours.GetSize()
    if theirs.GetSize() != size:
        return False
    corners = [[int(n) for n in corner] for corner in itertools.product(*((0, count - 1) for count in size))]
    ends = [np.array([image.TransformIndexToPhysicalPoint(corner) for corner in corners]) for image in (ours, theirs)]
    return bool(np.abs(ends[0] - ends[1]).max() < 1e-4)  # mm


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

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def answer(
        self, model: Path, folds: Sequence[int], images: Sequence[Path], out: Path, mirror: bool, float32: bool
    ) -> Answer:
        """Run it; raises RuntimeError with its own words if it fails."""
        out.mkdir()
        job = {"model": str(model), "folds": list(folds), "images": [str(image) for image in images], "out": str(out)}
        reply = self._peer.ask(job | {"mirror": mirror, "float32": float32})
        network_input, logits = (np.load(out / f"{name}.npy") for name in ("preprocessed", "logits"))
        return Answer(network_input, logits, sitk.ReadImage(str(out / LABELS)), reply["seconds"])


def lightseg_answer(
    model: Path,
    folds: Sequence[int],
    images: Sequence[Path],
    out: Path,
    mirror: bool = False,
    orientation: str | None = None,
) -> Answer:
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
        card = import_model(model, folds=folds, orientation=orientation)
        started = time.perf_counter()
        volumes = [read_volume(image) for image in images]
        segmenter = Segmenter(card, InferenceOptions(device="cpu", precision="float32", mirror=mirror, openvino=False))
        write_segmentation(segmenter.segment(volumes), out / LABELS)
        seconds = time.perf_counter() - started
    network_input = prepare(volumes, card.preprocessing).array
    return Answer(network_input, torch.cat(slabs, dim=1).numpy(), sitk.ReadImage(str(out / LABELS)), seconds)
