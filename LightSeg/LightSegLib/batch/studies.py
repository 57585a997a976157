"""DICOM series in a folder: which of them a model can take, by what their headers say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ..catalog.card import Card
from ..catalog.channels import OTHER_MODALITY, matched
from .case import Case, Misfit, Source

STUDY_DATE, MODALITY, DESCRIPTION = "0008|0020", "0008|0060", "0008|103e"
IMAGE_TYPE, PATIENT, STUDY, NUMBER = "0008|0008", "0010|0020", "0020|000d", "0020|0011"


@dataclass(frozen=True)
class Series:
    """One that may be an input. patient: the name of a case that is the whole study; case: of the series alone."""

    study: str
    patient: str
    case: str
    description: str
    source: Source

    @staticmethod
    def in_folder(folder: Path, card: Card, prefix: str) -> Iterator[Series | Misfit]:
        """The series of one folder, several or none. prefix: what cases are called where they have no patient."""
        import SimpleITK as sitk

        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            files = tuple(map(Path, sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)))
            yield _series(files, card, prefix)


def _series(files: Sequence[Path], card: Card, prefix: str) -> Series | Misfit:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(files[0]))
    what = str(files[0].parent)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return Misfit(f"{what}, {files[0].name}", "is not an image")
    number, description = _field(reader, NUMBER), _field(reader, DESCRIPTION)
    what += f", series {number} {description}".rstrip()
    if reason := _reason(reader, len(files), card):
        return Misfit(what, reason)
    words = (_field(reader, PATIENT) or prefix.rstrip("_") or files[0].parent.name, _field(reader, STUDY_DATE))
    patient = "_".join(filter(None, words))
    case = "_".join(filter(None, (patient, number)))
    return Series(_field(reader, STUDY) or patient, patient, case, description, Source(tuple(files)))


def _reason(reader: Any, files: int, card: Card) -> str:
    """Why the model cannot take the series, or nothing."""
    modality = _field(reader, MODALITY)
    if modality and OTHER_MODALITY not in (modality, card.modality) and modality != card.modality:
        return f"is {modality}, and the model takes {card.modality}"
    if "LOCALIZER" in _field(reader, IMAGE_TYPE).upper():
        return "is a localizer"
    slices = files if files > 1 else reader.GetSize()[2] if reader.GetDimension() > 2 else 1
    if slices < 2:
        return "is a single slice"
    if reader.GetNumberOfComponents() > 1:
        return "is in colour"
    return ""


def _field(reader: Any, tag: str) -> str:
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""


def studies(series: Sequence[Series], card: Card) -> Iterator[Case | Misfit]:
    """One case for each study that has, by the descriptions of its series, one for each channel of the model."""
    for _, group in groupby(sorted(series, key=lambda one: one.study), key=lambda one: one.study):
        members = list(group)
        numbers = matched(card.channels, [one.description for one in members])
        missing = [channel for channel, number in zip(card.channels, numbers, strict=True) if number is None]
        if not missing:
            chosen = tuple(members[number].source for number in numbers if number is not None)
            yield Case(members[0].patient, chosen)
        used = () if missing else numbers
        for number, one in enumerate(members):
            if number not in used:
                lacking = f", and the study has no single series for {', '.join(missing)}" if missing else ""
                what = f"{one.source.paths[0].parent}, series {one.description}"
                yield Misfit(what, f"is not used{lacking}")
