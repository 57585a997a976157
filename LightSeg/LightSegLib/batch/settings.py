"""What all cases of a batch have in common: the model, the settings and the place of the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..catalog.card import Card
from ..catalog.card_file import card_to_dict
from ..catalog.lookup import as_shipped
from ..catalog.needed import finder_of, parts_of
from ..inference.options import AS_MODEL, InferenceOptions
from ..weights.store import WeightStore

DICOM = "dicom"
FORMATS = ("seg.nrrd", "nrrd", "nii.gz", DICOM)


@dataclass(frozen=True)
class Settings:
    """How every case of a batch is segmented and written.

    Attributes:
        format: of the segmentations; picture: draw one of each case.
        allow_gaps: interpolate where slices of a DICOM series are missing.
        reproducible_uids: give equal DICOM segmentations the same UIDs.
        roi: corners, in LPS mm, of the region that limits the work in every case.
    """

    options: InferenceOptions = field(default_factory=InferenceOptions)
    format: str = FORMATS[0]
    picture: bool = True
    allow_gaps: bool = False
    reproducible_uids: bool = False
    roi: list[list[float]] | None = None

    @property
    def ending(self) -> str:
        """Ending of the segmentations' names, without the dot."""
        return "dcm" if self.format == DICOM else self.format

    def sha256(self) -> str:
        """Return the SHA-256 of everything that the results depend on.

        Device and OpenVINO do not count: another computer may continue the batch.

        It is written down in folders of results, so what it is made of keeps its names and values.
        """
        options = self.options
        fixed: dict[str, object] = {
            "precision": options.precision,
            "mirror": options.mirror,
            "largest_component": None if options.largest_component == AS_MODEL else options.largest_component,
            "format": self.format,
            "picture": self.picture,
        }
        if options.tile_overlap is not None:
            fixed["tile_overlap"] = options.tile_overlap
        if not options.split_sides:
            fixed["split_sides"] = False
        if self.allow_gaps:
            fixed["allow_gaps"] = True
        if self.reproducible_uids:
            fixed["reproducible_uids"] = True
        if self.roi is not None:
            fixed["roi"] = self.roi
        if options.orientation is not None:
            fixed["orientation"] = options.orientation
        if options.outer_resampling != AS_MODEL:
            fixed["outer_resampling"] = options.outer_resampling
        if options.structures:
            fixed["structures"] = list(options.structures)
        return _hash(fixed)


@dataclass(frozen=True)
class Batch:
    """A batch as its workers know it: model, settings and folder of results.

    Attributes:
        model: as `resolved` calls it.
        out: folder of the results.
        run: identifies this run, to distinguish its cases from earlier ones.
        backend: in which all cases are computed, once that is decided (see `inference.backends.backend_choice`).
    """

    model: str
    model_sha256: str
    out: Path
    settings: Settings
    run: str = ""
    backend: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the batch as a JSON object."""
        return asdict(self) | {"out": str(self.out)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Batch:
        """Return the batch of a JSON object that `to_json` made."""
        settings = data["settings"]
        settings = Settings(**settings | {"options": InferenceOptions.from_json(settings["options"])})
        return cls(data["model"], data["model_sha256"], Path(data["out"]), settings, data["run"], data["backend"])


def model_sha256(card: Card, structures: Iterable[str] = ()) -> str:
    """Return the SHA-256 of a card and its weights, which are on this computer already, and of all models it needs.

    Args:
        card: of the model.
        structures: that are wanted, for which other models may be needed.

    Raises:
        ModelError: if a model that it needs is not here.
        InputError: for structures that the model does not have.
    """
    facts: dict[str, Any] = {"card": card_to_dict(as_shipped(card)), "weights": WeightStore().sha256(card)}
    if finder := finder_of(card, structures):
        facts["finder"] = model_sha256(finder)
    if parts := parts_of(card, structures):
        facts["parts"] = [model_sha256(own) for _part, own in parts]
    return _hash(facts)


def _hash(value: object) -> str:
    """Return the SHA-256 of a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
