"""A model with a network of its own: from volumes to labels on their grid, before what follows the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..catalog.card import Card
from ..core.errors import DeviceError, InputError, ModelError, NothingToAlignError
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, ProgressCallback, Reporter
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import Volume
from .backends.precisions import FLOAT16, FLOAT32, INT8, OPENVINO8
from .expected_dice import doubts, expected_dice, expected_dice_facts
from .fit import likely_cause, other_modality
from .options import InferenceOptions

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .alignment.template import Template
    from .backends.accelerate import Runner
    from .labeling import InferenceResult, Network
    from .loaded_networks import LoadedNetworks
    from .plan import ExecutionPlan
    from .processing.preprocess import NetworkInput
    from .whole_image import WholeImage

HIPPODEEP = "hippodeep"  # the family of networks that takes an image in a way of its own
MOST_SEARCHES = 4  # side by side; more are not worth their memory


@dataclass(frozen=True)
class Computed:
    """Labels of a model, before the steps that follow its network.

    Attributes:
        result: the labels.
        facts: how they were computed, for the provenance.
        notices: what the user should know about that.
    """

    result: InferenceResult
    facts: dict[str, Any]
    notices: list[Message]


@dataclass(frozen=True)
class _Run:
    """The result of a run, and how it was computed."""

    result: InferenceResult
    plan: ExecutionPlan
    backend: str
    needed: int
    notices: list[Message]
    facts: dict[str, Any] = field(default_factory=dict)


class SingleModel:
    """Computes labels with one model's network, which is loaded at the first use and kept.

    Args:
        card: of the model; opening it may complete it.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self._weights_sha256 = card.weights.sha256
        self._loaded: LoadedNetworks | None = None
        self._template: Template | None = None

    def use_network(self, network: nn.Module, identity: str | None = None) -> None:
        """Run this network instead of the card's weights; see `Segmenter.use_network`."""
        from .loaded_networks import LoadedNetworks

        self._loaded = LoadedNetworks(self.card, (network,), identity)

    def facts(self) -> dict[str, Any]:
        """Return which weights computed, for the provenance."""
        return {"weights_sha256": self._weights_sha256}

    def backend(self, options: InferenceOptions) -> str:
        """Return the backend that the model is computed with on this computer."""
        from .backends.devices import choose_device
        from .threads import one_thread_each
        from .whole_image import whole_image_backend

        with one_thread_each():
            loaded = self.load(options, None, None)
            if self._sees_whole_image():
                return whole_image_backend(options, choose_device(options.device))
            return loaded.backend(choose_device(options.device), options)

    def load(
        self, options: InferenceOptions, progress: ProgressCallback | None, canceled: CancelCallback | None
    ) -> LoadedNetworks:
        """Return the networks, which are loaded once."""
        if self._loaded is None:
            from ..models.opening import open_model
            from .loaded_networks import LoadedNetworks

            opened = open_model(self.card, progress, canceled, options.accept_license)
            self.card, self._weights_sha256 = opened.card, opened.sha256
            self._loaded = LoadedNetworks(self.card, opened.networks, opened.sha256)
        return self._loaded

    def compute(
        self,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None,
        options: InferenceOptions,
        progress: ProgressCallback | None,
        canceled: CancelCallback | None,
    ) -> Computed:
        """Return labels on the grid of the volumes; see `Segmenter.segment`."""
        from .backends import backend_choice
        from .threads import one_thread_each
        from .whole_image import WholeImage

        reporter = Reporter(progress, canceled)
        with one_thread_each() as threads:
            prepared = self._prepare(volumes, roi, options, reporter, threads)
            reporter.step(_("Loading model"))
            loaded = self.load(options, progress, canceled)
            if isinstance(prepared, WholeImage):
                run = self._run_whole(prepared, loaded, options, reporter, threads)
            else:
                run = self._run(prepared, loaded, options, reporter, threads)
        facts: dict[str, Any] = {
            "device": str(run.plan.device),
            "computed_in": run.backend,
            "processor": backend_choice.processor(run.plan.device),
            "libraries": backend_choice.libraries(),
            "memory_estimate_mb": round(run.needed / 1e6),
        }
        facts |= prepared.facts | run.facts
        notices = run.notices + prepared.notices
        if run.result.soft_dice is not None:
            expected = expected_dice(self.card, run.result.soft_dice)
            facts |= expected_dice_facts(self.card, run.result.soft_dice, expected, run.result.part)
            notices += doubts(self.card, expected, facts.get("alignment", {}))
        return Computed(run.result, facts, notices)

    def _prepare(
        self,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None,
        options: InferenceOptions,
        reporter: Reporter,
        threads: int,
    ) -> NetworkInput | WholeImage:
        """Return the network's input of the volumes."""
        from .alignment.align import align
        from .alignment.template import open_template
        from .processing.preprocess import prepare
        from .threads import pool

        if self._sees_whole_image():
            return self._whole_image(volumes[0], roi)
        steps = options.preprocessing(self.card)
        rules = steps.alignment
        if rules is None:
            return prepare(volumes, steps, roi)
        if self._template is None:
            self._template = open_template(self.card)
        reporter.step(_("Finding the {subject}").format(subject=rules.subject))
        with pool(min(threads, MOST_SEARCHES)) as workers:
            try:
                return align(volumes, steps, self._template, roi, reporter.check_canceled, workers)
            except NothingToAlignError as error:
                if cause := likely_cause(self.card, volumes[0]):
                    raise NothingToAlignError(joined(" ", (cause, error.fact)), error.fact) from error
                raise

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

        if doubt := other_modality(self.card, volume):
            raise InputError(doubt)
        if self.card.network == HIPPODEEP:
            return HippoDeepImage.of(volume, roi)
        return conform(volume, self.card.preprocessing, roi)

    def _run_whole(
        self, image: WholeImage, loaded: LoadedNetworks, options: InferenceOptions, reporter: Reporter, threads: int
    ) -> _Run:
        """Return labels of such a model."""
        from .calibrated import without_int8
        from .whole_image import run_whole_image

        rules = options.rules(self.card)
        run = run_whole_image(image, loaded.networks[0], rules, options, reporter, threads)
        return _Run(
            run.result, run.plan, run.backend, run.needed, run.notices + without_int8(options, run.backend, None)
        )

    def _run(
        self,
        prepared: NetworkInput,
        loaded: LoadedNetworks,
        options: InferenceOptions,
        reporter: Reporter,
        threads: int,
    ) -> _Run:
        """Return labels by the first plan that fits in memory; if it runs out all the same, by the next."""
        from ..core.figures import distinct_sizes, gigabytes
        from .alignment.align import Aligned
        from .backends.devices import choose_device, is_out_of_memory, is_unsupported
        from .int8 import calibration_memory
        from .labeling import label
        from .memory import available_memory
        from .plan import Workload, bytes_needed, execution_plans, make_sampler

        rules, precision = options.rules(self.card), options.precision
        if isinstance(prepared, Aligned):
            prepared = replace(prepared, border_network=loaded.border_network, threads=threads)
        sampler = make_sampler(prepared, rules)
        device = choose_device(options.device)
        ways = execution_plans(device, sampler, threads, batches=device.type == "cuda" and precision != FLOAT32)
        if precision == FLOAT16:  # in which only the device itself computes
            ways = [way for way in ways if way.device == device]
        sums = bool(rules.mirror_axes) + (len(loaded.networks) > 1)
        try:
            one_pass, unnamed = loaded.one_pass(sampler.patch), self.card.unnamed_outputs
            work = Workload(self.card.outputs, options.confidence, one_pass, sums, unnamed, loaded.model.head)
            if precision in (INT8, OPENVINO8):
                memory = calibration_memory(loaded.model, sampler.patch, self.card.outputs)
                work = replace(work, calibration=memory)
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
                size, rest = distinct_sizes(needed, free)
                shortage = shortage.format(needed=size, free=rest)
                continue
            reporter.step(_("Segmenting (needs about {memory} of memory)").format(memory=gigabytes(needed)))
            try:
                chosen = loaded.runner(plan, (prepared, sampler), options, reporter, threads)
                seen, network = self._look_again(prepared, loaded, chosen.runner, plan.device)
                result = label(seen, rules, work, network, plan, reporter)
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
                facts = chosen.facts | seen.facts
                return _Run(result, plan, chosen.runner.backend, needed, notices + chosen.notices, facts)
        raise DeviceError(
            _(
                "This computer has too little memory for this volume ({shortage}). "
                "Close other programs or choose a smaller region of interest."
            ).format(shortage=shortage)
        )

    def _look_again(
        self, prepared: NetworkInput, loaded: LoadedNetworks, runner: Runner, device: torch.device
    ) -> tuple[NetworkInput, Network]:
        """Return the input in a better position, where the card asks for a second look, and what computes it."""
        rules = self.card.preprocessing.alignment
        if rules is None or not rules.second_look:
            return prepared, runner
        from .alignment.second_look import look_again

        return look_again(prepared, lambda images: runner(images.to(device)), loaded.smoothed_prior, rules)  # type: ignore[arg-type]
