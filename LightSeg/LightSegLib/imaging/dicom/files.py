"""Which files are DICOM images, and what they say of themselves, without reading their voxels."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.i18n import tr as _
from .attributes import PLACE, stored, text, texts
from .frames import Frame, Study, number, placed
from .multiframe import frames_of
from .timeline import TAGS, times_of

PREFIX, PREFIX_AT = b"DICM", 128  # PS3.10, section 7.1
BARE = (b"\x08\x00", b"\x02\x00")  # the first group of a file without that prefix
ENDINGS = (".dcm", ".dicom", ".ima")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
STANDARD = "1.2.840.10008."  # root of the UIDs that DICOM itself assigns
DIRECTORY = "1.2.840.10008.1.3.10"
OBJECTS = {  # by modality
    "SEG": _("a segmentation"),
    "RTDOSE": _("a dose distribution"),
    "PR": _("a presentation state"),
}
KINDS = {
    "LOCALIZER": _("a localizer"),
    "SCOUT": _("a localizer"),
    "SCREEN SAVE": _("a screen capture"),
    "MOSAIC": _("a mosaic"),
}

# Attributes that distinguish volumes of one series at the same positions, the most specific first.
TRAITS = {
    "EchoNumbers": "echo",
    "EchoTime": "echo time",
    "TemporalPositionIdentifier": "time point",
    "TriggerTime": "trigger time",
    "DiffusionBValue": "b-value",
    "DiffusionGradientOrientation": "gradient",
    "InversionTime": "inversion time",
    "FrameReferenceTime": "time",
    "AcquisitionNumber": "acquisition",
    "ConvolutionKernel": "kernel",
    "KVP": "kV",
    "ImageType": "type",
}
COMMON = (
    *("SpecificCharacterSet", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "StudyDate"),
    *("SeriesNumber", "SeriesDescription", "Modality", "FrameOfReferenceUID", "InstanceNumber", "SliceThickness"),
    *(
        "Rows",
        "Columns",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "ModalityLUTSequence",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
    ),
    *("NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("DimensionIndexSequence", "GantryDetectorTilt"),
)


@dataclass
class DicomFiles:
    """The DICOM files of a folder by what they hold.

    Attributes:
        frames: slices of images.
        damaged: files that cannot be read, and why.
        others: DICOM files of another kind.
        suspicious: of the damaged ones those that are DICOM by their first bytes, so that they may be slices.
    """

    frames: list[Frame] = field(default_factory=list)
    damaged: list[tuple[Path, str]] = field(default_factory=list)
    suspicious: list[Path] = field(default_factory=list)
    others: list[tuple[Path, Study, str]] = field(default_factory=list)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the visible files of a folder and of the folders in it, sorted; a link that leads back is not followed.

    Raises:
        OSError: for a folder that cannot be read: it may hold slices.
    """
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=_raised, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        yield from (Path(place, name) for name in sorted(names) if name[0] != ".")


def _raised(error: OSError) -> None:
    """Raise the error that walking a folder met."""
    raise error


def files_of_series(path: Path) -> list[Path]:
    """Return the file itself, or where it is a single slice, the visible files of its folder.

    Raises:
        OSError: if the folder cannot be read.
    """
    frames = find_frames([path]).frames
    if len(frames) != 1 or frames[0].number is not None:
        return [path]
    return sorted(one for one in path.parent.iterdir() if one.name[0] != "." or one == path)


def only_series_of(path: Path, found: DicomFiles) -> DicomFiles:
    """Return what of the files of a folder is of the series of one of them, or may be."""
    series = next((frame.study.series for frame in found.frames if frame.path == path), None)
    frames = [frame for frame in found.frames if frame.study.series == series]
    return DicomFiles(frames, found.damaged, found.suspicious)


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM by its first bytes; without a prefix, also by its name.

    Raises:
        OSError: if the file cannot be read or written.
    """
    if not path.is_file():
        return False
    beginning = _beginning(path)
    return beginning[PREFIX_AT:] == PREFIX or (beginning[:2] in BARE and path.suffix.lower() in (*ENDINGS, ""))


def find_frames(paths: Iterable[Path], known: DicomFiles | None = None) -> DicomFiles:
    """Return the DICOM files among `paths`, added to the known ones; other files are skipped."""
    found = DicomFiles() if known is None else known
    for path in paths:
        try:
            if not path.is_file():
                if path.is_symlink() and not path.exists() and path.suffix.lower() in (*ENDINGS, ""):
                    found.damaged.append((path, _("is a link to a file that is missing")))
                    found.suspicious.append(path)
                continue
            beginning = _beginning(path)
        except OSError as error:
            found.damaged.append((path, _("cannot be opened ({reason})").format(reason=error.strerror)))
            found.suspicious.append(path)
            continue
        bare = beginning[:2] in BARE
        prefixed = beginning[PREFIX_AT:] == PREFIX or (bare and path.suffix.lower() in ENDINGS)
        if prefixed or bare:
            _add(path, prefixed, found)
        elif path.suffix.lower() in ENDINGS:
            found.damaged.append((path, _("is empty") if not beginning else _("is not a DICOM file")))
    return found


def _beginning(path: Path) -> bytes:
    """Return the first bytes of a file, up to the end of DICOM's prefix."""
    with path.open("rb") as stream:
        return stream.read(PREFIX_AT + len(PREFIX))


