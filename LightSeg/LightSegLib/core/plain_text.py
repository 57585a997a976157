"""Text from files, servers and images, made harmless for those who read it: no passwords, nothing that acts."""

from __future__ import annotations

import re
from html import escape

# What a terminal or an editor obeys instead of showing it: control characters, and those that turn the direction.
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet computes (OWASP: CSV Injection)
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s<>\"']+")


def plain(text: str, lines: bool = True) -> str:
    """`text` with characters that act as JSON writes them.

    Args:
        lines: whether line breaks and tabs stay.
    """
    text = ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text if lines else text.replace("\n", "\\n").replace("\t", "\\t")


def cell(value: object) -> object:
    """Return a value for a table in CSV: text that a spreadsheet would compute begins with an apostrophe there."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    if value.lstrip(" ").startswith(FORMULA) and not _is_number(value):
        return f"'{text}"
    return text


def for_page(text: str) -> str:
    """Return a text as HTML that shows it, markup and all, without characters that act."""
    return escape(plain(text))


def without_secrets(text: str) -> str:
    """`text` in which no address has a user name, a password, or what comes after a question mark."""
    return ADDRESS.sub(lambda found: public_address(found[0]), text)


def public_address(address: str) -> str:
    """Return an address for people and records, cut as above, also where it cannot be parsed.

    A password may hold '/', '?', '#' and '@', so all before the last '@' goes; but for one that begins the name of a
    file or folder and has no password before it.
    """
    scheme, _, rest = address.partition("://")
    before, at, after = rest.rpartition("@")
    if at and (not before.endswith("/") or re.search(r":(?!\d+(/|$))", before)):
        rest = after
    shown, mark, query = rest.partition("?")
    behind = query[3:] if re.fullmatch(r"\.{3}[.,:;)]*", query) else ""  # it is cut already, within a sentence
    return f"{scheme}://{shown.partition('#')[0]}{mark and '?...'}{behind}"


def _is_number(text: str) -> bool:
    """Return whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
