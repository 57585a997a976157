"""What is known of every case: a small file each, written last.

A case is done when its record exists, states it, and agrees with the input, the model and the settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..core.atomic_io import atomic_write, output_error
from ..core.errors import InputError
from ..core.file_hash import sha256
from ..core.i18n import tr as _
from ..core.json_file import read_json
from ..core.leftovers import PART, remove_abandoned
from .case import Case
from .folder import RECORDS
from .settings import Batch

TABLE, PICTURES = "results.csv", "pictures"
RENAMED = {"form": "backend"}  # fields of records by the names that they once had
DONE, FAILED, BEGUN = "done", "failed", "begun"  # begun: its files are being written, or that was interrupted


@dataclass(frozen=True)
class Row:
    """The record of one case.

    Attributes:
        input: where it was found.
        ml: volume of every label.
        run: as in `Batch`.
        backend: as in `Batch`.
        confidence: mean probability of the labeled voxels, if there are any.
        expected_dice: of the labels, where the model states it.
        peak_mb: most memory that the process held meanwhile.
        device: what computed, as in the provenance of a segmentation.
        computed_in: what computed, as in the provenance of a segmentation.
        processor: what computed, as in the provenance of a segmentation.
        libraries: what computed, as in the provenance of a segmentation.
        notices: what a user should know of a result.
        error: why a failed one has no result.
        files: of the case in the folder of results, with the SHA-256 of what was written, or nothing where that is
            not known; None in records of earlier versions.
        series: over time of which the case is a frame, with its number from 1, its time if that is known, and what
            this counts from (see `core.moment`).
        series_id: as in `Case`.
        cut_off: names of the labels that reach the border of the image or region, so that a part may be missing; None
            in records of earlier versions.
        corrected: SHA-256 of the segmentation where it was changed after the batch wrote it.
        corrected_ml: its volumes, None where it could not be read as labels.
    """

    case: str
    status: str
    model: str
    model_sha256: str
    settings_sha256: str
    input: str = ""
    input_sha256: str = ""
    ml: dict[str, float] | None = None
    confidence: float | None = None
    seconds: float = 0.0
    peak_mb: float | None = None
    device: str | None = None
    computed_in: str | None = None
    processor: str | None = None
    libraries: dict[str, str] | None = None
    backend: str = ""
    notices: list[str] | None = None
    error: str = ""
    run: str = ""
    files: dict[str, str] | None = None
    series: str = ""
    frame: int | None = None
    time_ms: float | None = None
    time_kind: str = ""
    expected_dice: dict[str, float] | None = None
    series_id: str = ""
    cut_off: list[str] | None = None
    corrected: str = ""
    corrected_ml: dict[str, float] | None = None

    @property
    def shown(self) -> Row:
        """The row as tables have it: of a segmentation that was corrected, without what holds for the model's alone."""
        if not self.corrected:
            return self
        notice = _(
            "This segmentation was corrected: its file was changed after the batch wrote it. The volumes are those of "
            "the changed file; a picture shows the segmentation as it was before."
        )
        if self.corrected_ml is None:
            notice = _(
                "The file of this segmentation was changed after the batch wrote it, and cannot be read as labels, so "
                "its volumes are not known. Save it as a label map, or delete it to have it computed again."
            )
        notices = [*(self.notices or []), notice]
        return replace(self, ml=self.corrected_ml, confidence=None, expected_dice=None, cut_off=None, notices=notices)

    @property
    def image_id(self) -> str:
        """What is the same for all frames of one image over time, and for no other; nothing where it is not known."""
        return self.series_id or self.input_sha256


def segmentation_path(batch: Batch, case: str) -> Path:
    """Return the path of a case's segmentation."""
    return batch.out / f"{case}.{batch.settings.ending}"


def picture_path(batch: Batch, case: str) -> Path:
    """Return the path of a case's picture."""
    return batch.out / PICTURES / f"{case}.png"


def record_path(batch: Batch, case: str) -> Path:
    """Return the path of a case's record."""
    return batch.out / RECORDS / f"{case}.json"


def failed(case: Case, batch: Batch, error: str, **facts: object) -> Row:
    """Return the row of a case that has no result."""
    known = (batch.model, batch.model_sha256, batch.settings.sha256())
    facts |= over_time(case)
    return Row(case.id, FAILED, *known, case.where, error=error, run=batch.run, **facts)  # type: ignore[arg-type]


def over_time(case: Case) -> dict[str, Any]:
    """Return the fields of a row that identify the frame of a series over time; none for another case."""
    if (moment := case.moment) is None:
        return {}
    kind = "" if moment.ms is None else moment.kind
    return {
        "series": case.series,
        "series_id": case.series_id,
        "frame": moment.number,
        "time_ms": moment.ms,
        "time_kind": kind,
    }


