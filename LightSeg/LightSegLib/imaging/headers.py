"""What SimpleITK forgives and LightSeg must not: impossible spacings.

ITK takes a spacing of zero for 1 mm, and a negative one for a mirrored axis. Each of these would give a wrong result
without a word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import InputError
from ..core.i18n import tr as _

TEXT_HEADER_SIZE = 1 << 16
TEXT_SPACING = re.compile(rb"^(?:ElementSpacing|spacings)\s*[:=]\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)


def check_header(path: Path) -> None:
    """Raise InputError for a MetaImage or NRRD file with such a fault; pass whatever is not understood."""
    if path.name.lower().endswith((".mha", ".mhd", ".nrrd", ".nhdr")):
        with path.open("rb") as stream:
            header = stream.read(TEXT_HEADER_SIZE).split(b"\n\n")[0]
        words = found[1].split() if (found := TEXT_SPACING.search(header)) else []
        if len(words) == 3:  # more are components or a time series, which are refused for what they are
            check_spacing(path.name, [_number(word) for word in words])


def check_spacing(name: str, spacing: Sequence[float]) -> None:
    """Raise InputError where steps in mm are not positive; name: what the message calls the file."""
    if not all(math.isfinite(step) and step > 0 for step in spacing):
        raise InputError(
            _(
                "{name} states a voxel spacing of {spacing} mm, which is not positive. "
                "Correct the spacing in the file's header or export the image again."
            ).format(name=name, spacing=" x ".join(f"{step:g}" for step in spacing))
        )


def _number(word: bytes) -> float:
    """NaN where the word is no number."""
    try:
        return float(word)
    except ValueError:
        return math.nan
