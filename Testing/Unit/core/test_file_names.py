"""Names of files that every file system takes, and takes for different ones."""

from __future__ import annotations

import pytest
from LightSegLib.core.file_names import file_name, unique_file_name


@pytest.mark.parametrize(
    ("text", "name"), [("../../x", "_.._x"), ("con.1", "_con.1"), ("a:b*c ", "a_b_c"), ("", "_"), ("ü" * 200, "ü" * 90)]
)
def test_names_fit_every_file_system(text: str, name: str) -> None:
    assert file_name(text) == name


def test_names_that_some_disk_takes_for_the_same_get_numbers() -> None:
    taken: set[bytes] = set()
    names = ["Rück", "Ru\u0308ck", "RÜCK", "ruck", "a/b", "a:b"]
    assert [unique_file_name(name, taken) for name in names] == [
        "Rück", "Ru\u0308ck (2)", "RÜCK (3)", "ruck", "a_b", "a_b (2)"
    ]  # fmt: skip