def renew_moment(row: Row, case: Case, batch: Batch) -> Row:
    """Return the row of a case that is done, as the frame that it is now: files of other frames may have come or gone.

    Raises:
        OutputError: if the record cannot be written.
    """
    renewed = replace(row, **over_time(case))
    if renewed != row:
        save(renewed, batch)
    return renewed


def outputs(batch: Batch, case: str) -> list[Path]:
    """Return the files of a case."""
    return [segmentation_path(batch, case)] + ([picture_path(batch, case)] if batch.settings.picture else [])


def begin(case: Case, batch: Batch) -> None:
    """Record, before the files of a case are written, that they are the batch's and the case is not done.

    Raises:
        InputError: if one is not.
        OutputError: if the file or folder cannot be written.
    """
    earlier, paths = earlier_record(case.id, batch), outputs(batch, case.id)
    for path in paths:
        if os.path.lexists(path) and not is_own(path, earlier, batch):
            kept = _("{file} was not written by this batch. Move it, or choose another folder for the results.")
            if names_file(path, earlier, batch):
                kept = _("{file} was changed after the batch wrote it. Move it, or choose another folder.")
            raise InputError(kept.format(file=path))
    files = _existing(earlier, batch) | {_name(path, batch): "" for path in paths}
    known = (batch.model, batch.model_sha256, batch.settings.sha256())
    save(Row(case.id, BEGUN, *known, run=batch.run, files=files, **over_time(case)), batch)


def write_record(row: Row, batch: Batch) -> None:
    """Write the record of a case.

    A result of an earlier input is deleted if the case has none now.

    Raises:
        OutputError: if the file or folder cannot be written.
    """
    earlier, files = earlier_record(row.case, batch), {}
    if row.status == DONE:
        files = {_name(path, batch): sha256(path) for path in outputs(batch, row.case)}
    elif row.input_sha256 and (earlier is None or earlier.input_sha256 != row.input_sha256):
        # Without a hash the input may be out of reach for the moment only.
        for path in outputs(batch, row.case):
            if is_own(path, earlier, batch):
                with suppress(OSError):
                    path.unlink()
    save(replace(row, files=_existing(earlier, batch) | files), batch)


def remove_results(row: Row, batch: Batch) -> list[Path]:
    """Remove the record of a case and the files that it names; return those that stay, since they were changed.

    Raises:
        OutputError: if the record cannot be removed.
    """
    stay = []
    for path in (batch.out / name for name in _existing(row, batch)):
        if not is_own(path, row, batch):
            stay.append(path)
            continue
        with suppress(OSError):
            path.unlink()
    path = record_path(batch, row.case)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    return stay


def names_file(path: Path, record: Row | None, batch: Batch) -> bool:
    """Return whether the record of a case names this file in the folder of results."""
    return _name(path, batch) in _named(record, batch)


def is_own(path: Path, earlier: Row | None, batch: Batch) -> bool:
    """Return whether the record of a case lists a file that has not changed since."""
    written = _named(earlier, batch).get(_name(path, batch))
    try:
        return written is not None and (written in ("", sha256(path)) or not path.stat().st_size)
    except OSError:  # a folder, or out of reach
        return False


def save(row: Row, batch: Batch) -> None:
    """Write a row as the record of its case.

    Raises:
        OutputError: if the record cannot be written.
    """
    with atomic_write(record_path(batch, row.case)) as part:
        part.write_text(json.dumps(asdict(row)), encoding="utf-8")


def _named(row: Row | None, batch: Batch) -> dict[str, str]:
    """Return the files that a record names, with their SHA-256 or nothing where that is not known."""
    if row is None or row.files is not None:
        return {} if row is None else row.files or {}
    if row.settings_sha256 != batch.settings.sha256():
        return {}
    return {_name(path, batch): "" for path in outputs(batch, row.case)}  # of a version that named none


def _existing(row: Row | None, batch: Batch) -> dict[str, str]:
    """Return the recorded files that still exist: another program may take the name of one that is gone."""
    return {name: written for name, written in _named(row, batch).items() if (batch.out / name).is_file()}


def _name(path: Path, batch: Batch) -> str:
    """Return a file's path in the folder of results, with slashes."""
    return path.relative_to(batch.out).as_posix()


def read_record(path: Path) -> Row | None:
    """Return the row in a record, or None if there is none that can be read.

    Fields of newer versions are left out.
    """
    try:
        return _row_in(path)
    except OSError:
        return None


