"""Tests that need Slicer's own classes are skipped where the package slicer-core, which holds them, cannot be had."""

from __future__ import annotations

import importlib.util
import sys

import pytest

REASON = "slicer-core is not installed" if sys.version_info < (3, 14) else "slicer-core has no wheel for this Python"
_found = importlib.util.find_spec("slicer")
HAS_SLICER = _found is not None and _found.origin is not None  # a folder of that name is none

needs_slicer = pytest.mark.skipif(not HAS_SLICER, reason=REASON)


def skip_without_slicer() -> None:
    """For a whole folder, from its conftest.py."""
    if not HAS_SLICER:
        pytest.skip(REASON, allow_module_level=True)
