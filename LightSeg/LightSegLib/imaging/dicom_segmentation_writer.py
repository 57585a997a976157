"""A segmentation as a DICOM file (Segmentation IOD, PS3.3 A.51) of the images that it was computed from.

The package highdicom, an extra, builds it. It takes slices of single files or one multi-frame file; here every slice
is handed over as if it were a file of its own, and is referred to as what it is afterwards.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..catalog.card import Label
from ..catalog.terminology import UNSPECIFIED, Code
from ..core.errors import InputError, OutputError
from ..core.i18n import tr as _
from .dicom.attributes import text
from .dicom.frames import number
from .dicom.label_value import described_value
from .dicom.uids import UidMaker, derived_uid, random_uid
from .source_images import Reference, SourceImages, on_original_slices
from .volume import Segmentation

NAME, ADDRESS = "LightSeg", "https://github.com/lightseg/SlicerLightSeg"
EMPTY_IF_UNKNOWN = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
METHODS = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
SEXES = ("M", "F", "O")
LONG_STRING = 64  # characters of LO (PS3.5, section 6.2)
SERIES_AFTER = 1000  # added to the number of the series
LARGEST_NUMBER = 2**31 - 1  # of IS (PS3.5, section 6.2)
STAND_IN = "1.2.840.10008.5.1.4.1.1.2"  # CT Image Storage, whose images are single slices
UTF_8 = "ISO_IR 192"
PARAMETERS = ("settings", "computed_in", "weights_sha256")  # of the provenance, as parameters of the algorithm


def check_writable(source: SourceImages) -> None:
    """Check, before a long computation, that a segmentation of these images can be written.

    Raises:
        OutputError: without the package highdicom.
        InputError: for attributes of patient and study that no DICOM file may have.
    """
    with _quiet():
        _built(np.zeros((1, 1, 1), np.uint8), (Label(1, "", (0, 0, 0)),), {}, source, random_uid)


def write_dicom(segmentation: Segmentation, path: Path, source: SourceImages, reproducible_uids: bool = False) -> None:
    """Write labels on the original slices; frames without any are left out.

    Args:
        reproducible_uids: derive all new UIDs from images, model, software and labels.

    Raises:
        OSError: if the file cannot be written.
        OutputError: as `check_writable` does.
        InputError: as `check_writable` does.
    """
    slices = on_original_slices(segmentation.voxels, segmentation.geometry, source.grid)
    numbers = np.zeros(max(label.value for label in segmentation.labels) + 1, np.uint16)
    for at, label in enumerate(segmentation.labels, 1):
        numbers[label.value] = at
    uid: UidMaker = random_uid
    if reproducible_uids:
        uid = partial(_of_content, _digest(slices, segmentation, source))
    with _quiet():
        data = _built(numbers[slices], segmentation.labels, segmentation.provenance, source, uid)
        data.save_as(path, enforce_file_format=True)


def _built(
    slices: np.ndarray, labels: tuple[Label, ...], provenance: dict[str, Any], source: SourceImages, uid: UidMaker
) -> Any:
    """Return the data set of segment numbers [n, j, i], 0 for none.

    Raises:
        OutputError: without the package highdicom.
        InputError: for attributes of patient and study that no DICOM file may have.
    """
    try:
        import highdicom.seg
    except ImportError as error:
        raise OutputError(
            _(
                "DICOM segmentations need the Python package highdicom. "
                "Install it with: pip install highdicom, or write another format."
            )
        ) from error
    images = _stand_ins(source, slices.shape[1:])[: len(slices)]
    used = len(images) if slices.any() else 1  # nothing was found: one frame has to state it
    algorithm = _algorithm(provenance)
    try:
        data = highdicom.seg.Segmentation(
            source_images=images[:used],
            pixel_array=slices[:used],
            segmentation_type="BINARY",
            segment_descriptions=[_segment(at, label, algorithm) for at, label in enumerate(labels, 1)],
            series_instance_uid=uid("series"),
            series_number=_series_number(source),
            sop_instance_uid=uid("instance"),
            instance_number=1,
            manufacturer=NAME,
            manufacturer_model_name=NAME,
            software_versions=__version__,
            device_serial_number=__version__,
            content_label="SEGMENTATION",
            content_description=_short(provenance.get("title") or NAME),
            series_description=_short(f"{NAME}: {provenance.get('title', 'segmentation')}"),
            further_source_images=images[used:],
            **({} if _is_ascii(labels) else {"specific_character_set": UTF_8}),
        )
    except MemoryError:
        raise
    except Exception as error:  # whatever highdicom refuses in headers of strangers; its words may quote the patient
        raise InputError(
            _(
                "The attributes of patient and study in {file} cannot be written to a DICOM file ({kind}). "
                "Write another format, or correct the series."
            ).format(file=source.first.path.name, kind=type(error).__name__)
        ) from error
    _refer(data, source.references)
    organization = uid("dimensions")
    for item in (*data.DimensionIndexSequence, *data.DimensionOrganizationSequence):
        item.DimensionOrganizationUID = organization
    return data


def _series_number(source: SourceImages) -> int:
    """Return a number for the new series, which sorts it beside that of the images."""
    given = int(number(text(source.header, "SeriesNumber")) or 0)
    return min(SERIES_AFTER + max(0, given), LARGEST_NUMBER)


def _stand_ins(source: SourceImages, shape: tuple[int, ...]) -> list[Any]:
    """Return a data set for each slice, as of a file with this one slice; its UID is its number."""
    from pydicom.dataset import Dataset
    from pydicom.valuerep import DS

    def decimal(value: float) -> Any:
        return DS(value, auto_format=True)

    found: list[Any] = []
    for index, same in enumerate(source.grid.frames):
        frame = same[0]
        image = Dataset() if found else _valid(source.header)
        image.SOPClassUID, image.SOPInstanceUID = STAND_IN, f"2.25.{index}"
        image.StudyInstanceUID, image.SeriesInstanceUID = (
            text(source.header, "StudyInstanceUID"),
            text(source.header, "SeriesInstanceUID"),
        )
        image.FrameOfReferenceUID = source.frame_of_reference
        image.Rows, image.Columns = shape
        image.ImagePositionPatient = [decimal(value) for value in frame.position]
        image.ImageOrientationPatient = [decimal(value) for value in source.first.orientation]
        image.PixelSpacing = [decimal(value) for value in source.first.spacing]
        image.SliceThickness = decimal(source.first.thickness or source.grid.spacing[2])
        image.pop("SpacingBetweenSlices", None)  # often the gap alone
        if source.grid.even:
            image.SpacingBetweenSlices = decimal(source.grid.spacing[2])
        found.append(image)
    return found


def _valid(header: Any) -> Any:
    """Return a header with those of its attributes that have a valid value, and with the ones that may be empty."""
    from pydicom.config import RAISE
    from pydicom.dataset import Dataset
    from pydicom.valuerep import validate_value

    found = Dataset()
    found.SpecificCharacterSet = header.get("SpecificCharacterSet")
    for element in header:
        with suppress(ValueError, TypeError):
            if not element.is_empty:
                validate_value(element.VR, element.value, RAISE)
                found.add(deepcopy(element))
    for name in EMPTY_IF_UNKNOWN:
        if name not in found:
            setattr(found, name, "")
    if found.PatientSex not in SEXES:
        found.PatientSex = ""
    if found.get("PatientIdentityRemoved") == "YES" and not any(name in found for name in METHODS):
        found.DeidentificationMethod = "Not stated in the source images"  # which DICOM then asks for
    return found


def _refer(data: Any, references: tuple[Reference, ...]) -> None:
    """Replace the references to the placeholders by those to the images."""
    from pydicom.dataset import Dataset

    def item(reference: Reference) -> Any:
        referred = Dataset()
        referred.ReferencedSOPClassUID, referred.ReferencedSOPInstanceUID = reference.sop_class, reference.instance
        return referred

    files = [item(one) for one in dict.fromkeys(replace(one, frame=None) for one in references)]
    data.SourceImageSequence = files
    data.ReferencedSeriesSequence[0].ReferencedInstanceSequence = files
    derived = [group.DerivationImageSequence[0] for group in data.PerFrameFunctionalGroupsSequence]
    # Frames of several segments share what they refer to.
    for image in {id(image): image for one in derived for image in one.SourceImageSequence}.values():
        reference = references[int(image.ReferencedSOPInstanceUID.rpartition(".")[2])]
        image.ReferencedSOPClassUID = reference.sop_class
        image.ReferencedSOPInstanceUID = reference.instance
        if reference.frame is not None:
            image.ReferencedFrameNumber = reference.frame


def _segment(at: int, label: Label, algorithm: Any) -> Any:
    """Return highdicom's description of segment number `at`, with the label's terms and color."""
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    terms = label.terminology or UNSPECIFIED
    segment = SegmentDescription(
        segment_number=at,
        segment_label=_short(label.name) or f"Label {label.value}",
        segmented_property_category=_concept(terms.category),
        segmented_property_type=_concept(terms.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        anatomic_regions=[_concept(terms.region)] if terms.region else None,
        display_color=CIELabColor.from_rgb(*label.color),
    )
    segment.SegmentDescription = described_value(label.value)
    if terms.modifier:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(terms.modifier)]
    if terms.region and terms.region_modifier:
        segment.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_concept(terms.region_modifier)]
    return segment


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, _short(code.meaning))


def _algorithm(provenance: dict[str, Any]) -> Any:
    """Return which model computed it, with what it depends on as JSON."""
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(
        name=_short(f"{NAME} {provenance.get('model', '')}".strip()),
        family=codes.DCM.ArtificialIntelligence,
        version=_short(provenance.get("version") or __version__),
        source=ADDRESS,
    )
    stated = {name: provenance[name] for name in PARAMETERS if provenance.get(name) is not None}
    if stated:
        algorithm[0].AlgorithmParameters = json.dumps(stated, default=str)
    return algorithm


def _short(words: str) -> str:
    """Return a text that DICOM's "long string" can hold, in which a backslash would separate two values."""
    printable = "".join(letter if letter.isprintable() else " " for letter in words.replace("\\", "/"))
    return printable.strip()[:LONG_STRING].strip()


def _is_ascii(labels: tuple[Label, ...]) -> bool:
    return all(label.name.isascii() for label in labels)


def _digest(slices: np.ndarray, segmentation: Segmentation, source: SourceImages) -> str:
    """Return the SHA-256 of images, model, software and labels: of what two equal files have in common."""
    facts = [
        [[one.sop_class, one.instance, one.frame] for one in source.references],
        [segmentation.provenance.get(name) for name in ("model", "version", "weights_sha256", "lightseg")],
        [[label.value, label.name] for label in segmentation.labels],
    ]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for part in slices:
        digest.update(part.astype("<u2").tobytes())
    return digest.hexdigest()


def _of_content(digest: str, purpose: str) -> str:
    return derived_uid(f"{purpose} of {digest}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings of pydicom and highdicom, which quote names of patients, out of every log."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
