"""Options of a training on label maps; every field is a flag of `lightseg train --synthesize`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ..core.errors import InputError
from ..core.i18n import tr as _
from .options import check_numbers
from .synthesis.options import SynthesisOptions


@dataclass(frozen=True)
class SyntheticTrainingOptions:
    """How to train on synthetic images.

    Attributes:
        settings: settings file, or the name of one that ships with LightSeg; empty for the one beside the label
            maps.
        epochs: an image is a step; an epoch is the images between two lines of the log.
        images_per_epoch: an image is a step; an epoch is the images between two lines of the log.
        hours: after which the training pauses, 0 for never.
        warmup_epochs: epochs.
        validate_every: epochs.
        ema_decay: exponential moving average of the weights.
        voxels_per_class: of each class and image, drawn at random for the loss.
        validation_maps: label maps set aside.
        all_maps: train on the label maps set aside, too; the space and grid remain those of the others, so that weights
            trained without them can go on, and no quality is measured.
        spacing: mm of the network's grid.
        margin: mm around the structures.
        overlap: mm beyond the middle that each half sees, where structures are paired.
        widths: of the network, see `AtlasUNet`.
        fine_channels: of the network, see `AtlasUNet`.
        residual_blocks: of the network, see `AtlasUNet`.
        border_channels: of a head for borders at the image's own resolution, 0 for none; with one, it alone is
            trained unless `whole_network` is set, for a network whose weights are given.
        whole_network: with a border head, whether the network is trained, too.
        prior_images: from which the prior is counted; not with a border head, whose weights bring their own.
        initial_weights: weights file to start from, of this network or of one with fewer channels and blocks, ""
            for none; such a training starts with all contrasts at once.
        threads: of the training itself; images are made in a process beside it.
        nice: lowers the priority, 0 to 19.
    """

    settings: str = ""
    epochs: int = 200
    images_per_epoch: int = 100
    hours: float = 0.0
    learning_rate: float = 4e-3
    weight_decay: float = 1e-3
    warmup_epochs: int = 1
    ema_decay: float = 0.998
    voxels_per_class: int = 5000
    validation_maps: int = 3
    all_maps: bool = False
    validate_every: int = 5
    spacing: float = 2.0
    margin: float = 8.0
    overlap: float = 12.0
    widths: tuple[int, ...] = (24, 44, 64, 80)
    fine_channels: int = 8
    residual_blocks: int = 0
    border_channels: int = 0
    whole_network: bool = False
    prior_images: int = 160
    initial_weights: str = ""
    seed: int = 0
    device: str = "auto"
    threads: int = 1
    nice: int = 10
    resume: bool = False
    replace: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: for a value with which no training is possible.
        """
        check_numbers(
            self,
            epochs=1,
            images_per_epoch=1,
            hours=0,
            warmup_epochs=0,
            voxels_per_class=1,
            validation_maps=1,
            validate_every=1,
            margin=0,
            fine_channels=1,
            residual_blocks=0,
            border_channels=0,
            prior_images=1,
            seed=0,
            threads=1,
            nice=0,
            learning_rate=0,
            weight_decay=0,
            spacing=0,
            ema_decay=0,
        )
        if not self.learning_rate > 0 or not self.spacing > 0 or not self.overlap > 0:
            raise InputError(_("learning_rate, spacing and overlap must be positive. Choose other values."))
        if self.whole_network and not self.border_channels:
            raise InputError(
                _("whole_network is for a training with a border head. Name its channels with border_channels.")
            )
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise InputError(
                _("widths is {widths}, but must be at least two positive numbers. Choose other values.").format(
                    widths=self.widths
                )
            )


def synthesis_options(assignments: Sequence[str]) -> SynthesisOptions:
    """Return options of the synthesis from words such as "rotation=10" or "noise=0,0.1".

    Raises:
        InputError: for a name that does not exist or a value of another kind.
    """
    defaults = {field.name: getattr(SynthesisOptions(), field.name) for field in fields(SynthesisOptions)}
    given: dict[str, object] = {}
    for assignment in assignments:
        name, _equals, text = assignment.partition("=")
        if name not in defaults:
            raise InputError(
                _("'{name}' is not an option of the synthesis. Choose one of: {options}.").format(
                    name=name, options=", ".join(defaults)
                )
            )
        default = defaults[name]
        count = len(default) if isinstance(default, tuple) else 1
        kind = type(default[0]) if isinstance(default, tuple) else type(default)
        try:
            values = tuple(kind(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            numbers = _("a number") if count == 1 else _("{count} numbers, separated by commas").format(count=count)
            raise InputError(
                _("{name} is '{value}', but must be {kind}. Choose another value.").format(
                    name=name, value=text, kind=numbers
                )
            )
        given[name] = values if isinstance(default, tuple) else values[0]
    return SynthesisOptions(**given)  # type: ignore[arg-type]


def synthetic_command(dataset: str, out: Path, options: SyntheticTrainingOptions, synthesis: SynthesisOptions) -> str:
    """Return the command line that repeats a run, without options at their defaults."""
    arguments = ["lightseg", "train", "--synthesize", dataset, "--out", out.name]
    for name, default in vars(SyntheticTrainingOptions()).items():
        value = getattr(options, name)
        if name in ("resume", "replace", "device", "threads", "nice", "hours") or value == default:
            continue
        if name == "prior_images" and options.border_channels:  # the prior is that of the weights
            continue
        value = Path(value).name if name in ("settings", "initial_weights") else value
        arguments += [f"--{name.replace('_', '-')}", *([] if value is True else [_text(value)])]
    for name, default in vars(SynthesisOptions()).items():
        if getattr(synthesis, name) != default:
            arguments += ["--set", f"{name}={_text(getattr(synthesis, name))}"]
    return shlex.join(arguments)


def _text(value: object) -> str:
    """Return a value as it is typed on the command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
