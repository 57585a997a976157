"""LightSeg's answer beside TotalSegmentator's own program, for one task and one image."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from comparison import EQUAL_VOXELS, same_grid
from LightSegLib.catalog.card import Card, Weights
from LightSegLib.catalog.card_file import read_card, write_card
from LightSegLib.catalog.lookup import CARD_NAME, find_card
from LightSegLib.core.file_hash import sha256
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.writers import write_segmentation
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.nnunet.plans import complete
from LightSegLib.nnunet.results import read_results
from LightSegLib.weights.checkpoint import write_slim
from peer import Peer
from random_models import Described, write_random_model

HEADINGS = (
    "case",
    "equal voxels, float32 [%]",
    "equal voxels, as shipped [%]",
    "the program's two runs [%]",
    "labels",
    "background [%]",
    "TotalSegmentator [s]",
    "LightSeg [s]",
)
MR = {"normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False]}


@dataclass(frozen=True)
class Case:
    """What both programs segment.

    Attributes:
        name: for the table.
        card: LightSeg's.
        image: the file.
        task: of the program.
        options: of its Python function.
        ours: LightSeg's options.
    """

    name: str
    card: Card
    image: Path
    task: str
    options: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SideBySide:
    """Labels of LightSeg, and of the program with sums in float32 and as shipped."""

    case: str
    ours: sitk.Image
    exact: sitk.Image
    shipped: sitk.Image
    seconds: tuple[float, float]  # of the program as shipped, of LightSeg

    def check(self, labels: int = 3, share: float = 0.02) -> None:
        """Raise an AssertionError unless the answers are the same and not trivial.

        Args:
            labels: how many the program found at least, with the background more than this.
            share: of the voxels that it labeled at least.
        """
        assert same_grid(self.ours, self.exact)
        assert equal(self.ours, self.exact) >= EQUAL_VOXELS
        found = sitk.GetArrayFromImage(self.exact)
        assert len(np.unique(found)) > labels and (found > 0).mean() > share, "nothing to compare"

    def row(self) -> tuple[str, ...]:
        """Figures for the table, in the order of HEADINGS."""
        found = sitk.GetArrayFromImage(self.exact)
        return (
            self.case,
            *(f"{100 * equal(self.ours, other):.4f}" for other in (self.exact, self.shipped)),
            f"{100 * equal(self.exact, self.shipped):.4f}",
            str(np.count_nonzero(np.unique(found))),
            f"{100 * (found == 0).mean():.0f}",
            *(f"{seconds:.1f}" for seconds in self.seconds),
        )


def equal(ours: sitk.Image, theirs: sitk.Image) -> float:
    """Share of equal voxels; 0 where the sizes differ."""
    if ours.GetSize() != theirs.GetSize():
        return 0.0
    return float((sitk.GetArrayFromImage(ours) == sitk.GetArrayFromImage(theirs)).mean())


class TotalSegmentator:
    """The program, its folder of weights, and LightSeg's folder of the same models."""

    def __init__(self, peer: Peer, weights: Path, models: Path) -> None:
        self._peer, self._weights, self._models = peer, weights, models
        self._made: dict[str, Path] = {}  # for which image, by the catalog's id

    def make(self, identifier: str, sample: Path, small: Sequence[str] = (), **changes: Any) -> Card:
        """Return a card of the catalog whose weights are random, for both programs; so are those that it needs.

        Args:
            identifier: of the catalog's card; the result has another.
            sample: an image in which every label occurs.
            small: labels that are in small parts of it.
            changes: to the configuration of the plans.
        """
        shipped = find_card(identifier)
        card = replace(shipped, id=f"random-{identifier}")
        for name in ("region_from", "rough"):
            if (rule := getattr(shipped, name)) is not None:
                finder = self.make(rule.model, sample, small, **changes)
                card = replace(card, **{name: replace(rule, model=finder.id)})  # type: ignore[arg-type]
        if shipped.parts:
            parts = [replace(part, model=self.make(part.model, sample, small, **changes).id) for part in shipped.parts]
            card = replace(card, parts=tuple(parts))
        folder = self._models / card.id
        if self._made.get(identifier) != sample:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            if not shipped.parts:
                card = self._with_weights(card, folder, (sample, small), changes)
            write_card(card, folder / CARD_NAME)
            self._made[identifier] = sample
        return read_card(folder / CARD_NAME)

    def _with_weights(
        self, card: Card, folder: Path, image: tuple[Path, Sequence[str]], changes: dict[str, Any]
    ) -> Card:
        """Return a card with random weights in its folder and, with all that they say, in the program's."""
        assert card.weights.archive is not None
        model = self._weights / card.weights.archive.folder
        number = int(model.parent.name.removeprefix("Dataset").split("_")[0])
        known = Described(**self._peer.ask({"describe": number}))
        shutil.rmtree(model.parent, ignore_errors=True)
        changes = (MR if card.modality == "MR" else {}) | changes
        sample, small = image
        written = write_random_model(self._weights, known, read_volume(sample), small, seed=number, **changes)
        assert written == model, "the catalog has another folder than the program"
        checkpoint = read_results(model, []).checkpoint
        file = folder / "weights.pt"
        write_slim(checkpoint, file)
        weights = Weights(file.name, file.stat().st_size, sha256(file))
        return replace(complete(card, checkpoint), weights=weights, metadata_in_weights=False, kept=())

    @contextmanager
    def _own_models(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("LIGHTSEG_MODELS", str(self._models))
            yield

    def compare(self, case: Case, out: Path) -> SideBySide:
        """Segment an image with both programs, whose labels go to a new folder."""
        out.mkdir()
        job = {"task": case.task, "image": str(case.image), "options": case.options}
        files = {name: out / f"{name}.nii.gz" for name in ("ours", "exact", "shipped")}
        theirs = [
            self._peer.ask({**job, "out": str(files[name]), "float32": name == "exact"})["seconds"]
            for name in ("exact", "shipped")
        ]
        with self._own_models():
            started = time.perf_counter()
            options = InferenceOptions("cpu", "float32", openvino=False, **case.ours)
            write_segmentation(Segmenter(case.card, options).segment([read_volume(case.image)]), files["ours"])
            seconds = time.perf_counter() - started
        labels = {name: sitk.ReadImage(str(file)) for name, file in files.items()}
        return SideBySide(case.name, **labels, seconds=(theirs[1], seconds))
