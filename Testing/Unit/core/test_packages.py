"""What counts as installed: a whole package that is new enough, not what is left of one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from LightSegLib.core import packages
from LightSegLib.core.packages import has_torch, installed_version, recorded_version


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python searches first."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(place: Path, name: str, version: str, whole: bool = True) -> None:
    (place / name).mkdir()
    if whole:
        (place / name / "__init__.py").touch()
    about = place / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    importlib.invalidate_caches()


def test_a_whole_package_is_installed_and_its_folder_alone_is_not(place: Path) -> None:
    """Where an installation was stopped, or files were open while it was removed."""
    install(place, "wholepackage", "1.2")
    install(place, "remnant", "1.2", whole=False)
    (place / "folder").mkdir()
    (place / "unrecorded").mkdir()
    (place / "unrecorded" / "__init__.py").touch()
    assert installed_version("wholepackage") == "1.2"
    for name in ("remnant", "folder", "unrecorded", "nowhere"):
        assert installed_version(name) is None
    assert recorded_version("remnant") == "1.2", "which pip would not install again"


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("2.6.0", True),
        ("2.10.1+cu128", True),
        ("3.0.0a0+git1234", True),
        ("2.5.1+cpu", False),
        ("1.13.1", False),
        (None, False),
    ],
)
def test_a_pytorch_that_is_too_old_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch, version: str | None, enough: bool
) -> None:
    """Another extension may have installed it years ago."""
    monkeypatch.setattr(packages, "installed_version", {"torch": version}.get)
    assert has_torch() is enough


def test_asking_does_not_import_it(place: Path) -> None:
    install(place, "quietpackage", "1")
    assert installed_version("quietpackage") == "1" and "quietpackage" not in sys.modules
