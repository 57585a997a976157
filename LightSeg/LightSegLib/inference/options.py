"""How a model is run: one object, the same from the window, the console, the command line, a batch and a cluster.

A new option is a field here: the command line makes its flag from the field, processes and records carry it, and the
window offers it where `LightSeg.ui` has a widget for the parameter of that name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..catalog.orientations import ORIENTATIONS
from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from .backends.precisions import AUTO, BACKENDS, PRECISIONS

if TYPE_CHECKING:
    from ..catalog.card import Card, Inference, Label, Preprocessing

AS_MODEL = "model"  # what the model's card specifies
NONE = "none"
PIECES = (AS_MODEL, NONE, "label", "whole")
ON, OFF = "on", "off"
OUTER = (AS_MODEL, ON, OFF)
LARGEST_OVERLAP = 0.9
OPEN_KINDS = {  # of what may be left open, or is a list in JSON
    "tile_overlap": (float, int, type(None)),
    "orientation": (str, type(None)),
    "structures": (list, tuple),
}


def _option(default: Any, text: str, choices: tuple[str, ...] = ()) -> Any:
    """Return a field of the options with the help text of its flag; without a text it has no flag."""
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class InferenceOptions:
    """How a run differs from the model's card.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "float32", "auto" for the fastest backend that gives the same labels on this kind of processor,
            "int8" for int8 by OpenVINO in volumes in which that finds the labels of float32 (see `calibrated`), or the
            backend of earlier work (see `backends.backend_choice`).
        openvino: use OpenVINO on the CPU where it is installed.
        mirror: average over the flips that the card allows.
        tile_overlap: of neighboring tiles, as a share of the patch, 0 to 0.9; None for the model's own.
        largest_component: "model" as the card specifies, "none", "label" (one piece of every label) or "whole" (one
            piece of all labels together).
        confidence: give the probability of each voxel's label, too.
        accept_license: agree to a license that forbids commercial use, needed once before such a model is
            downloaded.
        orientation: world directions of the axes i, j, k on which the network computes, as in "LPS", "input" for
            those of the image as it is stored, None for the model's own. The result has the image's own axes all the
            same.
        split_sides: separate left and right in the labels that hold both sides by the model's card.
        outer_resampling: "model" as the card specifies, "on" as the model's own program resamples around the network,
            "off" for the network's own resampling alone, which gives smoother labels; without effect where the card
            has none.
        structures: those that are wanted, by names or values of labels (see `catalog.structures`); none for all. A
            model that consists of others then runs only those that have them.

    Raises:
        InputError: for a value that an option does not have.
    """

    device: str = _option("auto", "auto, cpu, cuda, cuda:N or mps")
    precision: str = _option(
        AUTO,
        "auto: the fastest that finds the same labels on this kind of processor; float32: never bfloat16, float16 or "
        "OpenVINO; int8: by OpenVINO, calibrated on the volume, where it finds the same labels in some of its tiles",
        PRECISIONS,
    )
    openvino: bool = _option(True, "do without OpenVINO, where it is installed")
    mirror: bool = _option(False, "average over mirrored inputs: slower, often better")
    tile_overlap: float | None = _option(None, "of neighboring tiles, as a share of the patch (default: the model's)")
    largest_component: str = _option(
        AS_MODEL,
        "keep the largest piece of every label only, or as named (without the flag: as the model's card specifies)",
        PIECES,
    )
    confidence: bool = _option(False, "")
    accept_license: bool = _option(False, "")
    orientation: str | None = _option(
        None, "turn the image's axes so, as in LPS, or input: as they are stored (default: the model's)"
    )

    split_sides: bool = _option(True, "keep left and right together in labels that hold both sides")
    outer_resampling: str = _option(
        AS_MODEL,
        "on: resample the image before all else and the labels after, as some models' own programs do; "
        "off: only as the network does, which is smoother",
        OUTER,
    )

    structures: tuple[str, ...] = _option((), "only these, by names or values of labels, joined by commas")

    def __post_init__(self) -> None:
        if isinstance(self.structures, str) or not all(isinstance(name, str) for name in self.structures):
            raise _refused(_("structures"), self.structures, _("a list of names, or values as text"))
        object.__setattr__(self, "structures", tuple(self.structures))  # a list in JSON
        check_device(self.device)
        if self.precision not in (*PRECISIONS, *BACKENDS):
            raise _refused(_("precision"), self.precision, ", ".join(PRECISIONS))
        if self.largest_component not in PIECES:
            raise _refused(_("largest component"), self.largest_component, ", ".join(PIECES))
        if self.tile_overlap is not None and not 0 <= self.tile_overlap <= LARGEST_OVERLAP:
            raise _refused(
                _("tile overlap"), self.tile_overlap, _("a number from 0 to {largest}").format(largest=LARGEST_OVERLAP)
            )
        if self.orientation is not None and self.orientation not in ORIENTATIONS:
            raise _refused(_("orientation"), self.orientation, _("input, or three letters such as LPS, RAS, PIR"))
        if self.outer_resampling not in OUTER:
            raise _refused(_("outer resampling"), self.outer_resampling, ", ".join(OUTER))

    def to_json(self) -> dict[str, Any]:
        """Return the options as a JSON object, for another process."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InferenceOptions:
        """Return the options that `to_json` wrote.

        Raises:
            InputError: for an option of another version, or a value of another kind.
        """
        for name, value in data.items():
            default = getattr(cls, name, None) if name in cls.__dataclass_fields__ else ...
            kinds = OPEN_KINDS.get(name, (type(default),))
            if default is ... or type(value) not in kinds:
                raise InputError(
                    _(
                        "The option {name} = {value!r} is not known on this computer. "
                        "Install the same version of LightSeg on all computers."
                    ).format(name=name, value=value)
                )
        return cls(**data)

    def rules(self, card: Card) -> Inference:
        """Return the card's rules with what the options change."""
        rules = card.inference
        if not self.mirror:
            rules = replace(rules, mirror_axes=())
        if self.tile_overlap is not None:
            rules = replace(rules, overlap=self.tile_overlap)
        if self.largest_component != AS_MODEL:
            rules = replace(rules, largest_component=self.largest_component)
        return rules

    def labels(self, card: Card) -> tuple[Label, ...]:
        """Return the labels of a result."""
        from ..catalog.sides import split_labels  # here, as Slicer loads the options when it starts

        return split_labels(card) if self.split_sides and card.inference.paired else card.result_labels

    def preprocessing(self, card: Card) -> Preprocessing:
        """Return the card's steps with what the options change."""
        steps = card.preprocessing
        if self.orientation is not None:
            steps = replace(steps, orientation=self.orientation)
        if outer := steps.outer_resampling:
            wanted = outer.default if self.outer_resampling == AS_MODEL else self.outer_resampling == ON
            steps = steps if wanted else replace(steps, outer_resampling=None)
        return steps


def check_device(name: str) -> None:
    """Check that a text names a device; whether this computer has it is checked later.

    Raises:
        InputError: for what is not a name of a device; whether this computer has it is asked later.
    """
    if not isinstance(name, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise _refused(_("device"), name, "auto, cpu, cuda, cuda:N or mps")


def _refused(option: Message, value: object, choices: str) -> InputError:
    """Return the error for an option with an impossible value."""
    return InputError(
        _("The {option} cannot be {value!r}. Choose one of: {choices}.").format(
            option=option, value=value, choices=choices
        )
    )