def _row_in(path: Path) -> Row | None:
    """Return the row in a record, or None for one that is damaged.

    Raises:
        OSError: if the file cannot be read.
    """
    known = {one.name for one in fields(Row)}
    try:
        content = read_json(path, nan=True)
        row = Row(**{new: content[name] for name in content if (new := RENAMED.get(name, name)) in known})
    except (ValueError, TypeError, AttributeError):
        return None
    return row if _is_sound(row) else None


def _is_sound(row: Row) -> bool:
    """Return whether every field has the type that it should have, in a file that any program may have written."""
    text = (
        "case",
        "status",
        "model",
        "model_sha256",
        "settings_sha256",
        "input",
        "input_sha256",
        "backend",
        "error",
        "run",
        "series",
        "series_id",
        "time_kind",
        "corrected",
    )
    maybe_text = ("device", "computed_in", "processor")
    numbers = [
        row.seconds,
        *(value for value in (row.confidence, row.peak_mb, row.time_ms, row.frame) if value is not None),
    ]
    for measured in (row.ml, row.expected_dice, row.corrected_ml):
        numbers += (measured or {}).values() if isinstance(measured, dict | None) else [None]
    tables = [table for table in (row.libraries, row.files) if table is not None]
    return (
        all(isinstance(getattr(row, name), str) for name in text)
        and all(isinstance(getattr(row, name), str | None) for name in maybe_text)
        and all(isinstance(number, int | float) for number in numbers)
        and all(isinstance(table, dict) and all(isinstance(entry, str) for entry in table.values()) for table in tables)
        and all(_is_texts(texts) for texts in (row.notices, row.cut_off))
    )


def _is_texts(value: object) -> bool:
    """Return whether a value is a list of texts, or nothing."""
    return value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def earlier_record(case: str, batch: Batch) -> Row | None:
    """Return the record of a case, of any model.

    A damaged record counts as one of the files that these settings give.

    Raises:
        InputError: for one that is out of reach: it may name a result that was corrected.
    """
    path = record_path(batch, case)
    damaged = Row(case, FAILED, "", "", batch.settings.sha256())
    try:
        return _row_in(path) or (damaged if path.is_file() else None)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(
            _(
                "{file} cannot be read ({reason}), so it is not known which results are the batch's. "
                "Ask its owner for the permission to read it, or choose another folder for the results."
            ).format(file=path, reason=error.strerror or error)
        ) from error


def finished(case: Case, batch: Batch, input_sha256: str = "") -> Row | None:
    """Return the row of a case that is done already: same input, model and settings, and its files exist.

    Args:
        input_sha256: of the case, if it is known; reading the input takes long.

    Raises:
        InputError: as `Case.sha256`.
    """
    row = read_record(record_path(batch, case.id))
    if row is None or row.status != DONE or not is_of(row, batch):
        return None
    files = outputs(batch, case.id)
    if not all(path.is_file() and path.stat().st_size for path in files):  # empty ones come from a power cut
        return None
    return row if row.input_sha256 == (input_sha256 or case.sha256()) else None


def rows(batch: Batch) -> Iterator[Row]:
    """Yield the rows of all cases that are done with this model and settings, or failed in this run, by name.

    As tables have them (see `Row.shown`).
    """
    for row in all_rows(batch):
        if is_of(row, batch) and (row.status == DONE or (row.status == FAILED and row.run == batch.run)):
            yield row.shown


def all_rows(batch: Batch) -> Iterator[Row]:
    """Yield the rows of all records in the folder of results, of any model and settings, by name."""
    for path in sorted((batch.out / RECORDS).glob("[!.]*.json")):
        if (row := read_record(path)) is not None:
            yield row


def earlier_backend(batch: Batch) -> str:
    """Return the backend of the cases that are done, or an empty text if there are none."""
    return next((row.backend for row in rows(batch) if row.status == DONE), "")


def make_folders(batch: Batch) -> None:
    """Create the folders of a batch's results.

    Raises:
        OutputError: if the file or folder cannot be written.
    """
    for folder in _folders(batch):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(folder, error) from error


def remove_parts(batch: Batch) -> None:
    """Remove unfinished files that killed programs have left."""
    for folder in _folders(batch):
        remove_abandoned(folder, PART)


def _folders(batch: Batch) -> list[Path]:
    """Return the folders that the batch writes to."""
    return [batch.out, batch.out / RECORDS] + ([batch.out / PICTURES] if batch.settings.picture else [])


def is_of(row: Row, batch: Batch) -> bool:
    """Return whether a row is of this batch's model and settings."""
    return (row.model_sha256, row.settings_sha256) == (batch.model_sha256, batch.settings.sha256())
