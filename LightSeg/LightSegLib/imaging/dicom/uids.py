"""New UIDs under the root 2.25, which needs no registration: a UUID as one decimal number (PS3.5, annex B.2)."""

from __future__ import annotations

import uuid
from collections.abc import Callable

ROOT = "2.25"
PROJECT = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/lightseg/SlicerLightSeg")

UidMaker = Callable[[str], str]  # from what a UID is for to the UID


def random_uid(_purpose: str = "") -> str:
    """Return a new, unique UID."""
    return f"{ROOT}.{uuid.uuid4().int}"


def derived_uid(purpose: str) -> str:
    """Return the UID that always belongs to this text: that of the UUID of version 5 in the project's own namespace."""
    return f"{ROOT}.{uuid.uuid5(PROJECT, purpose).int}"