def _add(path: Path, prefixed: bool, found: DicomFiles) -> None:
    """Add a file to the group it belongs to.

    Args:
        prefixed: whether the file is DICOM by its first bytes, or by its name and these.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # problems of values that are used are reported below
            data = pydicom.dcmread(
                path, stop_before_pixels=True, force=True, specific_tags=[*COMMON, *PLACE, *TRAITS, *TAGS]
            )
            if text(data, "SOPClassUID") == DIRECTORY or _media_class(data) == DIRECTORY:
                return
            study = _study(data, path)
            if "Rows" in data and "Columns" in data:
                found.frames += _frames(data, path, study)
            elif prefixed and _is_cut(data):
                found.damaged.append((path, _("ends within its header")))
                found.suspicious.append(path)
            elif prefixed:
                reason = _("is not an image ({modality})").format(modality=study.modality or _("no modality"))
                found.others.append((path, study, reason))
    except Exception as error:  # whatever pydicom stumbles over in bytes of strangers
        if prefixed:
            found.damaged.append(
                (path, _("cannot be read ({kind}: {reason})").format(kind=type(error).__name__, reason=error))
            )
            found.suspicious.append(path)


def _frames(data: Any, path: Path, study: Study) -> list[Frame]:
    """Return the frames of a data set, one or many."""
    many = int(number(text(data, "NumberOfFrames")) or 1)
    if many > 1 or "PerFrameFunctionalGroupsSequence" in data:
        return frames_of(data, path, study, many)
    traits = [(TRAITS[name], "\\".join(texts(data, name))) for name in TRAITS]
    thickness, instance = number(text(data, "SliceThickness")), number(text(data, "InstanceNumber"))
    return [
        Frame(
            path=path,
            number=None,
            study=study,
            shape=(int(data.Rows), int(data.Columns)),
            stored=stored(data),
            instance=None if instance is None else int(instance),
            thickness=thickness,
            traits=tuple((name, sys.intern(value)) for name, value in traits if value),
            times=times_of(data),
            gantry_tilt=number(text(data, "GantryDetectorTilt")) or 0.0,
            **placed({name: texts(data, name) for name in PLACE}),
        )
    ]


def _study(data: Any, path: Path) -> Study:
    """Return study and series of a data set.

    A series without UID is the files of one folder with one series number.
    """
    study, number_of_series = text(data, "StudyInstanceUID"), text(data, "SeriesNumber")
    image_type = [word.upper() for word in texts(data, "ImageType")]
    kind = next((KINDS[word] for word in image_type if word in KINDS), OBJECTS.get(text(data, "Modality"), ""))
    colors = 3 if text(data, "PhotometricInterpretation") == "PALETTE COLOR" else int(data.get("SamplesPerPixel") or 1)
    if "ModalityLUTSequence" in data:
        kind = kind or _("an image with a Modality LUT")
    uid = text(data, "SOPClassUID")
    if not kind and uid.startswith(SECONDARY_CAPTURE) and "ImagePositionPatient" not in data:
        kind = "" if "PerFrameFunctionalGroupsSequence" in data else _("a screen capture")
    return Study(
        series=sys.intern(text(data, "SeriesInstanceUID") or f"{path.parent}|{study}|{number_of_series}"),
        study=sys.intern(study),
        patient=sys.intern(text(data, "PatientID")),
        date=sys.intern(text(data, "StudyDate")),
        number=sys.intern(number_of_series),
        description=sys.intern(text(data, "SeriesDescription")),
        modality=sys.intern(text(data, "Modality")),
        frame_of_reference=sys.intern(text(data, "FrameOfReferenceUID")),
        origin="DERIVED" if image_type[:1] == ["DERIVED"] else "ORIGINAL",
        kind=kind,
        colors=colors,
        inverted=text(data, "PhotometricInterpretation") == "MONOCHROME1",
    )


def _media_class(data: Any) -> str:
    """Return the SOP class in the file's meta information."""
    return str(getattr(getattr(data, "file_meta", None), "MediaStorageSOPClassUID", ""))


def _is_cut(data: Any) -> bool:
    """Return whether an image's header ends before its size."""
    from pydicom.uid import UID

    stated = {text(data, "SOPClassUID"), _media_class(data)} - {""}  # the first may be cut, too
    # Those of the standard that are no whole ones.
    cut = (uid for uid in stated if uid.startswith(STANDARD[: len(uid)]) and UID(uid).name == uid)
    return not stated or any(cut) or any("Image Storage" in UID(uid).name for uid in stated)
