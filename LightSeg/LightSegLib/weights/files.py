"""Read and write LightSeg's own weights files: a plain state dict, in half precision on disk."""

from __future__ import annotations

import errno
import hashlib
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from ..files import whole_file

if TYPE_CHECKING:
    from torch import Tensor


def sha256(path: Path) -> str:
    """SHA-256 of a file as lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write a state dict, floating-point tensors as float16, whole or not at all. Raises OutputError."""
    half = {name: (t.half() if t.is_floating_point() else t).detach().cpu().contiguous() for name, t in state.items()}
    save_torch(half, path)


def save_torch(content: object, path: Path) -> None:
    """`torch.save`, whole or not at all. Raises OutputError, for a full disk for example."""
    import torch

    with whole_file(path) as part:
        try:
            # To a stream: given a path, torch writes its name into the file, and equal weights get unequal hashes.
            with part.open("wb") as stream:
                torch.save(content, stream)
        except RuntimeError as error:  # torch's own word for a write that failed
            raise OSError(errno.ENOSPC, str(error)) from error


def load_weights(path: Path, size: int, digest: str) -> dict[str, Tensor]:
    """State dict in float32 after the file's size and SHA-256 were verified.

    Raises ModelError for a missing, changed or unreadable file. Nothing in the file is executed:
    it is read with `weights_only=True`.
    """
    import torch

    if not path.is_file():
        raise ModelError(f"The weights file {path} is missing. Install LightSeg again or put the file back.")
    if path.stat().st_size != size or sha256(path) != digest:
        raise ModelError(
            f"The weights file {path} is not the one its model card describes (size or SHA-256 differ). "
            "It is damaged or was replaced: install the model again."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(
            f"The weights file {path.name} holds more than tensors or is damaged ({str(error).splitlines()[0]}). "
            "Use a file that holds a plain state dict."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"The weights file {path.name} is not a plain state dict. Use a file that holds one.")
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
