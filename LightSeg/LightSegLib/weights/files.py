"""LightSeg's own weights files, plain state dicts in half precision; how torch files begin; hashes of files."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.atomic_io import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

GZIP_START = b"\x1f\x8b"
ZIP_START = b"PK\x03\x04"  # torch.save since torch 1.6, and our bundles of several files
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # before that: torch's magic number, pickled


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write a state dict, floating-point tensors as float16, whole or not at all.

    Raises:
        OutputError: if the file or folder cannot be written.
    """
    half = {name: (t.half() if t.is_floating_point() else t).detach().cpu().contiguous() for name, t in state.items()}
    save_torch(half, path)


def save_torch(content: object, path: Path) -> None:
    """`torch.save`, whole or not at all.

    Raises:
        OutputError: for a full disk for example.
    """
    import torch

    with atomic_write(path) as part:
        try:
            # To a stream: given a path, torch writes its name into the file, and equal weights get unequal hashes.
            with part.open("wb") as stream:
                torch.save(content, stream)
        except RuntimeError as error:  # torch's own word for a write that failed
            raise OSError(errno.ENOSPC, str(error)) from error
