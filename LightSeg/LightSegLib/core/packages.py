"""Which packages Python can import, and in which versions, without importing them; and why one cannot be loaded.

A folder of a package's name is not the package: an installation that was stopped, or an uninstallation while files
were open, leaves such a folder.
"""

from __future__ import annotations

import importlib.util
import re
import traceback

from .errors import DeviceError
from .i18n import tr as _

TORCH = (2, 6)  # the oldest version that can be used


def installed_version(package: str) -> str | None:
    """Return the version of a package that can be imported; None for one that is missing or not complete."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return None
    return recorded_version(package)


def recorded_version(package: str) -> str | None:
    """Return the version that pip takes for installed, whether or not its files are there; None without one."""
    from importlib.metadata import PackageNotFoundError, version  # loads much, which Slicer's start should not

    try:
        return version(package) or None
    except (PackageNotFoundError, KeyError):
        return None


def has_torch() -> bool:
    """Return whether a PyTorch that is new enough can be imported."""
    numbers = re.match(r"(\d+)\.(\d+)", installed_version("torch") or "")
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= TORCH


def torch_failure(error: BaseException) -> DeviceError | None:
    """Return the error to state where one came of loading PyTorch, such as of a library that is missing; or None.

    Any error that leaves torch's own modules while they are loaded: torch raises OSError, ImportError and, at a second
    attempt in one process, others.
    """
    frames = (frame for frame, _line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>")
    loading = any(frame.f_globals.get("__name__", "").split(".")[0] == "torch" for frame in frames)
    if not loading and not (isinstance(error, ModuleNotFoundError) and error.name == "torch"):
        return None
    return DeviceError(
        _(
            "PyTorch cannot be loaded ({reason}). Restart the program; if that does not help, install PyTorch again, "
            "in Slicer with the module PyTorch Utils, and on Windows the Microsoft Visual C++ Redistributable."
        ).format(reason=str(error).strip() or type(error).__name__)
    )
