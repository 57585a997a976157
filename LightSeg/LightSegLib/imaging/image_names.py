"""Which files are images by their names, and of which case; of a file without an extension its first bytes count."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from .nifti_header import VERSIONS

IMAGE_ENDINGS = (".seg.nrrd", ".nrrd", ".nhdr", ".nii.gz", ".nii", ".mha", ".mhd")

# Of formats that are not read, and of names such as `a.nii (1).gz`.
LIKE_IMAGES = re.compile(
    r"\.(nii|nrrd|nhdr|mha|mhd|hdr|img|gipl|mg[hz]|mnc2?|minc|mif|mrc|v16|par|tiff?|vti)\b", re.IGNORECASE
)

# Of images whose names have lost their extension: packed, NRRD, MetaImage, and the size of a NIfTI header.
BEGINNINGS: tuple[bytes, ...] = (
    *(b"\x1f\x8b\x08", b"NRRD000", b"ObjectType", b"NDims"),
    *(struct.pack(f"{order}i", version.size) for order in "<>" for version in VERSIONS),
)
LONGEST_BEGINNING = max(map(len, BEGINNINGS))


def is_image(path: Path) -> bool:
    """Return whether a file is an image by its name, and none of the hidden ones that systems put beside them."""
    return path.name.lower().endswith(IMAGE_ENDINGS) and not path.name.startswith(".")


def looks_like_image(path: Path) -> bool:
    """Return whether a file that is not read is an image by its name or, without an extension, by its first bytes.

    Raises:
        OSError: if the file cannot be read.
    """
    if is_image(path) or path.name.startswith("."):
        return False
    if path.suffix:
        return LIKE_IMAGES.search(path.name) is not None
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(LONGEST_BEGINNING).startswith(BEGINNINGS)


def case_name(path: Path) -> str:
    """File name without its image ending: what pairs a prediction with its label map."""
    ending = next((ending for ending in (".seq.nrrd", *IMAGE_ENDINGS) if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]
