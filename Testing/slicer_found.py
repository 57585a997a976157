"""Whether the package slicer-core is here, which holds Slicer's own classes; asked without what tests need."""

from __future__ import annotations

import importlib.util
import sys

REASON = "slicer-core is not installed" if sys.version_info < (3, 14) else "slicer-core has no wheel for this Python"
_found = importlib.util.find_spec("slicer")
HAS_SLICER = _found is not None and _found.origin is not None  # a folder of that name is none
