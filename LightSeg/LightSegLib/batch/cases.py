"""The cases of a cohort: which files belong together, and how a case is called.

A folder (`folder.py`) or a manifest (`manifest.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..catalog.card import Card
from ..core.errors import InputError, LightSegError
from ..core.file_names import unique_file_name
from ..core.i18n import tr as _
from ..core.moment import Moment, frame_name
from ..imaging.readers import frame_moments
from .case import Case, SkippedInput, printable
from .folder import cases_in_folder
from .manifest import cases_in_manifest


def find_cases(input_path: Path, card: Card) -> Iterator[Case | SkippedInput]:
    """Yield the cases of a folder or manifest, and what is skipped, one at a time.

    Raises:
        InputError: for what is neither a folder nor a manifest.
    """
    if input_path.is_dir():
        found = cases_in_folder(input_path, card)
    elif input_path.suffix.lower() == ".csv" and input_path.is_file():
        found = cases_in_manifest(input_path, card)
    else:
        raise InputError(
            _("{input_path} is neither a folder nor a CSV file. Check the path and the spelling.").format(
                input_path=input_path
            )
        )
    return _uniquely_named(_in_frames(_uniquely_named(found)))


def _in_frames(found: Iterable[Case | SkippedInput]) -> Iterator[Case | SkippedInput]:
    """Yield a case for each frame of images over time, whose channels all have as many; of files the headers are read.

    What cannot be read stays one case, whose row will report it.
    """
    for one in found:
        frames: set[tuple[Moment, ...]] = set()
        if isinstance(one, Case) and one.moment is None and all(len(source.paths) == 1 for source in one.channels):
            with suppress(LightSegError, OSError, ValueError):
                frames = {frame_moments(source.paths[0]) for source in one.channels}
        if isinstance(one, SkippedInput) or len({len(moments) for moments in frames}) != 1 or () in frames:
            yield one
            continue
        for moment in frame_moments(one.channels[0].paths[0]):
            channels = tuple(replace(source, frame=moment.number) for source in one.channels)
            yield Case(frame_name(one.id, moment), channels, one.id, moment)


def _uniquely_named(found: Iterable[Case | SkippedInput]) -> Iterator[Case | SkippedInput]:
    """Yield the cases under unique names of files, and the frames of one series under one name that no other has."""
    taken: set[bytes] = set()
    taken_by_series: set[bytes] = set()
    series: dict[tuple[str, str], str] = {}
    for one in found:
        if isinstance(one, SkippedInput):
            yield SkippedInput(printable(one.what), one.reason)
            continue
        if one.moment is not None:
            if (one.series, one.series_id) not in series:
                series[one.series, one.series_id] = unique_file_name(one.series, taken_by_series)
            name = series[one.series, one.series_id]
            one = replace(one, series=name, id=frame_name(name, one.moment))
        yield replace(one, id=unique_file_name(one.id, taken))
