"""Which files are images by their names, and of which case."""

from __future__ import annotations

import re
from pathlib import Path

IMAGE_ENDINGS = (".seg.nrrd", ".nrrd", ".nhdr", ".nii.gz", ".nii", ".mha", ".mhd")

# Of formats that are not read, and of names such as `a.nii (1).gz`.
LIKE_IMAGES = re.compile(r"\.(nii|nrrd|nhdr|mha|mhd|hdr|img|gipl|mg[hz]|mnc2?|mrc|v16|par|tiff?|vti)\b", re.IGNORECASE)


def is_image(path: Path) -> bool:
    """Return whether a file is an image by its name, and none of the hidden ones that systems put beside them."""
    return path.name.lower().endswith(IMAGE_ENDINGS) and not path.name.startswith(".")


def looks_like_image(path: Path) -> bool:
    """Return whether the name of a file is that of an image that is not read, by its format or for what was added."""
    return not is_image(path) and not path.name.startswith(".") and LIKE_IMAGES.search(path.name) is not None


def case_name(path: Path) -> str:
    """File name without its image ending: what pairs a prediction with its label map."""
    ending = next((ending for ending in (".seq.nrrd", *IMAGE_ENDINGS) if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]
