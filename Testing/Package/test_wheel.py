"""What pip installs: the library and its resources, every file of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from installing import REPOSITORY

RESOURCES = ("Models",)  # of the module's; the others are for Slicer alone


def test_the_wheel_holds_the_whole_library(tmp_path: Path) -> None:
    for name in ("LightSeg", "pyproject.toml", "setup.py", "README.md", "LICENSE.txt"):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, tmp_path / name)
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", "wheel", "."]
    subprocess.run([sys.executable, *command], cwd=tmp_path, check=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packaged = {name for name in archive.namelist() if ".dist-info/" not in name}

    module = REPOSITORY / "LightSeg"
    library = [path.relative_to(module) for path in (module / "LightSegLib").rglob("*") if path.is_file()]
    expected = {path.as_posix() for path in library if path.suffix not in (".pyc", ".part")}
    for folder in RESOURCES:
        files = (module / "Resources" / folder).iterdir()
        expected |= {f"LightSegLib/resources/{folder}/{path.name}" for path in files}
    assert packaged == expected
