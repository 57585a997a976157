"""Which packages Python can import, and in which versions, without importing them.

A folder of a package's name is not the package: an installation that was stopped, or an uninstallation while files
were open, leaves such a folder.
"""

from __future__ import annotations

import importlib.util
import re

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
