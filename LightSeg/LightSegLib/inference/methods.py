"""The sentence for a paper or a report on how a segmentation was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FACTS = (("model", "model {}"), ("version", "version {}"), ("weights_sha256", "weights SHA-256 {:.12}"))


def methods_sentence(provenance: Mapping[str, Any], structures: list[str]) -> str:
    """Return the sentence for a paper, from a `Segmentation`'s provenance and the names of its segments."""
    settings = provenance.get("settings") or {}
    ways = [f"computed in {provenance['computed_in']}"] if provenance.get("computed_in") else []
    if settings.get("mirror"):
        ways.append("averaged over mirror images")
    how = f", {' and '.join(ways)}" if ways else ""
    names = [_within_sentence(name) for name in structures]
    named = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
    subject = f"{named[:1].upper()}{named[1:]}" if named else "The structures"
    verb = "was" if len(structures) == 1 else "were"
    known = [
        sentence.format(provenance[key])
        for key, sentence in (
            ("model", "model {}"),
            ("version", "version {}"),
            ("weights_sha256", "weights SHA-256 {:.12}"),
        )
        if provenance.get(key)
    ]
    software = f"LightSeg {provenance.get('lightseg', '')}".strip()
    citation = provenance.get("citation", "")
    return (
        f"{subject} {verb} segmented automatically with {software} in 3D Slicer ({', '.join(known)}{how}). {citation}"
    ).rstrip()


def _within_sentence(name: str) -> str:
    """Return a name as it is written within a sentence; abbreviations keep their capitals."""
    return name[0].lower() + name[1:] if name[1:2].islower() else name
