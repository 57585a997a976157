"""A label's standard terms, and the one string that 3D Slicer keeps of them with a segment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A coded concept as DICOM writes it, for example ("SCT", "5366008", "Hippocampus")."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Terminology:
    """A label in standard terms: DICOM segmentation category and type, with modifier and region."""

    category: Code
    type: Code
    modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None


CATEGORY_CONTEXT = "Segmentation category and type - DICOM master list"
REGION_CONTEXT = "Anatomic codes - DICOM master list"
TAG = "TerminologyEntry"  # name of the segment tag that holds the entry
TISSUE = Code("SCT", "85756007", "Tissue")
UNSPECIFIED = Terminology(TISSUE, TISSUE)  # Slicer's and DICOM's terms for a segment of which nothing is known


def terminology_entry(terminology: Terminology) -> str:
    """Slicer's serialized terminology entry.

    Seven fields joined by '~': context, category, type, type modifier, anatomic context, region and region modifier; a
    code is 'scheme^value^meaning', an absent one '^^'. Source: the documentation of
    `vtkSlicerTerminologiesModuleLogic::SerializeTerminologyEntry`.
    """
    return "~".join(
        (
            CATEGORY_CONTEXT,
            _code(terminology.category),
            _code(terminology.type),
            _code(terminology.modifier),
            REGION_CONTEXT,
            _code(terminology.region),
            _code(terminology.region_modifier),
        )
    )


def _code(code: Code | None) -> str:
    """Return a code as Slicer writes it in a terminology entry."""
    return "^^" if code is None else f"{code.scheme}^{code.value}^{code.meaning}"
