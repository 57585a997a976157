"""Attributes of a segmentation node that record its origin, and Slicer's names for its content."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import slicer
import slicer.util

from ...core import i18n

LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
CONFIDENCE_ROLE = "LightSeg.Confidence"
INPUT_ROLE = "LightSeg.Input"
REFERENCE_ROLE = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
REFERENCE_GEOMETRY = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
ATTRIBUTES = {  # node attribute: key of Segmentation.provenance
    "LightSeg.Model": "model",
    "LightSeg.Version": "version",
    "LightSeg.WeightsSHA256": "weights_sha256",
    "LightSeg.Device": "device",
    "LightSeg.ComputedIn": "computed_in",
    "LightSeg.Processor": "processor",
    "LightSeg.Libraries": "libraries",
    "LightSeg.Settings": "settings",
    "LightSeg.Seconds": "seconds",
    "LightSeg.License": "license",
    "LightSeg.Citation": "citation",
    "LightSeg.SoftwareVersion": "lightseg",
    "LightSeg.Notices": "notices",
    "LightSeg.LowConfidenceSlices": "low_confidence_slices",
    "LightSeg.ExpectedDice": "expected_dice",
    "LightSeg.Totals": "totals",
    "LightSeg.Alignment": "alignment",
}
FORMER_ATTRIBUTES = {"LightSeg.LowConfidenceSlices": "LightSeg.LeastCertain"}  # in scenes of earlier versions

SEGMENT_TAGS = ("LightSeg.Model", "LightSeg.Version", "LightSeg.WeightsSHA256")


def attributes_of(provenance: dict[str, Any]) -> dict[str, str]:
    """Node attributes: text as it is, anything else as JSON."""
    present = {name: provenance[key] for name, key in ATTRIBUTES.items() if provenance.get(key) not in (None, [])}
    return {name: value if isinstance(value, str) else i18n.dumps(value) for name, value in present.items()}


def set_attributes(node: Any, attributes: dict[str, str]) -> None:
    """Replace all of LightSeg's attributes, so that none of an earlier run stays."""
    for name in (*ATTRIBUTES, *FORMER_ATTRIBUTES.values()):
        if name in attributes:
            node.SetAttribute(name, attributes[name])
        else:
            node.RemoveAttribute(name)


def provenance_of(segmentationNode: Any) -> dict[str, Any]:
    """Return the provenance that `write_segmentation` saved; empty for segmentations of other origin."""
    found = {
        key: segmentationNode.GetAttribute(name) or segmentationNode.GetAttribute(FORMER_ATTRIBUTES.get(name, name))
        for name, key in ATTRIBUTES.items()
    }
    as_json = {
        "settings",
        "libraries",
        "notices",
        "seconds",
        "low_confidence_slices",
        "expected_dice",
        "totals",
        "alignment",
    }
    stated: dict[str, Any] = {}
    for key, text in found.items():
        if text is not None:
            with suppress(
                ValueError, TypeError, LookupError, RecursionError
            ):  # a scene may come from an untrusted source
                stated[key] = i18n.loads(text) if key in as_json else text
    return stated
