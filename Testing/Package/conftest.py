"""The installed extension, a copy of the checkout to be damaged, and a place away from both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from installing import HERE, REPOSITORY, Installed, install


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """This checkout's extension."""
    return install(REPOSITORY, tmp_path_factory.mktemp("extension"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what CMake reads, to be changed."""
    copy = tmp_path / "checkout"
    shutil.copytree(REPOSITORY / "LightSeg", copy / "LightSeg", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("CMakeLists.txt", "Testing/CMakeLists.txt"):
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, copy / name)
    return copy


@pytest.fixture
def run_away(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python or another program, as run_away(extension, *words), where only the installed module is within reach.

    The tests that it finds there are copied away from the checkout, so that none has the module beside itself, and
    `guard` sees to it that nothing is read from the checkout's.
    """
    away = tmp_path / "away"
    for folder in ("Unit", "Slicer", "Gui", "fakes"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / "Testing" / folder, away / "Testing" / folder, ignore=ignored)
    for path in (REPOSITORY / "Testing").glob("*.py"):
        shutil.copy(path, away / "Testing")

    def run(extension: Installed, *words: str | Path, program: str | Path = sys.executable) -> Any:
        folders = (HERE / "guard", extension.modules, away / "Testing")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
            "LIGHTSEG_CHECKOUT": str(REPOSITORY / "LightSeg"),
        }
        command = [program, *words]
        return subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True, encoding="utf-8")

    return run
