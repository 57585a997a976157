"""A model that consists of others: they run one after the other, and the labels of all become one.

Only one of them is in memory at a time. What is the same for all, such as a resampling or a crop around them, has been
done before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..catalog.card import Card
from ..catalog.needed import check_part, needed_models, parts_of
from ..core.errors import ModelError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, ProgressCallback, Shares
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import Segmentation, Volume
from ..weights.store import WeightStore
from .backends.precisions import FLOAT32
from .fit import unverified_notice
from .options import AS_MODEL, NONE, InferenceOptions
from .other_segmenter import OtherSegmenter
from .provenance import nothing_found
from .single import Computed

if TYPE_CHECKING:
    from torch import nn

SAME = ("device", "processor", "libraries")  # facts that all parts share
NAMED = ("model", "version", "weights_sha256", "citation", "computed_in", "seconds")  # facts of each part


@dataclass(frozen=True)
class _Merged:
    """Labels of all parts so far [k, j, i], and their confidence if it is wanted."""

    labels: np.ndarray
    confidence: np.ndarray | None

    def add(self, found: Segmentation, table: np.ndarray) -> None:
        """Take over the labels of a part, slice by slice; its background changes nothing.

        Where no part has a label, the confidence is that of the part that is least sure of it.

        Args:
            found: by the part.
            table: what the part's values become.
        """
        for k, values in enumerate(found.voxels):
            new, labels = table[values], self.labels[k]
            np.copyto(labels, new, where=new > 0)
            if self.confidence is not None and found.confidence is not None:
                own, all_parts = found.confidence[k], self.confidence[k]
                np.copyto(all_parts, own, where=new > 0)
                np.minimum(all_parts, own, out=all_parts, where=labels == 0)


class CompositeModel:
    """Computes labels with the parts of a model.

    Args:
        card: of the model.
        make: makes the segmenter of a part by its card, its options, and whether its place is found already.
    """

    def __init__(self, card: Card, make: Callable[[Card, InferenceOptions, bool], OtherSegmenter]) -> None:
        self.card = card
        self._make = make
        self._facts: list[dict[str, Any]] = []  # of the parts that ran

    def use_network(self, network: nn.Module, identity: str | None = None) -> None:
        """Refuse a network: there is none.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            _("The model '{title}' consists of other models. Give the network to one of these.").format(
                title=self.card.title
            )
        )

    def facts(self) -> dict[str, Any]:
        """Return which parts ran, and a SHA-256 of those of their weights, for the provenance."""
        hashes = "\n".join(str(part["weights_sha256"]) for part in self._facts)
        return {"weights_sha256": hashlib.sha256(hashes.encode()).hexdigest(), "parts": self._facts}

    def backend(self, options: InferenceOptions) -> str:
        """Return the backend that suits all parts on this computer."""
        backends = {
            self._make(own, _part_options(options), False).backend()
            for _part, own in parts_of(self.card, options.structures)
        }
        return backends.pop() if len(backends) == 1 else FLOAT32

    def load(
        self, options: InferenceOptions, progress: ProgressCallback | None, canceled: CancelCallback | None
    ) -> None:
        """Download the weights that are not here, so that no part fails for want of them after others have run."""
        from ..models.archived import ensure_all

        store = WeightStore()
        parts = [own for _part, own in parts_of(self.card, options.structures)]
        placed = (replace(own, region_from=None) if self._places(own) else own for own in parts)
        needed = {model.id: model for own in placed for model in needed_models(own)}
        ensure_all(needed.values(), progress, canceled, options.accept_license)
        self._facts = [{"model": own.id, "version": own.version, "weights_sha256": store.sha256(own)} for own in parts]

    def compute(
        self,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None,
        options: InferenceOptions,
        progress: ProgressCallback | None,
        canceled: CancelCallback | None,
    ) -> Computed:
        """Return labels on the grid of the volumes; see `Segmenter.segment`."""
        from .labeling import InferenceResult

        self.load(options, progress, canceled)
        parts = parts_of(self.card, options.structures)
        volumes = [replace(volume, notices=()) for volume in volumes]  # which are reported once for all parts
        merged = self._blank(volumes[0], options)
        self._facts = []
        notices: dict[Message, None] = {}
        shared: dict[str, Any] = {}
        shares = Shares(progress, len(parts))
        for number, (part, own) in enumerate(parts):
            report = shares.of(number, _part_named(number + 1, len(parts)))
            segmenter = self._make(own, _part_options(options), self._places(own))
            found = segmenter.segment(volumes, roi, report, canceled)
            check_part(self.card, part, segmenter.card)  # as its weights state it
            del segmenter  # with its network, before the next is read
            merged.add(found, np.array((0, *part.labels), merged.labels.dtype))
            facts = found.provenance
            self._facts.append({name: facts[name] for name in NAMED})
            shared = {name: facts[name] for name in SAME} | {
                "memory_estimate_mb": max(facts["memory_estimate_mb"], shared.get("memory_estimate_mb", 0))
            }
            of_all = (nothing_found(), unverified_notice(own) if self.card.unverified else "")  # once for all parts
            notices |= dict.fromkeys(notice for notice in facts["notices"] if notice not in of_all)
        forms = dict.fromkeys(part["computed_in"] for part in self._facts)
        used = (slice(None),) * 3 if roi is None else roi.slices(volumes[0].geometry)
        confidence = merged.confidence
        result = InferenceResult(
            merged.labels, merged.labels[used], confidence, None if confidence is None else confidence[used]
        )
        return Computed(result, shared | {"computed_in": ", ".join(forms)}, list(notices))

    def _blank(self, volume: Volume, options: InferenceOptions) -> _Merged:
        """Return labels of no part yet."""
        largest = max(label.value for label in self.card.labels + options.labels(self.card))
        labels = np.zeros(volume.geometry.shape, np.uint8 if largest <= 255 else np.uint16)
        return _Merged(labels, np.full(labels.shape, 100, np.uint8) if options.confidence else None)

    def _places(self, own: Card) -> bool:
        """Return whether the place of a part has been found for all parts."""
        return own.region_from is not None and own.region_from == self.card.region_from


def _part_options(options: InferenceOptions) -> InferenceOptions:
    """Return the options for a part: what changes labels is done afterwards, on those of all."""
    pieces = NONE if options.largest_component == NONE else AS_MODEL
    return replace(options, largest_component=pieces, split_sides=False, structures=())


def _part_named(number: int, count: int) -> Callable[[Message], Message]:
    """Return what names a step of a part."""
    return lambda step: _("Part {number} of {count}: {step}").format(number=number, count=count, step=step)
