"""The cases of a CSV file with the column `case` and one for each channel; paths are relative to its folder."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..catalog.card import Card
from ..core.errors import InputError
from ..core.i18n import tr as _
from ..core.json_file import check_file
from ..imaging.image_names import case_name
from .case import Case, SkippedInput, Source

MOST_BYTES = 256 << 20  # a million cases
SHOWN, LONGEST_NAME = 10, 50  # columns in a message, and letters of their names


def cases_in_manifest(manifest: Path, card: Card) -> Iterator[Case | SkippedInput]:
    """Yield the cases that a CSV file lists.

    Raises:
        InputError: for a file that is not a such table.
    """
    try:
        check_file(manifest, MOST_BYTES)
        with manifest.open(newline="", encoding="utf-8-sig") as stream:
            header = stream.readline()
            stream.seek(0)
            rows = csv.reader(stream, delimiter=";" if ";" in header and "," not in header else ",")
            columns = _columns(next(rows, []), card, manifest)
            for row in rows:
                if any(row):
                    yield _case_of(row, columns, card, manifest.parent)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            _("{file} cannot be read ({reason}). Save it as CSV in UTF-8.").format(file=manifest.name, reason=error)
        ) from error


def _columns(header: Sequence[str], card: Card, manifest: Path) -> list[int]:
    """Return the columns of the case's name and of each channel, by their names or else by order."""
    names = [name.strip().casefold() for name in header]
    channels = [channel.casefold() for channel in card.channels]
    if "case" in names:
        others = [number for number, name in enumerate(names) if name != "case"]
        if set(channels) <= set(names):
            return [names.index(name) for name in ("case", *channels)]
        if len(others) == len(channels):
            return [names.index("case"), *others]
    raise InputError(
        _("The columns of {file} are {columns}, but must be: case, {channels}. Correct its first line.").format(
            file=manifest.name, columns=_words(header), channels=", ".join(card.channels)
        )
    )


def _words(header: Sequence[str]) -> str:
    """Return the names of the columns for a message, the first ones of many."""
    more = f" and {len(header) - SHOWN} more" if len(header) > SHOWN else ""
    return (", ".join(name[:LONGEST_NAME] for name in header[:SHOWN]) or str(_("none"))) + more


def _case_of(row: Sequence[str], columns: Sequence[int], card: Card, folder: Path) -> Case | SkippedInput:
    """Return the case in a row of the table, or why it is skipped."""
    case, *paths = (row[column].strip() if column < len(row) else "" for column in columns)
    if not all(paths):
        return SkippedInput(
            case or ", ".join(row), _("has no file for {channel}").format(channel=card.channels[paths.index("")])
        )
    return Case(case or case_name(Path(paths[0])), tuple(Source((folder / path,)) for path in paths))
