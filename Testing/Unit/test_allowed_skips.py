"""A missing library cannot hide a suite: with --only-allowed-skips any skip that is not listed fails the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTING = Path(__file__).resolve().parents[1]
CONFTEST = """
from allowed_skips import OnlyAllowedSkips
def pytest_configure(config):
    config.pluginmanager.register(OnlyAllowedSkips())
"""
STORIES = {
    "test_runs.py": "def test_that_runs(): pass",
    "test_gpu.py": "@pytest.mark.skip('this machine has no GPU at all')\ndef test_on_a_gpu(): pass",
    "test_library.py": "pytest.importorskip('no_such_library')\ndef test_of_a_library(): pass",
    "test_page.py": "def test_of_a_page(): pytest.skip('there is no browser')",
}


def run(folder: Path, processes: int, *files: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    for name in files:
        (folder / name).write_text(f"import pytest\n{STORIES[name]}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-n", str(processes), "-p", "no:cacheprovider", str(folder)]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(TESTING)
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_what_a_machine_cannot_have_may_be_skipped(tmp_path: Path) -> None:
    done = run(tmp_path, 0, "test_runs.py", "test_gpu.py")
    assert done.returncode == 0 and "1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("processes", [0, 2])
def test_what_is_not_installed_may_not_be_skipped(tmp_path: Path, processes: int) -> None:
    """Neither a whole file nor a test."""
    done = run(tmp_path, processes, *STORIES)
    assert done.returncode == 1 and "1 passed, 3 skipped" in done.stdout, done.stdout + done.stderr
    judged = done.stdout.partition("skipped although this machine should run them")[2]
    assert "test_library.py: could not import 'no_such_library'" in judged
    assert "test_of_a_page: there is no browser" in judged
    assert "GPU" not in judged.partition("short test summary")[0]
