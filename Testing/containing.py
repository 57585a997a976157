"""Whether one thing made of dicts and lists has all that another one has."""

from __future__ import annotations

from typing import Any


def assert_contains(whole: Any, part: Any) -> None:
    """Every fact of `part` is in `whole`, which may have more fields."""
    if isinstance(part, dict):
        for key, value in part.items():
            assert_contains(whole[key], value)
    elif isinstance(part, list):
        assert len(whole) == len(part)
        for one, other in zip(whole, part, strict=True):
            assert_contains(one, other)
    else:
        assert whole == part
