"""Every text for the user can be translated, has all its fields, and names what to do."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from string import Formatter

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "Documentation"))

# ruff: noqa: E402 (the path must be set first)
import message_list as listing

MESSAGES = list(listing.messages())
# Shown as they are; others are parts of such a message.
WHOLE = ("InputError", "ModelError", "OutputError", "DeviceError", "DownloadError", "DiskFullError", "LightSegError")
NOT_TRANSLATED = ("core/i18n.py",)  # its errors are for programmers


def fields(template: str) -> set[str]:
    return {name for _text, name, _specification, _conversion in Formatter().parse(template) if name is not None}


def test_the_list_has_messages_of_all_kinds():
    assert len(MESSAGES) > 500
    assert {"InputError", "ModelError", "FieldError", "progress", "window", "part"} <= {one.kind for one in MESSAGES}


@pytest.mark.parametrize("path", sorted(listing.LIBRARY.rglob("*.py")), ids=lambda path: path.stem)
def test_no_error_reason_or_progress_step_lacks_its_mark(path):
    if path.relative_to(listing.LIBRARY).as_posix() not in NOT_TRANSLATED:
        assert list(listing.unmarked(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        'raise InputError("It is empty. Choose another.")',
        'raise InputError(f"{path} is empty. Choose another.")',
        'raise ValueError("it is empty" if empty else _("it is full"))',
        'error = ModelError(f"{path}" + more)',
        'reporter.step(f"Reading {path}")',
        'progress(Progress("Reading"))',
        'yield SkippedInput(path, "is empty")',
    ],
)
def test_a_text_without_a_mark_would_be_found(line):
    assert list(listing.unmarked(line))


@pytest.mark.parametrize("text", ['_(f"{path} is empty")', "_(text)", '_("a", "b")'])
def test_a_mark_that_translators_would_not_see_would_be_found(text):
    with pytest.raises(ValueError, match="one literal"):
        list(listing.messages_in(text, "file.py"))


def test_every_field_is_filled_in_and_every_value_is_used():
    wrong = [one for one in MESSAGES if one.fields is not None and set(one.fields) != fields(one.text)]

    assert not wrong


def test_an_error_states_what_is_wrong_and_what_to_do():
    """Two sentences at least; or one, after another message as a whole."""
    short = [
        f"{one.file}:{one.line} {one.text}"
        for one in MESSAGES
        if one.kind in WHOLE and not re.search(r"[.:}]\s.*[.}]$", one.text, re.DOTALL)
    ]

    assert not short


def test_the_page_lists_every_message_with_its_condition():
    page = listing.page()

    assert page.count("\n| ") >= len(MESSAGES)
    assert "or choose another file. | InputError | `readers.missing` | `path.is_symlink()` |" in page
