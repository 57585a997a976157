"""What in the folder of results is not the batch's to write: its inputs, and all that no record of it names.

Looked at before anything is done, for a scan or an expert's label that is overwritten is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ..core.errors import InputError
from ..core.i18n import joined
from ..core.i18n import tr as _
from ..imaging.detached import voxel_files
from . import records
from .case import Case
from .folder import RECORDS
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
        self._foreign: list[Path] = []  # that would be written
        # Files that are inputs and are beside the results.
        self._inputs: set[Key] = {key} if input_path.is_file() and (key := _key(input_path)) else set()
        self._place_of = lru_cache(maxsize=1000)(_key)

    def check(self, case: Case) -> None:
        """Note the case's inputs in the folder of results, and files in the way of its results."""
        if not self._places:
            return  # there is not a folder of results yet
        for path in _inputs(case):
            if self._place_of(path.parent) in self._places and (key := _key(path)):
                self._inputs.add(key)
        record = records.earlier_record(case.id, self._batch)
        for path in records.outputs(self._batch, case.id):
            if os.path.lexists(path) and not self._is_own(path, record):
                self._foreign.append(path)

    def refuse(self, cases: Iterable[Case]) -> None:
        """Refuse to write over an input, or over a file that is not the batch's.

        Args:
            cases: all that were looked at.

        Raises:
            InputError: that names the files which are inputs or files of another program and would be overwritten.
        """
        written = [self._batch.out / name for name in self._tables]
        foreign = [*self._foreign, *self._foreign_tables()]
        if self._inputs:
            foreign += [path for path in (*written, *self._written(cases)) if _key(path) in self._inputs]
        if names := [path.relative_to(self._batch.out).as_posix() for path in dict.fromkeys(foreign)]:
            more = [_("and {count} more").format(count=len(names) - LISTED)] if len(names) > LISTED else []
            raise InputError(
                _(
                    "The batch would overwrite files in {folder} that are inputs, "
                    "were not written by it or were changed since: {files}. "
                    "Choose another folder for the results, or move these files."
                ).format(folder=self._batch.out, files=joined(", ", [*names[:LISTED], *more]))
            )

    def _foreign_tables(self) -> Iterator[Path]:
        """Yield what is in the way of the tables: of another program, or changed since the batch wrote it."""
        out, recorded = self._batch.out, recorded_tables(self._batch.out)
        if recorded is None:  # an earlier version recorded none
            done = any(map(records.read_record, (out / RECORDS).glob("[!.]*.json")))
            recorded = dict.fromkeys(self._tables) if done else {}
        for name in self._tables:
            if os.path.lexists(out / name) and not is_own(out / name, recorded.get(name, [])):
                yield out / name

    def _is_own(self, path: Path, record: records.Row | None) -> bool:
        """Return whether a file is the batch's to write.

        A case that is done with these settings is not written again, so its name suffices: a corrected result
        does not stop the batch.
        """
        settings = self._batch.settings.sha256()
        if record is not None and (record.status, record.settings_sha256) == (records.DONE, settings):
            return records.names_file(path, record, self._batch)
        return records.is_own(path, record, self._batch)

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
