"""The frames of an enhanced multi-frame file by its functional groups (PS3.3, C.7.6.16) and dimension indices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ...core.i18n import tr as _
from .attributes import PLACE, stored, text, texts
from .frames import Frame, Study, number, placed
from .timeline import ACQUIRED, OFFSET, REFERENCE, TRIGGER_TIME, clock, stated

GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}
# Group and attribute of what may distinguish frames at one position, the most specific first.
TRAITS = {
    ("MREchoSequence", "EffectiveEchoTime"): "echo time",
    ("FrameContentSequence", "TemporalPositionIndex"): "time point",
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"): "trigger time",
    ("MRDiffusionSequence", "DiffusionBValue"): "b-value",
    ("FrameContentSequence", "FrameAcquisitionNumber"): "acquisition",
    ("FrameContentSequence", "StackID"): "stack",
    ("MRImageFrameTypeSequence", "FrameType"): "type",
    ("CTImageFrameTypeSequence", "FrameType"): "type",
    ("PETFrameTypeSequence", "FrameType"): "type",
    ("MRImageFrameTypeSequence", "ComplexImageComponent"): "component",
}
OF_PLACE = ("ImagePositionPatient", "InStackPositionNumber", "SliceLocation", "FrameAcquisitionDateTime")
UNPLACED = _(
    "is of a file with several frames without functional groups, so their positions are unknown. "
    "Export it as single slices."
)


def frames_of(data: Any, path: Path, study: Study, count: int) -> list[Frame]:
    """Return all frames of a multi-frame file; what a frame does not state, the file states for all."""
    own = list(data.get("PerFrameFunctionalGroupsSequence") or ())
    shared = next(iter(data.get("SharedFunctionalGroupsSequence") or ()), None)
    dimensions = _dimensions(data)
    found = []
    for index in range(min(count, len(own) + 1)):  # the first that is not described represents all such
        groups = (own[index] if index < len(own) else None, shared)
        facts = placed({name: group_texts(groups, GROUPS[name], name) or texts(data, name) for name in PLACE})
        if not own:
            facts["problem"] = UNPLACED
        elif len(own) != count:
            facts["problem"] = _(
                "is of a file with {count} frames that gives {placed} positions of frames. Export it again."
            ).format(count=count, placed=len(own))
        thickness = next(iter(group_texts(groups, "PixelMeasuresSequence", "SliceThickness")), "")
        tilt = next(iter(group_texts(groups, "CTAcquisitionDetailsSequence", "GantryDetectorTilt")), "")
        found.append(
            Frame(
                path=path,
                number=index,
                study=study,
                shape=(int(data.Rows), int(data.Columns)),
                stored=stored(data),
                instance=_place_in_stack(groups),
                thickness=number(thickness or text(data, "SliceThickness")),
                traits=_traits(groups, dimensions),
                times=_times(groups),
                gantry_tilt=number(tilt) or 0.0,
                **facts,
            )
        )
    return found


def _dimensions(data: Any) -> list[str]:
    """Return a name for each dimension index; empty for one that encodes the position."""
    from pydicom.datadict import keyword_for_tag

    words: list[str] = []
    for item in data.get("DimensionIndexSequence") or ():
        keyword = keyword_for_tag(item.DimensionIndexPointer) if "DimensionIndexPointer" in item else ""
        words.append("" if keyword in OF_PLACE else keyword or f"dimension {len(words) + 1}")
    return words


def _traits(groups: tuple[Any, Any], dimensions: list[str]) -> tuple[tuple[str, str], ...]:
    """Return what may distinguish frames at the same position: echo, phase and the like."""
    traits = [(word, "\\".join(group_texts(groups, *where))) for where, word in TRAITS.items()]
    indices = group_texts(groups, "FrameContentSequence", "DimensionIndexValues")
    traits += [(word, value) for word, value in zip(dimensions, indices, strict=False) if word]
    return tuple((word, sys.intern(value)) for word, value in traits if value)


def _times(groups: tuple[Any, Any]) -> tuple[tuple[str, float], ...]:
    """Return what a frame states about its time, in ms; the standard has its offset in seconds."""

    def first(sequence: str, name: str) -> str:
        return next(iter(group_texts(groups, sequence, name)), "")

    offset = number(first("TemporalPositionSequence", "TemporalPositionTimeOffset"))
    return stated(
        {
            TRIGGER_TIME: number(first("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime")),
            REFERENCE: clock(first("FrameContentSequence", "FrameReferenceDateTime")[8:]),
            OFFSET: None if offset is None else 1000 * offset,
            ACQUIRED: clock(first("FrameContentSequence", "FrameAcquisitionDateTime")[8:]),
        }
    )


def _place_in_stack(groups: tuple[Any, Any]) -> int | None:
    """Return the number of a frame in its stack, or None if it is not stated."""
    value = number(next(iter(group_texts(groups, "FrameContentSequence", "InStackPositionNumber")), ""))
    return None if value is None else int(value)


def group_texts(groups: tuple[Any, Any], sequence: str, name: str) -> tuple[str, ...]:
    """Return the values of an attribute in the frame's functional groups, else in the shared ones."""
    for group in groups:
        items = group.get(sequence) if group is not None else None
        if items and (found := texts(items[0], name)):
            return found
    return ()
