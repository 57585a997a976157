"""A file of another program is read within limits, or refused with the reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from LightSegLib.core.json_file import read_json

NESTED = "nested too deeply"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000 + "]" * 100_000, NESTED),
        ("[" * 900 + "]" * 900, NESTED),
        ('{"a": ' * 101 + "1" + "}" * 101, NESTED),
        ("9" * 5000, "a number with 5000 digits"),
        ('"\\ud800"', "surrogates not allowed"),
        ("[NaN]", "NaN is not a number"),
        ("{", "Expecting property name"),
        (" " * 2001, "larger than"),
    ],
)
def test_what_no_program_writes_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=reason):
        read_json(path, 2000 if content.isspace() else 1_000_000)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_pipe_and_a_device_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match="it is not a file"):
            read_json(path)


def test_what_programs_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, -2.5, "\\ud83e\\udde0", null, NaN], "b": ' + "[" * 90 + "]" * 90 + "}", encoding="utf-8")
    found = read_json(path, nan=True)
    assert found["a"][:4] == [1, -2.5, "\N{BRAIN}", None]
