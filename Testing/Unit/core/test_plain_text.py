"""What files, servers and images call themselves is shown, never obeyed, and no password is shown."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from LightSegLib.core.atomic_io import write_table
from LightSegLib.core.errors import InputError
from LightSegLib.core.plain_text import plain, public_address, without_secrets
from LightSegLib.worker.messages import error_message


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://example.org/a/b.pth", "https://example.org/a/b.pth"),
        ("https://bob:geheim@example.org/b.pth", "https://example.org/b.pth"),
        ("https://geheim@example.org/b.pth", "https://example.org/b.pth"),
        ("https://bob:ge@geheim@example.org/b.pth", "https://example.org/b.pth"),
        ("https://bob:ge/heim@example.org/b.pth", "https://example.org/b.pth"),
        ("https://bob:geheim/@example.org/b.pth", "https://example.org/b.pth"),
        ("https://bob:ge?heim@example.org/b.pth", "https://example.org/b.pth"),
        ("https://bob:ge#heim@example.org/b.pth", "https://example.org/b.pth"),
        ("https://bob:geheim@example.org:99999/b.pth", "https://example.org:99999/b.pth"),
        ("https://bob:geheim@[::1/b.pth", "https://[::1/b.pth"),
        ("https://example.org/b.pth?token=geheim&x=1", "https://example.org/b.pth?..."),
        ("https://example.org/b.pth#geheim", "https://example.org/b.pth"),
        ("https://example.org/@scope/b.pth", "https://example.org/@scope/b.pth"),
        ("https://example.org:8443/@scope/b.pth", "https://example.org:8443/@scope/b.pth"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, shown: str) -> None:
    assert public_address(address) == shown
    assert "geheim" not in without_secrets(f"Failed to parse: {address}, again '{address}'")


def test_what_is_cut_already_stays_a_part_of_its_sentence() -> None:
    words = "https://example.org/b.pth?...: the file is not there (see https://example.org/a?...)."
    assert without_secrets(words) == words


def test_errors_are_shown_logged_and_recorded_without_passwords_and_escapes() -> None:
    words = "There is no model 'http://bob:geheim@example.org'\x1b[2J\x9b1m. Choose\nanother."
    assert str(InputError(words)) == "There is no model 'http://example.org'\\u001b[2J\\u009b1m. Choose\nanother."
    assert error_message(OSError(words))["message"] == str(InputError(words))


def test_text_keeps_its_letters_and_loses_what_acts() -> None:
    assert plain("Größe\t\N{BRAIN}\n") == "Größe\t\N{BRAIN}\n"
    assert plain("abc\u202egnp.exe\r", lines=False) == "abc\\u202egnp.exe\\u000d"
    assert plain("a\nb", lines=False) == "a\\nb"


def test_a_table_has_no_formulas(tmp_path: Path) -> None:
    formulas = ["=1+1", "+1+cmd", "-2+3", "@SUM(1)", "\t=1+1", " =1+1", '=HYPERLINK("http://example.org","click")']
    harmless = ["a=1", "Fall 1", "-2.5", "+3", "-inf", "", "Müller"]
    write_table([formulas, harmless, [-1, 2.5, None, True, "a\x1b[2Jb", "", ""]], tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        first, second, third = csv.reader(stream)
    assert all(text.startswith("'") for text in first)
    assert [text.removeprefix("'").replace("\\u0009", "\t") for text in first] == formulas
    assert second == harmless
    assert third == ["-1", "2.5", "", "True", "a\\u001b[2Jb", "", ""]
