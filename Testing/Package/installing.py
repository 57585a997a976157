"""The extension as CMake installs it: real CMake, with a small stand-in for Slicer's CMake package."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cmake

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CMAKE = Path(cmake.CMAKE_BIN_DIR) / "cmake"
CTEST = Path(cmake.CMAKE_BIN_DIR) / "ctest"
MODULES = Path("lib") / "Slicer-5.8" / "qt-scripted-modules"


@dataclass(frozen=True)
class Installed:
    """An installed extension: `prefix`, with the modules in `modules`, and the `build` folder where ctest runs."""

    prefix: Path
    build: Path

    @property
    def modules(self) -> Path:
        return self.prefix / MODULES

    def files(self) -> dict[str, bytes]:
        """Every file of the module, by its path as CMake writes it; not what Python makes of it."""
        found = [path for path in self.modules.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        return {path.relative_to(self.modules).as_posix(): path.read_bytes() for path in found}

    def description(self) -> dict[str, str]:
        """What the Extensions Manager shows, by its keys."""
        text = (self.prefix / "share" / "Slicer-5.8" / "LightSeg.s4ext").read_text(encoding="utf-8")
        return dict(line.split(" ", 1) for line in text.splitlines())


class Refused(Exception):
    """CMake's reason for not configuring."""


def run_cmake(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CMAKE, *words], capture_output=True, text=True, encoding="utf-8", errors="replace")


def install(source: Path, folder: Path, *options: str) -> Installed:
    """Configure and install the extension of a checkout into `folder`. Raises Refused."""
    build, prefix, slicer = folder / "build", folder / "Slicer 5.8 für alle", HERE / "slicer"
    configured = run_cmake(
        "-S", source, "-B", build,
        "-G", "Unix Makefiles", f"-DCMAKE_MAKE_PROGRAM={Path(sys.executable).as_posix()}",  # nothing is built
        f"-DCMAKE_TOOLCHAIN_FILE={(slicer / 'no_compiler.cmake').as_posix()}",
        f"-DSlicer_DIR={slicer.as_posix()}",
        f"-DSlicer_LAUNCHER_EXECUTABLE={Path(sys.executable).as_posix()}",
        f"-DSlicer_UNIT_TEST_RUNNER={(HERE / 'ctest_runner.py').as_posix()}",
        *options,
    )  # fmt: skip
    if configured.returncode:
        raise Refused(configured.stderr)
    done = run_cmake("--install", build, "--prefix", prefix)
    assert done.returncode == 0, done.stderr
    return Installed(prefix, build)
