"""File systems on which locks do not work, or not for everyone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from LightSegLib.weights import lock


def refuse_locks_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What some network file systems do."""
    real = lock._try_lock

    def refuse(descriptor: int) -> bool:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_relative_to(folder):
            raise OSError(37, "No locks available")
        return real(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs the names of open files")
    monkeypatch.setattr(lock, "_try_lock", refuse)


def refuse_to_open(path: Path, number: int, monkeypatch: pytest.MonkeyPatch, reading: bool = False) -> None:
    """Let this file be opened neither for writing nor, where that is wished, for reading."""
    real = os.open

    def refuse(name: Any, flags: int, *others: Any, **options: Any) -> int:
        if Path(os.fsdecode(name)) == path and (reading or flags & (os.O_RDWR | os.O_WRONLY)):
            raise OSError(number, os.strerror(number), str(path))
        return real(name, flags, *others, **options)

    monkeypatch.setattr(os, "open", refuse)
