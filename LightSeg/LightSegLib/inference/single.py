"""A model with a network of its own: from volumes to labels on their grid, before what follows the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..catalog.card import Card
from ..core.errors import DeviceError, InputError, ModelError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, ProgressCallback, Reporter
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import Volume
from .backends.precisions import FLOAT16, FLOAT32, INT8, OPENVINO8
from .expected_dice import doubts, expected_dice, expected_dice_facts
from .fit import other_modality
from .options import InferenceOptions

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..networks.linear_head import Head
    from .alignment.template import Template
    from .backends.accelerate import Model, Runner
    from .calibrated import Calibrated
    from .labeling import InferenceResult, Network
    from .plan import ExecutionPlan
    from .processing.preprocess import NetworkInput
    from .sliding_window import TileSampler
    from .whole_image import WholeImage

UNSIGNED = ("percentile", "minmax")  # normalizations to the range from 0 to 1
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
        self._networks: tuple[nn.Module, ...] = ()
        self._head: Head | None = None  # that follows the sums of tiles
        self._template: Template | None = None
        self._identity: str | None = None  # under which facts about these weights are kept
        self._one_pass: dict[tuple[int, int, int], int] = {}  # bytes, by patch
        self._backends: dict[tuple[object, ...], str] = {}
        self._runners: dict[tuple[object, ...], Runner] = {}

    def use_network(self, network: nn.Module) -> None:
        """Run this network instead of the card's weights."""
        self._use((network,), None)
        self._backends.clear()
        self._runners.clear()
        self._one_pass.clear()

    def facts(self) -> dict[str, Any]:
        """Return which weights computed, for the provenance."""
        return {"weights_sha256": self._weights_sha256}

    def backend(self, options: InferenceOptions) -> str:
        """Return the backend that the model is computed with on this computer."""
        from .backends.devices import choose_device
        from .threads import one_thread_each

        with one_thread_each():
            self.load(options, None, None)
            return self._backend(choose_device(options.device), options)

    def load(
        self, options: InferenceOptions, progress: ProgressCallback | None, canceled: CancelCallback | None
    ) -> None:
        """Load the networks, once."""
        if not self._networks:
            from ..models.opening import open_model

            opened = open_model(self.card, progress, canceled, options.accept_license)
            self.card, self._weights_sha256 = opened.card, opened.sha256
            self._use(opened.networks, opened.sha256)

    def _use(self, networks: tuple[nn.Module, ...], identity: str | None) -> None:
        """Take the networks, without their last layer where that may follow the sums of tiles."""
        from ..networks.linear_head import split

        inference = self.card.inference
        linear = inference.average == "logits" and inference.calibration is None
        keep = not linear or self.card.preprocessing.alignment is not None
        self._networks, self._head = (networks, None) if keep else split(networks)
        self._identity = identity

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
            self.load(options, progress, canceled)
            if isinstance(prepared, WholeImage):
                run = self._run_whole(prepared, options, reporter, threads)
            else:
                run = self._run(prepared, options, reporter, threads)
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

        if doubt := other_modality(self.card, volume):
            raise InputError(doubt)
        if self.card.network == HIPPODEEP:
            return HippoDeepImage.of(volume, roi)
        return conform(volume, self.card.preprocessing, roi)

    def _run_whole(self, image: WholeImage, options: InferenceOptions, reporter: Reporter, threads: int) -> _Run:
        """Return labels of such a model."""
        from .calibrated import without_int8
        from .whole_image import run_whole_image

        rules = options.rules(self.card)
        run = run_whole_image(image, self._networks[0], rules, options, reporter, threads)
        return _Run(
            run.result, run.plan, run.backend, run.needed, run.notices + without_int8(options, run.backend, None)
        )

    def _run(self, prepared: NetworkInput, options: InferenceOptions, reporter: Reporter, threads: int) -> _Run:
        """Return labels by the first plan that fits in memory; if it runs out all the same, by the next."""
        from ..core.system import gigabytes
        from .backends.devices import choose_device, is_out_of_memory, is_unsupported
        from .int8 import calibration_memory
        from .labeling import label
        from .memory import activation_memory, available_memory
        from .plan import Workload, bytes_needed, execution_plans, make_sampler

        rules, precision = options.rules(self.card), options.precision
        sampler = make_sampler(prepared, rules)
        device = choose_device(options.device)
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
            unnamed = self.card.unnamed_outputs
            work = Workload(self.card.outputs, options.confidence, one_pass, sums, unnamed, self._head)
            if precision in (INT8, OPENVINO8):
                memory = calibration_memory(self._model(), sampler.patch, self.card.outputs)
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
                shortage = shortage.format(needed=gigabytes(needed), free=gigabytes(free))
                continue
            reporter.step(_("Segmenting (needs about {memory} of memory)").format(memory=gigabytes(needed)))
            try:
                chosen = self._runner(plan, (prepared, sampler), options, reporter, threads)
                seen, network = self._look_again(prepared, chosen.runner, plan.device)
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

    def _look_again(self, prepared: NetworkInput, runner: Runner, device: torch.device) -> tuple[NetworkInput, Network]:
        """Return the input in a better position, where the card asks for a second look, and what computes it."""
        rules = self.card.preprocessing.alignment
        if rules is None or not rules.second_look:
            return prepared, runner
        from .alignment.second_look import look_again

        prior = self._networks[0].class_prior()  # type: ignore[operator]
        return look_again(prepared, lambda images: runner(images.to(device)), prior.cpu(), rules)  # type: ignore[arg-type]

    def _runner(
        self,
        plan: ExecutionPlan,
        image: tuple[NetworkInput, TileSampler],
        options: InferenceOptions,
        reporter: Reporter,
        threads: int,
    ) -> Calibrated:
        """Return the runner of tiles for a plan; it is made once, but for int8, which is made for each volume."""
        from .backends.accelerate import accelerate
        from .calibrated import Calibrated, calibrated, without_int8

        device, patch = plan.device, image[1].patch
        backend = self._backend(device, options)
        if backend == OPENVINO8:
            self._runners.clear()
            return calibrated(self._model(), *image, plan.tiles, reporter, options.openvino)
        key = (device, threads, patch, backend)
        if key not in self._runners:
            self._runners.clear()  # no two backends of a network are in memory together
            self._runners[key] = accelerate(self._model(), device, backend, patch, threads)
        tiled = self._model() if device.type == "cpu" else None
        return Calibrated(self._runners[key], notices=without_int8(options, backend, tiled))

    def _backend(self, device: torch.device, options: InferenceOptions) -> str:
        """Return the backend for a device; it is chosen once."""
        from .backends.accelerate import choose_backend
        from .whole_image import whole_image_backend

        if self._sees_whole_image():
            return whole_image_backend(options, device)
        key = (device, options.precision, options.openvino)
        if key not in self._backends:
            self._backends[key] = choose_backend(self._model(), device, options.precision, options.openvino)
        return self._backends[key]

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
            head=self._head,
        )
