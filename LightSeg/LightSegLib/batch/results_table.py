"""results.csv: a line for each case, made of the records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from ..core.figures import rounded_ml
from . import records
from .settings import Batch
from .tables import write_batch_table


def write_results(batch: Batch, labels: Sequence[str]) -> None:
    """Write the table of all rows.

    Raises:
        OutputError: if the file or folder cannot be written, or the table was changed since it was written.
    """
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
        "cut_off",
        "corrected",
        "notices",
        "error",
    )

    when = ("series", "frame", "time_ms", "time_kind") if any(row.series for row in records.rows(batch)) else ()

    known = {name for row in records.rows(batch) for name in row.expected_dice or {}}  # the model states none of totals
    sure = [label for label in labels if label in known]

    def lines() -> Iterator[Sequence[object]]:
        structures = (*(f"{label} (ml)" for label in labels), *(f"{label} (expected Dice)" for label in sure))
        yield ("case", "status", *when, *structures, *last)
        for row in records.rows(batch):
            found: dict[str, object] = {name: rounded_ml(ml) for name, ml in (row.ml or {}).items()}
            measured = [found.get(label, "") for label in labels]
            measured += [(row.expected_dice or {}).get(label, "") for label in sure]
            facts = asdict(row) | {
                "libraries": format_libraries(row.libraries),
                "cut_off": "; ".join(row.cut_off or []),
                "corrected": "yes" if row.corrected else "",
                "notices": " ".join(row.notices or []),
            }
            of_frame = ("" if facts[name] is None else facts[name] for name in when)
            yield (
                row.case,
                row.status,
                *of_frame,
                *measured,
                *("" if (v := facts[name]) is None else v for name in last),
            )

    write_batch_table(lines(), batch.out / records.TABLE)


def format_libraries(libraries: dict[str, str] | None) -> str:
    """Return libraries with versions as text: "torch 2.13.0, numpy 2.4.6"."""
    return ", ".join(f"{name} {number}" for name, number in (libraries or {}).items())
