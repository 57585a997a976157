"""Which device computes, and what counts as running out of its memory."""

from __future__ import annotations

import torch

from ..errors import DeviceError

CHOICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """Device of 'auto' (the best there is), 'cpu', 'cuda', 'cuda:N' or 'mps'.

    Raises DeviceError when the wish cannot be met.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind = name.split(":")[0]
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in available:
        raise DeviceError(f"'{name}' is not a device that LightSeg knows. Choose one of {', '.join(CHOICES)}.")
    if not available[kind]:
        raise DeviceError(f"This machine has no usable {kind.upper()} device. Choose 'auto' or 'cpu'.")
    return torch.device(name)


def is_out_of_memory(error: BaseException) -> bool:
    """True for torch's and Python's ways of saying that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
