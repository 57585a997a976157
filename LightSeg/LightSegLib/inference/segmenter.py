"""The one way in: a card, volumes in, a segmentation out. The module, the command line and training use it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..catalog.card import Card
from ..catalog.needed import needed_models, place_rule
from ..catalog.sides import right_step
from ..catalog.structures import chosen_labels
from ..core.errors import InputError, ModelError, NothingToAlignError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, ProgressCallback, Reporter, Shares
from ..imaging.geometry import Geometry
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import Segmentation, Volume
from .backends.precisions import FLOAT32
from .composite import CompositeModel
from .contrast import other_contrast
from .fit import check_volumes, input_notices, is_ct
from .options import InferenceOptions
from .provenance import confidence_facts, model_facts, nothing_found, settings_facts
from .single import SingleModel
from .subset import only_wanted

if TYPE_CHECKING:
    from torch import nn

    from .labeling import InferenceResult
    from .processing.outer_resampling import OuterGrid


class Segmenter:
    """Segments volumes with one model; its network is loaded at the first use and kept.

    On the CPU, the same volumes and options give the same voxels on the same machine, whatever the number of
    threads and the free memory.

    Args:
        card: of the model.
        options: how it is run; may be replaced between two runs.
        placed: the volumes show only where the model has to look, so no place is looked for.
    """

    def __init__(self, card: Card, options: InferenceOptions | None = None, placed: bool = False) -> None:
        self.options = options or InferenceOptions()
        self._placed = placed
        self._model = CompositeModel(card, Segmenter) if card.parts else SingleModel(card)
        self._finder: Segmenter | None = None
        self._finder_card: Card | None = None  # as it was found; opening a model may complete it

    @property
    def card(self) -> Card:
        """The model's card; the first use of a model that describes itself completes it."""
        return self._model.card

    @card.setter
    def card(self, card: Card) -> None:
        """Take another card for the same weights; networks that are loaded keep their patch size."""
        self._model.card = card

    def use_network(self, network: nn.Module, identity: str | None = None) -> None:
        """Run this network instead of the card's weights; training validates with it.

        Args:
            network: in evaluation mode.
            identity: SHA-256 of its weights, under which facts about them are kept; None for weights that may change,
                which are computed in float32.
        """
        self._model.use_network(network, identity)

    def backend(self) -> str:
        """Return the backend that the model is computed with on this computer.

        Returns:
            A name of `inference.backends.precisions.BACKENDS`, such as "float32" or "OpenVINO bfloat16".

        Raises:
            DeviceError: for a backend that this computer does not have.
            LightSegError: for a model that cannot be loaded, as `segment`.
        """
        return self._model.backend(self.options)

    def segment(
        self,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None = None,
        progress: ProgressCallback | None = None,
        canceled: CancelCallback | None = None,
    ) -> Segmentation:
        """Segment one volume per channel of the card.

        Where the card has a region and a model that finds it, a larger volume is searched first.

        Args:
            volumes: one per channel of the card, all on one grid.
            roi: box that limits the work; outside of it the result is background.
            progress: called with a `Progress` at every step and tile.
            canceled: called between tiles; the work ends when it returns True.

        Returns:
            Labels on the exact grid of the volumes. The provenance has the notices of the volumes and how each was
                read; with the option confidence, also the slices with the lowest confidence, each as voxel index i, j,
                k and confidence.

        Raises:
            InputError: for volumes that do not fit the card or each other.
            ModelError: for a model that cannot be loaded, or a patch size that its network refuses.
            DeviceError: for memory that the run needs and this machine lacks.
            Canceled: within one tile of `canceled` returning True, or one batch of small tiles with as many voxels as a
                large one.
        """
        segmentation = self._segment_anywhere(volumes, roi, progress, canceled)
        return only_wanted(segmentation, self.card, self.options.structures)

    def _segment_anywhere(
        self,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None,
        progress: ProgressCallback | None,
        canceled: CancelCallback | None,
    ) -> Segmentation:
        """Segment where the place may have to be found; see `segment`."""
        from .finishing import finish
        from .region_size import is_too_large, too_large, too_small

        if self.card.metadata_in_weights:  # then the weights file states what must be checked and prepared
            self._model.load(self.options, progress, canceled)
        check_volumes(self.card, volumes)
        chosen_labels(self.card, self.options.structures)  # refused before anything is computed
        card = self.card
        if roi is None and not self._placed:
            card = replace(card, region_from=place_rule(card, self.options.structures))
        seen = self.options.preprocessing(card), volumes[0].geometry, roi
        if self._placed or not is_too_large(card, *seen):
            result = finish(self.card, self._segment_here(volumes, roi, progress, canceled))
            if not self._placed and (notice := too_small(card, *seen)):
                result.provenance["notices"].append(notice)
            return result
        if card.region_from is not None:
            return self._find_and_segment(card, volumes, roi, progress, canceled)
        if roi is None:
            raise InputError(too_large(card, *seen))
        result = finish(self.card, self._segment_here(volumes, roi, progress, canceled))
        result.provenance["notices"].append(too_large(card, *seen))
        return result

    def _find_and_segment(
        self,
        card: Card,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None,
        progress: ProgressCallback | None,
        canceled: CancelCallback | None,
    ) -> Segmentation:
        """Segment where another model's labels show the places; card: with the rule for this run."""
        from ..models.archived import ensure_all
        from . import finding
        from .finishing import finish
        from .region_size import no_place, no_place_in_ct

        started = time.perf_counter()
        image, steps = volumes[0], self.options.preprocessing(self.card)
        if is_ct(image) and self.card.modality == "MR" and self.card.region_from is not None:
            # A head CT is much like a head, but its labels would be wrong.
            raise InputError(no_place_in_ct(self.card, steps, image, roi))
        if card.parts:
            needed = needed_models(self.card, self.options.structures)
            ensure_all(needed, progress, canceled, self.options.accept_license)
        other = finding.finder_card(card)
        if self._finder is None or self._finder_card != other:
            self._finder, self._finder_card = Segmenter(other), other
        self._finder.options = InferenceOptions(  # in the one form that finds the same place on every processor
            self.options.device, FLOAT32, openvino=False, accept_license=self.options.accept_license
        )
        jobs = max(1, len(card.parts))
        shares = Shares(progress, 1 + jobs)
        try:
            places = finding.find_places(self._finder, card, volumes, roi, shares.of(0), canceled)
        except NothingToAlignError as error:
            raise NothingToAlignError(no_place(error, other, card, steps, image, roi)) from error
        if card.parts:  # of which only one model shall be in memory
            self._finder = None
        each = Shares(shares.of(1, count=jobs), len(places.found))
        results = []
        for number, place in enumerate(places.found):
            seen, notices = finding.in_whole_numbers(volumes, card, place)
            results.append(self._segment_here(seen, place.region, each.of(number), canceled))
            results[-1].provenance["notices"].extend(notices)
        if not results:  # which would have loaded it, and stated what each part did
            self._model.load(self.options, progress, canceled)
        facts = self._model_facts() | {
            "settings": settings_facts(self.options, self.card, roi),
            "seconds": round(time.perf_counter() - started, 3),
        }
        result = finding.joined(card, places, results, volumes[0], facts)
        return finish(self.card, result, None if self.card.region_from is None else places.finder)

    def _segment_here(
        self,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None,
        progress: ProgressCallback | None,
        canceled: CancelCallback | None,
    ) -> Segmentation:
        """Segment where the place is known; see `segment`."""
        from . import finishing
        from .processing.outer_resampling import resample_outside

        started = time.perf_counter()
        Reporter(progress, canceled).step(_("Preparing"))
        outer = resample_outside(volumes, self.options.preprocessing(self.card), roi)
        seen, part = (volumes, roi) if outer is None else (outer.volumes, None)
        computed = self._model.compute(seen, part, self.options, progress, canceled)
        Reporter(progress, canceled).step(_("Restoring"))
        result = computed.result
        steps = finishing.on_model_grid(self.card, self.options.rules(self.card))
        finishing.apply(steps, result.labels, seen[0].geometry, result.confidence)
        if outer is not None:
            result = _restored(result, outer)
            computed.notices.extend(outer.notices)
        split = self._split_sides(result, volumes[0].geometry)
        read = list(dict.fromkeys(notice for volume in volumes for notice in volume.notices))
        notices = read + computed.notices + split + input_notices(self.card, self.options, volumes[0], roi)
        if not result.part.any():
            notices.append(nothing_found())
        provenance = {
            **self._model_facts(),
            **computed.facts,
            "settings": settings_facts(self.options, self.card, roi),
            "seconds": round(time.perf_counter() - started, 3),
            "notices": notices,
        }
        if any(volume.reading for volume in volumes):
            provenance["reading"] = [volume.reading for volume in volumes]
        if steps:
            provenance["postprocessing"] = finishing.facts(steps)
        if result.confidence is not None:
            provenance |= confidence_facts(result.labels, result.confidence)
        segmentation = Segmentation(
            result.labels,
            volumes[0].geometry,
            self.card.result_labels if split else self.options.labels(self.card),
            provenance,
            result.confidence,
            self.card.totals,
        )
        notices.extend(other_contrast(self.card, volumes[0], segmentation))
        return segmentation

    def _split_sides(self, result: InferenceResult, geometry: Geometry) -> list[Message]:
        """Tell left and right apart in labels that hold both, in place; return notices."""
        from .sides import split

        paired = self.card.inference.paired
        if not (self.options.split_sides and paired and result.part.any()):
            return []
        step = right_step(self.card)
        if max(paired) + step > (255 if result.labels.itemsize == 1 else 32767):
            raise ModelError(
                _(
                    "The model '{model}' has too many labels to be split into left and right. "
                    "Switch off the option split_sides."
                ).format(model=self.card.id)
            )
        if split(result.labels, geometry, paired, step) is None:
            return [_("Left and right could not be separated, so each label holds both sides. Check the result.")]
        return []

    def _model_facts(self) -> dict[str, Any]:
        """Return which model computed it."""
        return model_facts(self.card) | self._model.facts()


def _restored(result: InferenceResult, outer: OuterGrid) -> InferenceResult:
    """Return a result for the volumes of an outer grid on the input's grid."""
    labels, part = outer.restored(result.labels)
    if result.confidence is None:
        return replace(result, labels=labels, part=part)
    confidence, confidence_part = outer.restored(result.confidence)
    return replace(result, labels=labels, part=part, confidence=confidence, confidence_part=confidence_part)
