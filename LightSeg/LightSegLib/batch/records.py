"""What is known of every case: a small file each, written last, and the table that is made of them.

A case is done when its record is there, says so, and agrees with the input, the model and the settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..core.atomic_io import output_error, whole_file, write_table
from .case import Case
from .folder import RECORDS
from .settings import Batch

TABLE, PICTURES = "results.csv", "pictures"
DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Row:
    """One case. input: where it was found. ml: volume of every label. run, form: as in `Batch`.

    confidence: mean probability of the labelled voxels, if there are any. peak_mb: most memory that the process held
    meanwhile. device, computed_in, processor, libraries: what computed, as in the provenance of a segmentation.
    error: why a failed one has no result.
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
    form: str = ""
    error: str = ""
    run: str = ""


def segmentation_path(batch: Batch, case: str) -> Path:
    return batch.out / f"{case}.{batch.settings.format}"


def picture_path(batch: Batch, case: str) -> Path:
    return batch.out / PICTURES / f"{case}.png"


def failed(case: Case, batch: Batch, error: str, **facts: object) -> Row:
    """The row of a case without a result."""
    known = (batch.model, batch.model_sha256, batch.settings.sha256())
    return Row(case.id, FAILED, *known, case.where, error=error, run=batch.run, **facts)  # type: ignore[arg-type]


def write_record(row: Row, batch: Batch) -> None:
    """Raises OutputError. What an earlier input has given goes when the case now has none."""
    with whole_file(_record_path(batch, row.case)) as part:
        part.write_text(json.dumps(asdict(row)), encoding="utf-8")
    if row.status == FAILED and row.input_sha256:  # else the input may be out of reach for the moment only
        for path in (segmentation_path(batch, row.case), picture_path(batch, row.case)):
            with suppress(OSError):
                path.unlink()


def forget(case: str, batch: Batch) -> None:
    """Before its files are changed: from now on it is not done. Raises OutputError."""
    path = _record_path(batch, case)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def read_record(path: Path) -> Row | None:
    """None where there is none or it cannot be understood."""
    try:
        return Row(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def finished(case: Case, batch: Batch, input_sha256: str = "") -> Row | None:
    """The row of a case that needs no work any more: same input, model and settings, and the files are there.

    input_sha256: of the case, if it is known; reading the input takes long. Raises InputError as `Case.sha256`.
    """
    row = read_record(_record_path(batch, case.id))
    if row is None or row.status != DONE or not _of(row, batch):
        return None
    files = [segmentation_path(batch, case.id)] + ([picture_path(batch, case.id)] if batch.settings.picture else [])
    if not all(path.is_file() and path.stat().st_size for path in files):  # empty ones come from a power cut
        return None
    return row if row.input_sha256 == (input_sha256 or case.sha256()) else None


def rows(batch: Batch) -> Iterator[Row]:
    """Of all cases that are done with this model and these settings, and of those that failed now; by name."""
    for path in sorted((batch.out / RECORDS).glob("[!.]*.json")):
        row = read_record(path)
        if row is not None and _of(row, batch) and (row.status == DONE or row.run == batch.run):
            yield row


def write_results(batch: Batch, labels: Sequence[str]) -> None:
    """The table of all rows. Raises OutputError."""
    last = (
        "confidence",
        "seconds",
        "peak_mb",
        "device",
        "computed_in",
        "processor",
        "libraries",
        "input",
        "input_sha256",
        "model",
        "model_sha256",
        "settings_sha256",
        "error",
    )

    def lines() -> Iterator[Sequence[object]]:
        yield ("case", "status", *(f"{label} (ml)" for label in labels), *last)
        for row in rows(batch):
            ml = [(row.ml or {}).get(label, "") for label in labels]
            facts = asdict(row) | {"libraries": words_of(row.libraries)}
            yield (row.case, row.status, *ml, *("" if (v := facts[name]) is None else v for name in last))

    write_table(lines(), batch.out / TABLE)


def words_of(libraries: dict[str, str] | None) -> str:
    """ "torch 2.13.0, numpy 2.4.6"."""
    return ", ".join(f"{name} {number}" for name, number in (libraries or {}).items())


def form_of_earlier(batch: Batch) -> str:
    """The form that was decided on for the cases that are done; nothing where none is."""
    return next((row.form for row in rows(batch) if row.status == DONE), "")


def make_folders(batch: Batch) -> None:
    """Raises OutputError."""
    for folder in _folders(batch):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(folder, error) from error


def remove_parts(batch: Batch) -> None:
    """Of files that an interrupted run has left; of one that is still running, too."""
    for folder in _folders(batch):
        for part in folder.glob(".*.part*"):
            with suppress(OSError):
                part.unlink()


def _record_path(batch: Batch, case: str) -> Path:
    return batch.out / RECORDS / f"{case}.json"


def _folders(batch: Batch) -> list[Path]:
    return [batch.out, batch.out / RECORDS] + ([batch.out / PICTURES] if batch.settings.picture else [])


def _of(row: Row, batch: Batch) -> bool:
    return (row.model_sha256, row.settings_sha256) == (batch.model_sha256, batch.settings.sha256())
