"""Tests that need Slicer's own classes are skipped where the package slicer-core, which holds them, cannot be had."""

from __future__ import annotations

import pytest
from slicer_found import HAS_SLICER, REASON

needs_slicer = pytest.mark.skipif(not HAS_SLICER, reason=REASON)


def skip_without_slicer() -> None:
    """For a whole folder, from its conftest.py."""
    if not HAS_SLICER:
        pytest.skip(REASON, allow_module_level=True)
