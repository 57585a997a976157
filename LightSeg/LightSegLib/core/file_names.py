"""Names of files that every file system takes, and takes for different ones."""

from __future__ import annotations

import hashlib
import re
import unicodedata

LONGEST_NAME = 180  # bytes, so that with an ending every file system takes it


def unique_file_name(text: str, taken: set[bytes]) -> str:
    """Return a file name for a text; one that is taken gets a number.

    Capitals and the form of accents do not make a difference, since not every disk distinguishes them.

    Args:
        text: for example the name of a case or of a structure.
        taken: what the names before were, for this function alone; the new one is added.
    """
    name = wanted = file_name(text)
    number = 1
    while (key := _key(name)) in taken:
        number += 1
        name = f"{wanted} ({number})"
    taken.add(key)
    return name


def file_name(text: str) -> str:
    """Return a file name as close to the text as every file system allows."""
    name = text.encode("utf-8", "replace").decode()
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).strip(". ")
    name = name.encode("utf-8", "replace")[:LONGEST_NAME].decode("utf-8", "ignore").strip(". ")
    reserved = re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name, re.IGNORECASE)
    return f"_{name}" if reserved or not name else name


def _key(name: str) -> bytes:
    """Return a short key that is equal for names that some file system takes for the same."""
    return hashlib.blake2b(unicodedata.normalize("NFC", name).casefold().encode(), digest_size=16).digest()
