"""A cohort for the tests of batch."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_cases import TESTING, write_cohort


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three cases; workers find the tests' own kinds of work."""
    monkeypatch.setenv("PYTHONPATH", str(TESTING))
    return write_cohort(tmp_path / "Kohorte äöü")
