"""DICOM series in a tree of folders: which volumes of them a model can take, by what their headers say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ..catalog.card import Card
from ..catalog.channels import OTHER_MODALITY, matched
from ..core.i18n import tr as _
from ..core.moment import Moment, frame_name
from ..imaging.dicom import series as dicom
from ..imaging.dicom.files import DicomFiles
from ..imaging.dicom.frames import Study
from .case import Case, SkippedInput, Source


@dataclass(frozen=True)
class StudySeries:
    """A volume that may be an input.

    Attributes:
        study: what identifies it; patient is part of that, as one UID was given to the studies of two before.
        patient: the name of a case that is the whole study; case: of the volume alone.
        series: the name of a series over time, if any.
        moment: which frame of it.
        series_id: what identifies it, for two series may have one name.
    """

    study: tuple[str, str]
    patient: str
    case: str
    description: str
    source: Source
    series: str = ""
    moment: Moment | None = None
    series_id: str = ""


def series_in(found: DicomFiles, card: Card, top: Path) -> Iterator[StudySeries | SkippedInput]:
    """Yield the volumes among the frames of all folders below `top`, and what is none."""
    for one in dicom.group(found.frames):
        for stack in one.stacks:
            if reason := _reason(stack, card):
                yield SkippedInput(_what(stack.study, stack.frames[0].path, stack.what), reason)
            else:
                yield _series(stack, top)
        for left in one.unused:
            whole = not one.stacks and len(one.unused) == 1
            yield SkippedInput(
                _what(left.frames[0].study, left.frames[0].path, "" if whole else left.names), left.reason
            )
    seen = set()
    for path, study, reason in found.others:
        if (study.series, path.parent) not in seen:
            seen.add((study.series, path.parent))
            yield SkippedInput(_what(study, path), reason)
    yield from (SkippedInput(str(path), reason) for path, reason in found.damaged)


def _series(stack: dicom.Stack, top: Path) -> StudySeries:
    """Return a stack with the names of its study, patient and case."""
    study, first = stack.study, stack.frames[0].path
    folders = first.parent.relative_to(top).parts if first.is_relative_to(top) else ()
    patient = "_".join(filter(None, (study.patient or "_".join(folders) or first.parent.name, study.date)))
    series = "_".join(filter(None, (patient, study.number)))
    case = "_".join(filter(None, (series, stack.what)))
    if stack.moment is not None:
        case = frame_name(series, stack.moment)
    description = " ".join(filter(None, (study.description, stack.what)))
    files = tuple(dict.fromkeys(frame.path for frame in stack.frames))
    part = stack.what if len(files) == 1 else ""  # files of their own say by themselves what they are
    over_time = (series, stack.moment, _series_id(stack)) if stack.moment is not None else ("", None, "")
    of_patient = (study.study, study.patient) if study.study else (patient, "")
    return StudySeries(of_patient, patient, case, description, Source(files, part), *over_time)


def _series_id(stack: dicom.Stack) -> str:
    """Return what identifies the series over time of a stack; one that has lost or got frames is another."""
    study, count = stack.study, 0 if stack.moment is None else stack.moment.count
    facts = (study.study, study.series, study.patient, str(stack.group), str(count))
    return hashlib.sha256("\n".join(facts).encode("utf-8", "replace")).hexdigest()  # records name no patient by it


def _what(study: Study, path: Path, part: str = "") -> str:
    """Return the name of a series in messages."""
    name = f"{path.parent}, series {study.number} {study.description}".rstrip()
    return f"{name}, {part}" if part else name


def _reason(stack: dicom.Stack, card: Card) -> str:
    """Return why the model cannot take the volume, or nothing."""
    if stack.problem:
        return stack.problem
    modality = stack.study.modality
    if modality and OTHER_MODALITY not in (modality, card.modality) and modality != card.modality:
        return _("is {modality}, but the model needs {needed}").format(modality=modality, needed=card.modality)
    return _("is a single slice") if len(stack.frames) < 2 else ""


def studies(series: Sequence[StudySeries], card: Card) -> Iterator[Case | SkippedInput]:
    """Yield one case for each study that has, by the descriptions of its series, one for each channel of the model."""
    for _study, group in groupby(sorted(series, key=lambda one: one.study), key=lambda one: one.study):
        members = list(group)
        numbers = matched(card.channels, [one.description for one in members])
        missing = [channel for channel, number in zip(card.channels, numbers, strict=True) if number is None]
        if not missing:
            chosen = tuple(members[number].source for number in numbers if number is not None)
            yield Case(members[0].patient, chosen)
        used = () if missing else numbers
        for number, one in enumerate(members):
            if number not in used:
                reason = _("is not used")
                if missing:
                    reason = _("is not used because the study has no single series for {channels}")
                    reason = reason.format(channels=", ".join(missing))
                yield SkippedInput(f"{one.source.paths[0].parent}, series {one.description}", reason)
