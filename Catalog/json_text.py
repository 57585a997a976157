"""JSON that a person can read and compare: what is short stays on one line."""

from __future__ import annotations

import json
from typing import Any

WIDTH = 110


def as_text(value: Any, indent: str = "") -> str:
    """Return a JSON value as text, on one line where it has room."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= WIDTH or not isinstance(value, (dict, list)):
        return line
    deeper = indent + "  "
    if isinstance(value, dict):
        entries = [f"{json.dumps(key, ensure_ascii=False)}: {as_text(entry, deeper)}" for key, entry in value.items()]
    elif all(isinstance(entry, (int, float, str)) or entry is None for entry in value):
        return _filled(value, deeper, indent)
    else:
        entries = [as_text(entry, deeper) for entry in value]
    begin, end = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{begin}\n{deeper}" + f",\n{deeper}".join(entries) + f"\n{indent}{end}"


def _filled(values: list[Any], deeper: str, indent: str) -> str:
    """Return a list of words and numbers, as many on a line as have room."""
    lines, line = [], ""
    for entry in (json.dumps(value, ensure_ascii=False) for value in values):
        if line and len(deeper) + len(line) + len(entry) > WIDTH:
            lines.append(line)
            line = ""
        line += f"{' ' if line else ''}{entry},"
    lines.append(line.rstrip(","))
    return f"[\n{deeper}" + f"\n{deeper}".join(lines) + f"\n{indent}]"
