"""What in the folder of results is not the batch's to write: its inputs, and all that no record of it names.

Looked at before anything is done, for a scan or an expert's label that is overwritten is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ..core.errors import InputError
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from ..imaging.detached import voxel_files
from . import records
from .case import Case
from .folder import RECORDS
from .open_frames import OpenFrames
from .settings import Batch
from .tables import is_own, recorded_tables

LISTED = 5  # files in a message
Key = tuple[int, int]  # what a file is, under whatever name: device and number


class OutputGuard:
    """Checks every case of a batch for files that must not be overwritten.

    Args:
        tables: names of the files of the whole batch.
    """

    def __init__(self, input_path: Path, batch: Batch, tables: Iterable[str]) -> None:
        self._batch, self._tables = batch, tuple(tables)
        places = {path.parent for path in records.outputs(batch, "any")} | {batch.out / RECORDS}
        self._places = {key for place in places if (key := _key(place))}
        self._foreign: list[Path] = []  # that would be written, and no record names
        self._changed: list[Path] = []  # that would be written, and a record names as they were
        self._corrected: list[tuple[Path, str]] = []  # changed, of cases that are done with the model of this SHA-256
        self._other_images: dict[Path, tuple[str, str]] = {}  # earlier and now, of what was changed
        # Files that are inputs and are beside the results.
        self._inputs: set[Key] = {key} if input_path.is_file() and (key := _key(input_path)) else set()
        self._place_of = lru_cache(maxsize=1000)(_key)
        self._frames = OpenFrames()

    def check(self, case: Case) -> None:
        """Note the case's inputs in the folder of results, and files in the way of its results."""
        if not self._places:
            return  # there is not a folder of results yet
        for path in _inputs(case):
            if self._place_of(path.parent) in self._places and (key := _key(path)):
                self._inputs.add(key)
        record = records.earlier_record(case.id, self._batch)
        changed: list[Path] = []
        for path in records.outputs(self._batch, case.id):
            if os.path.lexists(path) and not records.is_own(path, record, self._batch):
                (changed if records.names_file(path, record, self._batch) else self._foreign).append(path)
        if record is None or not changed:
            return
        if record.status == records.DONE and record.settings_sha256 == self._batch.settings.sha256():
            if self._is_of_same_image(case, record):  # not written again, so a corrected result does not stop the batch
                self._corrected += [(path, record.model_sha256) for path in changed]
                return
            self._other_images |= dict.fromkeys(changed, (record.input, case.where))
        self._changed += changed

    def refusal(self, cases: Iterable[Case]) -> Message | None:
        """Return why the batch must not run: it would write over an input, or over what is not its own; None if it may.

        Args:
            cases: all that were looked at.
        """
        written = [self._batch.out / name for name in self._tables]
        foreign, changed = self._foreign_tables()
        inputs: list[Path] = []
        if self._inputs:
            inputs = [path for path in (*written, *self._written(cases)) if _key(path) in self._inputs]
        return self._message(inputs, [*self._foreign, *foreign], [*self._changed, *changed])

    def refusal_of_model(self, model_sha256: str) -> Message | None:
        """Return why the batch must not run with a model, with which results that were changed would be replaced."""
        return self._message([], [], [path for path, model in self._corrected if model != model_sha256])

    def _message(self, inputs: Sequence[Path], foreign: Sequence[Path], changed: Sequence[Path]) -> Message | None:
        """Return the message about files that would be overwritten; None for none."""
        reasons = []
        if inputs:
            reasons.append(_("inputs of the batch: {files}").format(files=self._names(inputs)))
        if foreign := [path for path in foreign if path not in inputs]:
            reasons.append(_("not written by it: {files}").format(files=self._names(foreign)))
        if changed := [path for path in changed if path not in inputs]:
            reasons.append(_("changed after it wrote them: {files}").format(files=self._names(changed)))
        if not reasons:
            return None
        others = dict.fromkeys(self._other_images[path] for path in changed if path in self._other_images)
        images = [
            _("They are results of {image} as it was before.").format(image=now)
            if earlier == now
            else _("They are results of {earlier}, and the image of this name is now {now}.").format(
                earlier=earlier, now=now
            )
            for earlier, now in others
        ]
        facts = _("The batch would overwrite files in {folder} ({reasons}).").format(
            folder=self._batch.out, reasons=joined("; ", reasons)
        )
        todo = _("Choose another folder for the results, or move these files.")
        return joined(" ", (facts, *images[:LISTED], todo))

    def _names(self, paths: Sequence[Path]) -> Message:
        """Return the names of files in the folder of results, of many the first ones."""
        names = [path.relative_to(self._batch.out).as_posix() for path in dict.fromkeys(paths)]
        more = [_("and {count} more").format(count=len(names) - LISTED)] if len(names) > LISTED else []
        return joined(", ", [*names[:LISTED], *more])

    def _foreign_tables(self) -> tuple[list[Path], list[Path]]:
        """Return what is in the way of the tables: of another program, and changed after the batch wrote it."""
        out, recorded = self._batch.out, recorded_tables(self._batch.out)
        if recorded is None:  # an earlier version recorded none
            done = any(map(records.read_record, (out / RECORDS).glob("[!.]*.json")))
            recorded = dict.fromkeys(self._tables) if done else {}
        foreign: list[Path] = []
        changed: list[Path] = []
        for path in (out / name for name in self._tables):
            written = recorded.get(path.name, [])
            if os.path.lexists(path) and not is_own(path, written):
                (changed if written else foreign).append(path)
        return foreign, changed

    def _is_of_same_image(self, case: Case, record: records.Row) -> bool:
        """Return whether a case has the input of its record; where that cannot be read, nothing is written."""
        try:
            return self._frames.sha256(case) == record.input_sha256
        except (InputError, OSError):
            return True

    def _written(self, cases: Iterable[Case]) -> Iterator[Path]:
        """Yield every file that the batch would write."""
        for case in cases:
            yield from (*records.outputs(self._batch, case.id), records.record_path(self._batch, case.id))


def _inputs(case: Case) -> Iterator[Path]:
    """Yield the input files of a case, including those that a header names."""
    for source in case.channels:
        with suppress(OSError, ValueError, InputError):  # the row of the case will report it
            yield from source.paths if len(source.paths) > 1 else _files(source.paths[0])


def _files(path: Path) -> Iterator[Path]:
    """Yield a file with those that its header names, or those in a folder."""
    if path.is_dir():
        yield from path.iterdir()
    elif path.is_file():
        yield path
        yield from voxel_files(path)


def _key(path: Path) -> Key | None:
    """Return device and inode of a file, or None if it does not exist."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
