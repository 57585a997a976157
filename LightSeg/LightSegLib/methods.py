"""The sentence that tells, in a paper or a report, how a segmentation came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def methods_sentence(provenance: Mapping[str, Any], structures: list[str]) -> str:
    """From the provenance of a `Segmentation` and the names of its segments."""
    settings = provenance.get("settings") or {}
    ways = [
        words
        for name, words in (("full_precision", "in full precision"), ("mirror", "averaged over mirror images"))
        if settings.get(name)
    ]
    how = f", {' and '.join(ways)}" if ways else ""
    names = [_within_sentence(name) for name in structures]
    named = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
    subject = f"{named[:1].upper()}{named[1:]}" if named else "The structures"
    verb = "was" if len(structures) == 1 else "were"
    return (
        f"{subject} {verb} segmented automatically with LightSeg {provenance['lightseg']} in 3D Slicer "
        f"(model {provenance['model']}, version {provenance['version']}, "
        f"weights SHA-256 {str(provenance['weights_sha256'])[:12]}{how}). {provenance['citation']}"
    )


def _within_sentence(name: str) -> str:
    """Without its capital, unless it is an abbreviation."""
    return name[0].lower() + name[1:] if name[1:2].islower() else name
