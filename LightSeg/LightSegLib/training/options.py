"""Options of a training run; every field is a flag of `lightseg train`."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import InputError
from ..core.i18n import tr as _

LEAST_PATCH, MOST_PATCH = 8, 1024  # voxels along a side; an image is cut into tiles of that size
LARGEST = 1_000_000  # of any number but those below: no training takes as many epochs
MOST = {
    "seed": (1 << 63) - 1,
    "learning_rate": 1000,
    "weight_decay": 1000,
    "class_weight_exponent": 10,  # and -10
    "foreground_fraction": 1,
    "augmentation": 2,
    "ema_decay": 1,
    "validation_fraction": 0.9,
}


@dataclass(frozen=True)
class TrainingOptions:
    """How to train on labeled images.

    `repr` has what must not differ between the parts of a run, in the words of earlier versions; see
    `_Run.fingerprint` for what was added since.

    Attributes:
        card: id, file or folder of a model whose card is the starting point, empty for one made from the data.
        patch_size: voxels [k, j, i].
        flip_axes: array axes flipped at random; 2 swaps left and right in RAS.
        augmentation: strength of the other random changes, see `Augmentation.times`. A small network that has stopped
            improving can improve again when it is lowered.
        validation_fraction: share of the cases set aside, at least one; 0 trains on all of them and keeps the last
            weights, whose quality is then not measured.
        fold: "2/5" sets the second of five parts of the cases aside instead of a share, which keeps its default. For a
            cross-validation, train once for each part, with one seed: it draws the parts. "" for none.
        validate_every: epochs.
        ema_decay: exponential moving average of the weights, 0 for none.
        initial_weights: weights file to start from, of the same network and as many labels, "" for none.
        class_weight_exponent: 1 is the paper's inverse frequency, 0 weighs all classes alike.
        bfloat16: train in mixed precision on the CPU, which pays on processors with AMX. (CUDA always trains so, in
            float16, and MPS never.)
    """

    card: str = ""
    epochs: int = 300
    batch_size: int = 4
    patch_size: tuple[int, int, int] | None = None
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_epochs: int = 5
    class_weight_exponent: float = 1.0
    foreground_fraction: float = 0.5
    flip_axes: tuple[int, ...] = (0, 1, 2)
    augmentation: float = field(default=1.0, repr=False)
    ema_decay: float = 0.999
    validation_fraction: float = 0.15
    fold: str = field(default="", repr=False)
    validate_every: int = 5
    initial_weights: str = field(default="", repr=False)
    seed: int = 0
    bfloat16: bool = field(default=False, repr=False)
    device: str = "auto"
    resume: bool = False
    replace: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: for a value with which no training is possible.
        """
        check_numbers(
            self,
            epochs=1,
            batch_size=1,
            validate_every=1,
            warmup_epochs=0,
            seed=0,
            weight_decay=0,
            learning_rate=0,
            foreground_fraction=0,
            augmentation=0,
            ema_decay=0,
            validation_fraction=0,
        )
        if self.patch_size is not None and not all(LEAST_PATCH <= side <= MOST_PATCH for side in self.patch_size):
            raise InputError(
                _(
                    "patch_size is {patch_size}, but each side must be from {least} to {most} voxels. "
                    "Choose another value."
                ).format(patch_size=self.patch_size, least=LEAST_PATCH, most=MOST_PATCH)
            )
        if not self.learning_rate > 0:
            raise InputError(
                _("learning_rate is {learning_rate}, but must be positive. Choose another value.").format(
                    learning_rate=self.learning_rate
                )
            )
        if self.fold and self.validation_fraction != TrainingOptions.validation_fraction:
            raise InputError(_("fold and validation_fraction both set cases aside. Omit one of them."))
        self.part()

    def part(self) -> tuple[int, int] | None:
        """Return which part of how many is set aside, counted from 1; None where a share is.

        Raises:
            InputError: for what is not a part of several.
        """
        if not self.fold:
            return None
        found = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", self.fold)
        part, parts = map(int, found.groups()) if found else (0, 0)
        if not 1 <= part <= parts or parts == 1:
            raise InputError(
                _(
                    "fold is '{fold}', but must be a part and the number of parts, such as 2/5. Choose another value."
                ).format(fold=self.fold)
            )
        return part, parts


def check_numbers(options: object, **least: float) -> None:
    """Raise InputError for the first number with which nothing can be computed.

    Args:
        options: a dataclass with the fields.
        least: the minimum of some of them, by name.
    """
    for name, value in vars(options).items():
        if isinstance(value, int | float) and not abs(value) <= MOST.get(name, LARGEST):
            most = MOST.get(name, LARGEST)
            raise InputError(
                _("{name} is {value}, but must be a number from {least} to {most}. Choose another value.").format(
                    name=name, value=value, least=least.get(name, -most), most=most
                )
            )
    for name, minimum in least.items():
        if getattr(options, name) < minimum:
            raise InputError(
                _("{name} is {value}, but must be at least {minimum}. Choose another value.").format(
                    name=name, value=getattr(options, name), minimum=minimum
                )
            )


def training_command(dataset: str, out: Path, options: TrainingOptions) -> str:
    """Return the command line that repeats a run, without options at their defaults."""
    arguments = ["lightseg", "train", dataset, "--out", out.name]
    for name, default in vars(TrainingOptions()).items():
        value = getattr(options, name)
        if name in ("resume", "replace", "device") or value == default:
            continue
        value = Path(value).name if name == "initial_weights" else value
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        arguments += [f"--{name.replace('_', '-')}", *([] if value is True else [text])]
    return shlex.join(arguments)
