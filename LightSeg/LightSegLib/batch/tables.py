"""The files of a whole batch, such as results.csv: which of them are the batch's to write.

What was written is recorded by its SHA-256, for a table that was changed since has the notes of a reviewer in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.atomic_io import atomic_write, output_error, write_rows
from ..core.errors import OutputError
from ..core.file_hash import sha256
from ..core.i18n import tr as _
from ..core.json_file import read_json
from .folder import RECORDS

TABLES = ".tables.json"  # among the records
FORMER_TABLES = {"misfits.csv"}  # names that earlier versions gave to a table of the batch
Written = list[str] | None  # SHA-256 of what a file may hold; None: any, for an earlier version recorded names alone


def recorded_tables(out: Path) -> dict[str, Written] | None:
    """Return what is recorded of the tables in a folder of results, by name; None where nothing is."""
    try:
        found = read_json(out / RECORDS / TABLES)
    except (OSError, ValueError):
        return None
    if isinstance(found, list):
        return {name: None for name in found if isinstance(name, str)}
    if not isinstance(found, dict):
        return None
    return {name: list(map(str, hashes)) if isinstance(hashes, list) else None for name, hashes in found.items()}


def is_own(table: Path, written: Written) -> bool:
    """Return whether a file is as it was written; an empty one comes from a power cut."""
    try:
        return written is None or not table.stat().st_size or sha256(table) in written
    except OSError:  # a folder, or out of reach
        return False


def record_tables(out: Path, names: Iterable[str]) -> None:
    """Note that files are the batch's, which was checked, and remove its table of a former name.

    Raises:
        OutputError: if the file or folder cannot be written.
    """
    recorded = recorded_tables(out) or {}
    for name in FORMER_TABLES & recorded.keys():
        try:
            (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(out / name, error) from error
        del recorded[name]
    for name in names:
        if recorded.get(name) is None:
            recorded[name] = _hashes(out / name)
    _record(out, recorded)


@contextmanager
def replace_table(table: Path) -> Iterator[Path]:
    """As `atomic_write`, but what was changed since it was written is not replaced, also while the batch ran.

    Raises:
        OutputError: for such a file, too.
    """
    with atomic_write(table) as part:
        yield part
        recorded = recorded_tables(table.parent) or {}
        if os.path.lexists(table) and not is_own(table, recorded.get(table.name, [])):
            kept = _("{file} was not written by the batch, so it was not replaced. Move it, or rename it.")
            if recorded.get(table.name):
                kept = _("{file} was changed after the batch wrote it, so it was not replaced. Move it, or rename it.")
            raise OutputError(kept.format(file=table))
        # Before it gets its name: whenever the program is killed, the file is one of the two.
        _record(table.parent, recorded | {table.name: [*_hashes(table), sha256(part)]})


def write_batch_table(rows: Iterable[Iterable[object]], table: Path) -> None:
    """Write rows, the header first, as CSV without formulas.

    Raises:
        OutputError: as `replace_table` does.
    """
    with replace_table(table) as part:
        write_rows(rows, part)


def remove_table(table: Path) -> None:
    """Remove a table that has nothing to state any more; one that was changed, or is of another program, stays."""
    recorded = recorded_tables(table.parent) or {}
    if table.name in recorded and is_own(table, recorded[table.name]):
        with suppress(OSError):
            table.unlink()


def _hashes(table: Path) -> list[str]:
    """Return the SHA-256 of a file as a list, empty where there is none."""
    return [sha256(table)] if table.is_file() else []


def _record(out: Path, tables: dict[str, Written]) -> None:
    """Write what is known of the tables in a folder of results.

    Raises:
        OutputError: if the file or folder cannot be written.
    """
    path = out / RECORDS / TABLES
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path.parent, error) from error
    with atomic_write(path) as part:
        part.write_text(json.dumps(tables, indent=2), encoding="utf-8")
