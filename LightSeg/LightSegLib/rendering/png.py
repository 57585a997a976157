"""A picture becomes a file."""

from __future__ import annotations

from pathlib import Path

from PIL.Image import Image

from ..core.atomic_io import atomic_write
from ..imaging.writers import check_output


def save_png(picture: Image, path: str | Path) -> None:
    """Write a PNG file, whole or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    check_output(path, (".png",))
    with atomic_write(path) as part:
        picture.save(part, format="PNG")
