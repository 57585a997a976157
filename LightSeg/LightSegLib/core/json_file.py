"""JSON files of other programs: read within limits, or refused with the reason."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

from .i18n import tr as _

MOST_BYTES = 16 << 20  # Python's values take some twenty times as much memory
MOST_DIGITS = 1000
DEEPEST = 100  # Python's own functions for such values call themselves at each level


def read_json(path: Path, most_bytes: int = MOST_BYTES, nan: bool = False) -> Any:
    """Return the value in a file.

    Args:
        nan: whether NaN and Infinity may occur, which are no JSON but what Python writes.

    Raises:
        OSError: if the file cannot be read or written.
        ValueError: for what is not a file, too large, no JSON in UTF-8, nested too deeply, or holds numbers of too
            many digits or halves of characters, which no other file could hold.
    """
    return parse_json(read_bytes(path, most_bytes).decode("utf-8"), nan)


def parse_json(content: str, nan: bool = False) -> Any:
    """Return the value of a JSON text, within the limits of `read_json`.

    Raises:
        ValueError: for a value that does not fit.
    """
    try:
        value = json.loads(content, parse_int=_integer, parse_constant=None if nan else _no_constant)
    except RecursionError:
        raise ValueError(_("it is nested too deeply")) from None
    _check_depth(value)
    if re.search(r"\\u[dD][89a-fA-F]", content):
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: if the file cannot be read or written.
        ValueError: for a pipe or device, which may never end, and for more than `most_bytes`.
    """
    check_file(path, most_bytes)
    with path.open("rb") as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:  # it has grown
        raise ValueError(_("it is larger than {limit:.0f} MB").format(limit=most_bytes / 1e6))
    return content


def check_file(path: Path, most_bytes: int) -> None:
    """Check that a path is a regular file of a limited size.

    Raises:
        OSError: for what is not there.
        ValueError: for what is not a file of at most `most_bytes`.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError(_("it is not a file"))
    if facts.st_size > most_bytes:
        raise ValueError(_("it is larger than {limit:.0f} MB").format(limit=most_bytes / 1e6))


def _integer(digits: str) -> int:
    """Return an integer of JSON.

    Raises:
        ValueError: if it has more digits than `MOST_DIGITS`.
    """
    if len(digits) > MOST_DIGITS:
        raise ValueError(_("it contains a number with {count} digits").format(count=len(digits)))
    return int(digits)


def _no_constant(name: str) -> None:
    """Refuse NaN and Infinity, which JSON does not have.

    Raises:
        ValueError: always.
    """
    raise ValueError(_("{name} is not a number").format(name=name))


def _check_depth(value: Any) -> None:
    """Check how deeply a value is nested.

    Raises:
        ValueError: if it is nested more than `DEEPEST` times.
    """
    level = [value]
    for _level in range(DEEPEST):
        inner = [entry for entry in level if isinstance(entry, (dict, list))]
        if not inner:
            return
        level = [part for entry in inner for part in (entry.values() if isinstance(entry, dict) else entry)]
    raise ValueError(_("it is nested too deeply"))
