"""What the user chooses in the window, saved with the scene."""

import dataclasses
import enum
import sys
from collections.abc import Iterable
from typing import Any

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper

from ..inference.options import InferenceOptions

DEFAULT_MODEL = "brain-mr-atlas-unet"
OF_MODEL = "/"  # between a model's id, which has none, and a structure


class Side(enum.Enum):
    """Side of the body that a segmentation shows."""

    AUTO = "auto"
    NOT_STATED = None
    LEFT = "left"
    RIGHT = "right"

    def label(self) -> str:
        """Return the value as the window shows it."""
        return {
            Side.AUTO: _("by the region"),
            Side.NOT_STATED: _("not specified"),
            Side.LEFT: _("left"),
            Side.RIGHT: _("right"),
        }[self]


class Device(enum.Enum):
    """Where the network runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self) -> str:
        """Return the value as the window shows it."""
        return {
            Device.AUTO: _("automatic"),
            Device.CPU: _("CPU"),
            Device.CUDA: _("NVIDIA graphics card"),
            Device.MPS: _("Apple graphics"),
        }[self]

    def isPossible(self) -> bool:
        """Return whether this kind of computer can have it; whether this computer has it, only torch knows."""
        return self is not (Device.CUDA if sys.platform == "darwin" else Device.MPS)


class Precision(enum.Enum):
    """Precision in which the network runs."""

    AUTO = "auto"
    FLOAT32 = "float32"
    INT8 = "int8"

    def label(self) -> str:
        """Return the value as the window shows it."""
        return {
            Precision.AUTO: _("automatic"),
            Precision.FLOAT32: _("float32"),
            Precision.INT8: _("int8"),
        }[self]


class LargestComponent(enum.Enum):
    """Which connected components of a result are kept."""

    AS_MODEL = "model"
    NONE = "none"
    LABEL = "label"
    WHOLE = "whole"

    def label(self) -> str:
        """Return the value as the window shows it."""
        return {
            LargestComponent.AS_MODEL: _("as the model specifies"),
            LargestComponent.NONE: _("no, keep all"),
            LargestComponent.LABEL: _("of each segment"),
            LargestComponent.WHOLE: _("of all segments together"),
        }[self]


@parameterNodeWrapper
class LightSegParameterNode:
    """The user's choices; saved with the scene.

    modelId - id of the model card.
    input1, ... - the volumes to segment, one for each channel of the model.
    roi - where to look, the whole volume if none.
    output - segmentation that takes the segments; if none, the last result where it lacks this side, else a new one.
    result - the segmentation that the last run has written.
    side - as the argument of `LightSegLogic.segment`, or by the place of the region.
    allFrames - segment every frame of the sequence that the first volume shows.
    structureChoices - for each model of which not all structures are wanted, see `chosenStructures`.
    confidence, device, ... - as the fields of `InferenceOptions`.
    """

    modelId: str = DEFAULT_MODEL
    input1: vtkMRMLScalarVolumeNode
    input2: vtkMRMLScalarVolumeNode
    input3: vtkMRMLScalarVolumeNode
    input4: vtkMRMLScalarVolumeNode
    roi: vtkMRMLMarkupsROINode
    output: vtkMRMLSegmentationNode
    result: vtkMRMLSegmentationNode
    side: Side = Side.AUTO
    structureChoices: list[str]
    confidence: bool = False
    allFrames: bool = False
    device: Device = Device.AUTO
    largestComponent: LargestComponent = LargestComponent.AS_MODEL
    precision: Precision = Precision.AUTO
    mirror: bool = False
    openvino: bool = True


def inferenceOptions(parameters: Any, **others: Any) -> InferenceOptions:
    """`InferenceOptions` of the parameters that have their names, and of others by the names of the library."""
    names = {field.name: camelCase(field.name) for field in dataclasses.fields(InferenceOptions)}
    chosen = {option: getattr(parameters, name) for option, name in names.items() if hasattr(parameters, name)}
    return InferenceOptions(**{option: getattr(value, "value", value) for option, value in (chosen | others).items()})


def chosenStructures(parameters: Any, model: str) -> tuple[str, ...] | None:
    """Return the structures that are wanted of a model, by their names; None for all, before a choice was made."""
    chosen = [choice.partition(OF_MODEL)[2] for choice in parameters.structureChoices if _isOf(choice, model)]
    return tuple(filter(None, chosen)) if chosen else None


def chooseStructures(parameters: Any, model: str, structures: Iterable[str] | None) -> None:
    """Remember the structures that are wanted of a model, beside those of others; None for all."""
    others = [choice for choice in parameters.structureChoices if not _isOf(choice, model)]
    own = [] if structures is None else [model + OF_MODEL + name for name in structures] or [model + OF_MODEL]
    parameters.structureChoices = others + own


def _isOf(choice: str, model: str) -> bool:
    """Return whether an entry of `structureChoices` is of this model; one with nothing behind it means none."""
    return choice.partition(OF_MODEL)[0] == model


def camelCase(name: str) -> str:
    """Return a name of the library as Slicer has it: "largest_component" is "largestComponent"."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
