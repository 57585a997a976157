"""Which device computes, and what its failures mean: memory that ran out, an operation that it lacks."""

from __future__ import annotations

import torch

from ...core.errors import DeviceError
from ...core.i18n import tr as _

CHOICES = ("auto", "cpu", "cuda", "mps")
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # CUDA, Linux, Windows


def choose_device(name: str) -> torch.device:
    """Device of 'auto' (the best there is), 'cpu', 'cuda', 'cuda:N' or 'mps'.

    Raises:
        DeviceError: if the wish cannot be met.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind = name.split(":", maxsplit=1)[0]
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in available:
        raise DeviceError(
            _("'{device}' is not a known device. Choose one of {devices}.").format(
                device=name, devices=", ".join(CHOICES)
            )
        )
    if not available[kind]:
        raise DeviceError(
            _("This computer has no usable {device} device. Choose 'auto' or 'cpu'.").format(device=kind.upper())
        )
    device = torch.device(name)
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            _("This computer has no device '{device}'. Choose a number below {count}, such as cuda:0.").format(
                device=name, count=torch.cuda.device_count()
            )
        )
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch or Python means that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY)


def is_unsupported(error: BaseException) -> bool:
    """Return whether torch reports that a device lacks an operation, as some builds do for 3D on Apple's GPUs."""
    return isinstance(error, NotImplementedError) or "not supported on" in str(error).lower()
