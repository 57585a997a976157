"""The one way in: a card, volumes in, a segmentation out. The module, the command line and training use it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..catalog.card import Card
from ..catalog.channels import OTHER_MODALITY
from ..catalog.sides import right_step
from ..core.errors import DeviceError, InputError, ModelError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, ProgressCallback, Reporter
from ..imaging.geometry import Geometry
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import Segmentation, Volume, check_voxels
from .backends.precisions import FLOAT16, FLOAT32
from .options import AS_STORED, NONE, InferenceOptions
from .provenance import confidence_facts, model_facts, nothing_found, settings_facts

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .alignment.template import Template
    from .backends.accelerate import Model, Runner
    from .labeling import InferenceResult
    from .plan import ExecutionPlan
    from .processing.outer_resampling import OuterGrid
    from .processing.preprocess import NetworkInput
    from .sliding_window import TileSampler
    from .whole_image import WholeImage

UNSIGNED = ("percentile", "minmax")  # normalizations to the range from 0 to 1
HIPPODEEP = "hippodeep"  # the family of networks that takes an image in a way of its own
HOUNSFIELD = -500  # a voxel below is CT's air or fat next to it; MR has magnitudes
MOST_SEARCHES = 4  # side by side; more are not worth their memory
AXIAL = (0, 1, 2)  # order of the array axes in an image that is stored as axial slices


@dataclass(frozen=True)
class _Run:
    """The result of a run, and how it was computed."""

    result: InferenceResult
    plan: ExecutionPlan
    backend: str
    needed: int
    notices: list[Message]


class Segmenter:
    """Segments volumes with one model; its network is loaded at the first use and kept.

    On the CPU, the same volumes and options give the same voxels on the same machine, whatever the number of
    threads and the free memory.

    Args:
        card: of the model.
        options: how it is run; may be replaced between two runs.
    """

    def __init__(self, card: Card, options: InferenceOptions | None = None) -> None:
        self.card = card
        self.options = options or InferenceOptions()
        self._weights_sha256 = card.weights.sha256
        self._networks: tuple[nn.Module, ...] = ()
        self._template: Template | None = None
        self._identity: str | None = None  # under which facts about these weights are kept
        self._one_pass: dict[tuple[int, int, int], int] = {}  # bytes, by patch
        self._runners: dict[tuple[object, ...], Runner] = {}
        self._finder: Segmenter | None = None
        self._finder_card: Card | None = None  # as it was found; opening a model may complete it

    def use_network(self, network: nn.Module) -> None:
        """Run this network instead of the card's weights; training validates with it."""
        self._networks, self._identity = (network,), None
        self._runners.clear()
        self._one_pass.clear()

    def backend(self) -> str:
        """Return the backend that the model is computed with on this computer.

        Returns:
            A name of `inference.backends.precisions.BACKENDS`, such as "float32" or "OpenVINO bfloat16".

        Raises:
            DeviceError: for a backend that this computer does not have.
            LightSegError: for a model that cannot be loaded, as `segment`.
        """
        from .backends.devices import choose_device
        from .threads import one_thread_each

        with one_thread_each():
            self._load(None, None)
            return self._backend(choose_device(self.options.device))

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
        from .finding import is_too_large

        started = time.perf_counter()
        if self.card.metadata_in_weights:  # then the weights file states what must be checked and prepared
            self._load(progress, canceled)
        self._check(volumes)
        if not is_too_large(self.card, self.options.preprocessing(self.card), volumes[0].geometry, roi):
            return self._segment_here(volumes, roi, progress, canceled)
        if self.card.region_from is not None:
            return self._find_and_segment(volumes, roi, progress, canceled, started)
        if roi is None:
            raise InputError(self._too_large())
        result = self._segment_here(volumes, roi, progress, canceled)
        result.provenance["notices"].append(self._too_large())
        return result

    def _too_large(self) -> Message:
        """Return what to say of an image or a region that is larger than the model was made for."""
        return _(
            "This model was made for a region of {size} mm, so the result is probably wrong. "
            "Set a region of interest around the structure."
        ).format(size=" x ".join(f"{mm:.4g}" for mm in self.card.roi_mm or ()))

    def _find_and_segment(
        self,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None,
        progress: ProgressCallback | None,
        canceled: CancelCallback | None,
        started: float,
    ) -> Segmentation:
        """Where another model's labels show the places."""
        from . import finding

        image = volumes[0]
        if self.card.modality == "MR" and (
            image.reading.get("modality") == "CT" or image.voxels.min() < HOUNSFIELD
        ):  # a head CT is much like a head, but its labels would be wrong
            raise InputError(
                _(
                    "{volume} is a CT by its attributes or its values, in which '{title}' cannot find its place. "
                    "Choose an MR image, or set a region of interest around the structure."
                ).format(volume=image.name, title=self.card.title)
            )
        card = finding.finder_card(self.card)
        if self._finder is None or self._finder_card != card:
            self._finder, self._finder_card = Segmenter(card), card
        self._finder.options = InferenceOptions(  # in the one form that finds the same place on every processor
            self.options.device, FLOAT32, openvino=False, accept_license=self.options.accept_license
        )
        places = finding.find_places(self._finder, self.card, volumes, roi, progress, canceled)
        results = [self._segment_here(volumes, place.region, progress, canceled) for place in places.found]
        self._load(progress, canceled)  # where there was no place
        facts = self._model_facts() | {
            "settings": settings_facts(self.options, self.card, roi),
            "seconds": round(time.perf_counter() - started, 3),
        }
        return finding.joined(self.card, places, results, volumes[0], facts)

    def _segment_here(
        self,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None,
        progress: ProgressCallback | None,
        canceled: CancelCallback | None,
    ) -> Segmentation:
        from .threads import one_thread_each

        with one_thread_each() as threads:
            return self._segment(volumes, roi, progress, canceled, threads)

    def _segment(
        self,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None,
        progress: ProgressCallback | None,
        canceled: CancelCallback | None,
        threads: int,
    ) -> Segmentation:
        """Segment with a given number of threads; see `segment`."""
        from .processing.outer_resampling import resample_outside
        from .processing.restore import keep_largest_component
        from .whole_image import WholeImage

        started = time.perf_counter()
        reporter = Reporter(progress, canceled)
        reporter.step(_("Preparing"))
        outer = resample_outside(volumes, self.options.preprocessing(self.card), roi)
        if outer is None:
            prepared = self._prepare(volumes, roi, reporter, threads)
        else:
            prepared = self._prepare(outer.volumes, None, reporter, threads)
        reporter.step(_("Loading model"))
        self._load(progress, canceled)
        if isinstance(prepared, WholeImage):
            run = self._run_whole(prepared, reporter, threads)
        else:
            run = self._run(prepared, reporter, threads)
        reporter.step(_("Restoring"))
        result = run.result
        largest = self.options.rules(self.card).largest_component
        if largest != NONE:
            kept = keep_largest_component(result.part, largest)
            if result.confidence_part is not None:  # what is removed is background, as far as its label was wrong
                removed = kept != result.part
                result.confidence_part[removed] = 100 - result.confidence_part[removed]
            result.part[...] = kept
        if outer is not None:
            result = _restored(result, outer)
            run.notices.extend(outer.notices)
        split = self._split_sides(result, volumes[0].geometry)
        read = list(dict.fromkeys(notice for volume in volumes for notice in volume.notices))
        notices = read + run.notices + prepared.notices + split + self._notices(volumes[0], roi)
        if not result.part.any():
            notices.append(nothing_found())
        provenance = self._provenance(run, roi, notices, time.perf_counter() - started) | prepared.facts
        if any(volume.reading for volume in volumes):
            provenance["reading"] = [volume.reading for volume in volumes]
        if result.confidence is not None:
            provenance |= confidence_facts(result.labels, result.confidence)
        return Segmentation(
            result.labels,
            volumes[0].geometry,
            self.card.labels if split else self.options.labels(self.card),
            provenance,
            result.confidence,
            self.card.totals,
        )

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

    def _prepare(
        self, volumes: Sequence[Volume], roi: RegionOfInterest | None, reporter: Reporter, threads: int
    ) -> NetworkInput | WholeImage:
        """Return the network's input of the volumes."""
        from .alignment.align import align
        from .alignment.template import open_template
        from .processing.preprocess import prepare
        from .threads import pool

        if self._sees_whole_image():
            return self._whole_image(volumes[0], roi)
        steps = self.options.preprocessing(self.card)
        rules = steps.alignment
        if rules is None:
            return prepare(volumes, steps, roi)
        if self._template is None:
            self._template = open_template(self.card)
        reporter.step(_("Finding the {subject}").format(subject=rules.subject))
        with pool(min(threads, MOST_SEARCHES)) as workers:
            return align(volumes, steps, self._template, roi, reporter.check_canceled, workers)

    def _sees_whole_image(self) -> bool:
        """Return whether the model takes an image in a way of its own, without tiles."""
        return self.card.preprocessing.conform or self.card.network == HIPPODEEP

    def _whole_image(self, volume: Volume, roi: RegionOfInterest | None) -> WholeImage:
        """Return a volume as such a model takes it.

        Raises:
            InputError: if the volume cannot be what the model takes.
        """
        from .conformed import conform
        from .hippodeep import HippoDeepImage

        if doubt := self._other_modality(volume):
            raise InputError(doubt)
        if self.card.network == HIPPODEEP:
            return HippoDeepImage.of(volume, roi)
        return conform(volume, self.card.preprocessing, roi)

    def _run_whole(self, image: WholeImage, reporter: Reporter, threads: int) -> _Run:
        """Return labels of such a model."""
        from .whole_image import run_whole_image

        rules = self.options.rules(self.card)
        run = run_whole_image(image, self._networks[0], rules, self.options, reporter, threads)
        return _Run(run.result, run.plan, run.backend, run.needed, run.notices)

    def _check(self, volumes: Sequence[Volume]) -> None:
        """Check that the volumes fit the card.

        Raises:
            InputError: if they do not.
        """
        wanted = self.card.channels
        if len(volumes) != len(wanted):
            wrong = _("The model '{model}' needs a single volume ({channels}), but got {given}. Give one volume.")
            if len(wanted) > 1:
                wrong = _(
                    "The model '{model}' needs {count} volumes, one per channel ({channels}), but got {given}. "
                    "Give one volume per channel, in this order."
                )
            raise InputError(
                wrong.format(model=self.card.title, count=len(wanted), channels=", ".join(wanted), given=len(volumes))
            )
        for volume in volumes:
            check_voxels(volume.voxels, volume.name)
            if not volume.geometry.matches(volumes[0].geometry):
                raise InputError(
                    _(
                        "{volume} and {other} do not have the same grid. "
                        "Resample {volume} to the grid of {other} first."
                    ).format(volume=volume.name, other=volumes[0].name)
                )

    def _notices(self, volume: Volume, roi: RegionOfInterest | None) -> list[Message]:
        """Return notices about what may spoil the result with this input."""
        from .processing.orientation import orientation_steps

        card = self.card
        notices: list[Message] = []
        if card.unverified:
            notices.append(
                _(
                    "This model is unverified because some of its properties are not known: "
                    "check the result. 'lightseg info {model}' lists what is not known."
                ).format(model=card.id)
            )
        as_stored = self.options.preprocessing(card).orientation == AS_STORED
        if as_stored and orientation_steps(volume.geometry, "LPS")[0] != AXIAL:
            notices.append(
                _(
                    "{volume} is not stored as axial slices, "
                    "and this model uses images as they are stored. "
                    "The result is probably wrong unless the model was trained on such slices; "
                    "the option --orientation LPS reorients the image."
                ).format(volume=volume.name)
            )
        if doubt := self._other_modality(volume):
            notices.append(doubt)
        of_image = any(rule.method not in ("ct", "none") for rule in card.preprocessing.normalization)
        if roi is not None and of_image and card.roi_mm is None and card.region_from is None:
            notices.append(
                _(
                    "The intensities were normalized within the region of interest, "
                    "but the model was trained on whole images. If the result is poor, "
                    "choose a larger region or none."
                )
            )
        return notices

    def _other_modality(self, volume: Volume) -> Message | None:
        """Return what speaks for another modality than the model's; None if nothing does."""
        card = self.card
        stated = volume.reading.get("modality", card.modality)
        if stated != card.modality and OTHER_MODALITY not in (stated, card.modality):
            return _(
                "{volume} is {stated} according to its DICOM attributes, "
                "but this model was made for {needed}. The result is probably wrong: "
                "choose a model for {stated}."
            ).format(volume=volume.name, stated=stated, needed=card.modality)
        if card.modality == "MR" and volume.voxels.min() < HOUNSFIELD:
            return _(
                "{volume} has voxels far below 0, as a CT in Hounsfield units has, "
                "but this model was made for MR. The result is probably wrong unless it is an MR image."
            ).format(volume=volume.name)
        return None

    def _load(self, progress: ProgressCallback | None, canceled: CancelCallback | None) -> None:
        """Load the networks, once."""
        if not self._networks:
            from ..models.opening import open_model

            opened = open_model(self.card, progress, canceled, self.options.accept_license)
            self.card, self._networks, self._weights_sha256 = opened.card, opened.networks, opened.sha256
            self._identity = opened.sha256

    def _run(self, prepared: NetworkInput, reporter: Reporter, threads: int) -> _Run:
        """Return labels by the first plan that fits in memory; if it runs out all the same, by the next."""
        from ..core.system import gigabytes
        from .backends.devices import choose_device, is_out_of_memory, is_unsupported
        from .labeling import label
        from .memory import activation_memory, available_memory
        from .plan import Workload, bytes_needed, execution_plans, make_sampler

        rules, precision = self.options.rules(self.card), self.options.precision
        sampler = make_sampler(prepared, rules)
        device = choose_device(self.options.device)
        ways = execution_plans(device, sampler, threads, batches=device.type == "cuda" and precision != FLOAT32)
        if precision == FLOAT16:  # in which only the device itself computes
            ways = [way for way in ways if way.device == device]
        sums = bool(rules.mirror_axes) + (len(self._networks) > 1)
        try:
            if sampler.patch not in self._one_pass:
                shape = (1, len(self.card.channels), *sampler.patch)
                aligned = self.card.preprocessing.alignment is not None
                self._one_pass[sampler.patch] = activation_memory(self._networks[0], shape, whole=aligned)
            one_pass = self._one_pass[sampler.patch]
            work = Workload(self.card.outputs, self.options.confidence, one_pass, sums, self.card.unnamed_outputs)
        except ValueError as error:  # how the networks refuse a size
            raise ModelError(
                _(
                    "The patch size of '{model}' does not fit its network ({reason}). "
                    "Correct inference.patch_size in the model's card."
                ).format(model=self.card.id, reason=str(error).rstrip("."))
            ) from error
        notices: list[Message] = []
        shortage: Message | None = None
        while ways:
            plan = ways.pop(0)
            needed = bytes_needed(plan, work, prepared, sampler)
            free = available_memory(plan.device)
            if free is not None and needed > free:
                shortage = _("about {needed} are needed, {free} are free")
                shortage = shortage.format(needed=gigabytes(needed), free=gigabytes(free))
                continue
            reporter.step(_("Segmenting (needs about {memory} of memory)").format(memory=gigabytes(needed)))
            try:
                runner = self._runner(plan.device, sampler, threads)
                result = label(prepared, rules, work, runner, plan, reporter)
            except (RuntimeError, MemoryError) as error:
                if is_out_of_memory(error):
                    shortage = _("{size} were not enough").format(size=gigabytes(needed))
                elif plan.device.type != "cpu" and is_unsupported(error):
                    notices.append(
                        _(
                            "This build of PyTorch does not support an operation on {device}; the CPU was used instead."
                        ).format(device=plan.device)
                    )
                    ways = [way for way in ways if way.device != plan.device]
                else:
                    raise
            else:
                if shortage and (plan.tiles <= threads / 2 or plan.sums != "device" or plan.device != device):
                    notices.append(
                        _("Memory was short ({shortage}), so a slower method was used: {method}.").format(
                            shortage=shortage, method=plan.description
                        )
                    )
                return _Run(result, plan, runner.backend, needed, notices)
        raise DeviceError(
            _(
                "This computer has too little memory for this volume ({shortage}). "
                "Close other programs or choose a smaller region of interest."
            ).format(shortage=shortage)
        )

    def _runner(self, device: torch.device, sampler: TileSampler, threads: int) -> Runner:
        """Return the runner of tiles on a device; it is made once."""
        from .backends.accelerate import accelerate

        key = (device, threads, sampler.patch, self.options.precision, self.options.openvino)
        if key not in self._runners:
            backend = self._backend(device)
            self._runners.clear()  # no two backends of a network are in memory together
            self._runners[key] = accelerate(self._model(), device, backend, sampler.patch, threads)
        return self._runners[key]

    def _backend(self, device: torch.device) -> str:
        """Return the backend for a device."""
        from .backends.accelerate import choose_backend
        from .whole_image import whole_image_backend

        if self._sees_whole_image():
            return whole_image_backend(self.options, device)
        return choose_backend(self._model(), device, self.options.precision, self.options.openvino)

    def _model(self) -> Model:
        """Return what the backends need to know about the model."""
        from .backends.accelerate import Model

        card = self.card
        return Model(
            self._networks,
            len(card.channels),
            card.inference.patch_size,
            # A network that fits distributions to its input, as for aligned images, needs the digits of float32.
            None if card.preprocessing.alignment else self._identity,
            signed=all(rule.method not in UNSIGNED for rule in card.preprocessing.normalization),
            regions=bool(card.inference.regions),
        )

    def _provenance(
        self, run: _Run, roi: RegionOfInterest | None, notices: list[Message], seconds: float
    ) -> dict[str, Any]:
        """Return how the result came about, as it is saved with it."""
        from .backends import backend_choice

        return {
            **self._model_facts(),
            "device": str(run.plan.device),
            "computed_in": run.backend,
            "processor": backend_choice.processor(run.plan.device),
            "libraries": backend_choice.libraries(),
            "memory_estimate_mb": round(run.needed / 1e6),
            "settings": settings_facts(self.options, self.card, roi),
            "seconds": round(seconds, 3),
            "notices": notices,
        }

    def _model_facts(self) -> dict[str, Any]:
        return model_facts(self.card, self._weights_sha256)


def _restored(result: InferenceResult, outer: OuterGrid) -> InferenceResult:
    """Return a result for the volumes of an outer grid on the input's grid."""
    labels, part = outer.restored(result.part)
    if result.confidence_part is None:
        return replace(result, labels=labels, part=part)
    confidence, confidence_part = outer.restored(result.confidence_part)
    return replace(result, labels=labels, part=part, confidence=confidence, confidence_part=confidence_part)
