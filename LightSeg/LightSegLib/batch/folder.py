"""The cases of a folder and of the folders in it.

Images: one case for each file, or for a model with several channels nnU-Net's names (CASE_0000, CASE_0001, ...) or one
folder for each case with files whose names speak of the channels. DICOM: one case for each volume of a series, which
may be in several folders (`studies.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..catalog.card import Card
from ..catalog.channels import matched
from ..core.errors import LightSegError
from ..core.i18n import tr as _
from ..imaging.dicom.files import DicomFiles, find_frames, is_dicom
from ..imaging.image_names import IMAGE_ENDINGS, case_name, is_image, looks_like_image
from ..imaging.readers import read_grid
from ..imaging.volume import is_label_map
from .case import Case, SkippedInput, Source
from .studies import StudySeries, series_in, studies

RECORDS = ".records"  # a folder that has it was written by a batch: its images are results
SEGMENTATION = ".seg.nrrd"

# Words in the names of label maps and of the folders that hold them: case1_seg, sub-01_dseg, brainmask, labelsTr, gt.
OF_LABELS = re.compile(
    r"[a-z]*(?:seg|mask|label)|(?:label|mask|segmentation)[a-z]*|gt|(?:ground)?truth|annotations?|rois?"
)


def cases_in_folder(top: Path, card: Card) -> Iterator[Case | SkippedInput]:
    """Yield the cases of a folder, one at a time; of DICOM files only the headers are read."""
    dicom = DicomFiles()
    unreadable: list[OSError] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(top, onerror=unreadable.append, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != "." and not (Path(place, name) / RECORDS).is_dir())
        visible = [Path(place, name) for name in sorted(names) if name[0] != "."]
        images = [path for path in visible if is_image(path)]
        prefix = "".join(f"{part}_" for part in Path(place).relative_to(top).parts)
        label_maps = {path for path in images if _is_label_map(path, top)}
        labels = _("is a label map by its name and its voxels")
        yield from (SkippedInput(str(path), labels) for path in images if path in label_maps)
        yield from _images([path for path in images if path not in label_maps], prefix, card)
        yield from _unread(visible)
        if len(images) < len(visible):
            find_frames(sorted(set(visible) - set(images)), dicom)
    series: list[StudySeries] = []
    for one in series_in(dicom, card, top):
        if isinstance(one, StudySeries) and len(card.channels) > 1:
            series.append(one)  # the channels of a study are several series
        else:
            yield _case_of(one) if isinstance(one, StudySeries) else one
    yield from studies(series, card)
    yield from (
        SkippedInput(str(error.filename), _("cannot be read ({reason})").format(reason=error.strerror))
        for error in unreadable
    )


def _case_of(one: StudySeries) -> Case:
    """Return a volume of a series as a case of one channel."""
    return Case(one.case, (one.source,), one.series, one.moment, one.series_id)


def _is_label_map(path: Path, top: Path) -> bool:
    """Return whether a file, called like a label map or in a folder that is, has the voxels of one.

    Only such files are read here: the voxels of all would take as long as the batch takes to read its cases.
    """
    words = re.findall(r"[a-z]+", path.relative_to(top).with_name(case_name(path)).as_posix().lower())
    if path.name.lower().endswith(SEGMENTATION) or not any(map(OF_LABELS.fullmatch, words)):
        return False
    try:
        return is_label_map(read_grid(path)[0])
    except (LightSegError, OSError, ValueError, MemoryError):  # the row of the case will report it
        return False


def _unread(paths: Sequence[Path]) -> Iterator[SkippedInput]:
    """Yield the files that are images by their names, but none that can be read."""
    for path in paths:
        with suppress(OSError):  # what cannot be opened is reported where it is looked into for DICOM
            if looks_like_image(path) and path.is_file() and not is_dicom(path):
                endings = ", ".join(ending for ending in IMAGE_ENDINGS if ending != SEGMENTATION)
                yield SkippedInput(
                    str(path),
                    _("does not have the extension of a supported image format ({endings})").format(endings=endings),
                )


def _images(images: Sequence[Path], prefix: str, card: Card) -> Iterator[Case | SkippedInput]:
    """Yield the cases among the images of one folder."""
    numbered: dict[str, dict[int, Path]] = {}
    single: list[Path] = []
    for path in images:
        parts = re.fullmatch(r"(.+)_(\d{4})", case_name(path))
        if path.name.lower().endswith(SEGMENTATION):
            yield SkippedInput(str(path), _("is a segmentation"))
        elif parts and (int(parts[2]) < len(card.channels) or len(card.channels) > 1):
            same = numbered.setdefault(parts[1], {}).setdefault(int(parts[2]), path)
            if same != path:
                yield SkippedInput(str(path), _("has the same case name as {file}").format(file=same.name))
        else:
            single.append(path)
    wanted = range(len(card.channels))
    for name, files in numbered.items():
        if sorted(files) == list(wanted):
            yield Case(prefix + name, tuple(Source((files[number],)) for number in wanted))
        else:
            missing = [f"{name}_{number:04d} ({card.channels[number]})" for number in wanted if number not in files]
            reason = _("belongs to an incomplete case (missing: {files})").format(files=", ".join(missing))
            yield SkippedInput(str(min(files.values())), reason)
    if len(card.channels) == 1:
        yield from (Case(prefix + case_name(path), (Source((path,)),)) for path in single)
    elif single:
        yield from _by_names(single, prefix, card)


def _by_names(images: Sequence[Path], prefix: str, card: Card) -> Iterator[Case | SkippedInput]:
    """Yield one case in a folder of its own: each channel is the file whose name speaks of it."""
    numbers = matched(card.channels, [case_name(path) for path in images])
    chosen = [images[number] for number in numbers if number is not None]
    if len(chosen) == len(card.channels):
        yield Case(prefix.rstrip("_") or images[0].parent.name, tuple(Source((path,)) for path in chosen))
    for path in images:
        if len(chosen) < len(card.channels) or path not in chosen:
            reason = _("is not clearly one of the channels {channels}: end its name in _0000, _0001, ...")
            yield SkippedInput(str(path), reason.format(channels=", ".join(card.channels)))
