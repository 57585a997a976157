"""Text for a report in which nothing names a patient or a user: no folder, no file, no name that is given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# Folders from which on a path names parts of programs, which a report needs.
PROGRAMS = re.compile(r"(?:^|[/\\])((?:LightSegLib|site-packages|dist-packages|python3\.\d+)[/\\].*)$")
START = r"(?:(?<![A-Za-z])[A-Za-z]:[/\\]|\\\\|(?<![\w:/])//|(?<![\w:/<>.-])~?/)(?=[^\s/\\])"
# A folder may hold spaces, since a separator follows. The last name is known to go on after a space where it ends in an
# extension, or where what follows has a capital, a digit or a mark, as the names of patients do.
FOLDERS = r"(?:[^/\\\n\"'<>|:*?]+[/\\])*"
NAME = r"(?:[^/\\\n\"'<>|:*?]*?\.[A-Za-z]\w{0,4}(?:\.gz)?\b|[^/\\\s\"'<>|:*?]*(?: [A-Z\d^_][^/\\\s\"'<>|:*?.,;)]*)*)"
FILE_ADDRESS = re.compile(r"file://[^\s\"'<>]+")
PATH = re.compile(START + FOLDERS + NAME)
SHORTEST = 2  # letters of a name that is looked for


def anonymous(text: str, names: Iterable[str] = ()) -> str:
    """`text` without what may name a patient or a user.

    Args:
        text: what a program wrote.
        names: what else must not be in it, such as those of volumes, which scanners fill with patients' names.

    Returns:
        The text with every path as `<path>`, with the file's extension where it has one and with the part of it that
        belongs to a program, and with every given name as `<name>`.
    """
    text = FILE_ADDRESS.sub("<path>", text.replace(str(Path.home()), "~"))
    text = PATH.sub(lambda found: _shown(found[0]), text)
    for name in sorted({name.strip() for name in names}, key=len, reverse=True):
        if len(name) >= SHORTEST:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "<name>", text)
    return text


def _shown(path: str) -> str:
    """Return what is in a path's place."""
    known = PROGRAMS.search(path)
    if known:
        return f"<path>/{known[1]}"
    end = re.search(r"((?:\.[A-Za-z]\w{0,4})(?:\.gz)?)$", path)
    rest = re.search(r"[.,;)]+$", path)
    return f"<path>{end[1] if end else rest[0] if rest else ''}"
