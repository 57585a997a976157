"""What a worker process does to install PyTorch or OpenVINO beside the application.

The extension PyTorch decides which build fits the computer, and runs pip for it, in calls of Slicer that block the
window. Here its own code runs, with these calls reported line by line, in a process that can be ended. OpenVINO has
one build, which pip finds.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import types
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.atomic_io import refusal
from ..core.errors import DiskFullError, DownloadError, LightSegError, OutputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.packages import installed_version, recorded_version
from ..core.plain_text import public_address
from ..core.progress import Progress, ProgressCallback

PLACING = _("Putting the files in place")  # the step that must not be interrupted
LOOKING = _("Looking for the build that fits this computer")
WATCH_SECONDS = 0.3
SETTINGS = {  # pip asks no one, and writes its lines at once
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_PROGRESS_BAR": "off",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
}
PLACEHOLDERS = [f"ScriptedLoadableModule{part}" for part in ("", "Widget", "Logic", "Test")]
FAILED = "ERROR:"  # how the lines begin with which pip gives up; what it has warned of before may be over
# Messages of pip and the libraries below it, in the order in which it decides.
FULL = re.compile("No space left on device|Errno 28|not enough space", re.IGNORECASE)
IN_USE = re.compile(r"\[WinError (5|32)\]|Errno 13\].*\.(dll|pyd)\b", re.IGNORECASE)  # files that Windows has loaded
CLOSED = re.compile("Permission denied|Access is denied|Read-only file system|Errno 13|Errno 30", re.IGNORECASE)
PROXY = re.compile("ProxyError|Cannot connect to proxy|Tunnel connection failed|407 Proxy", re.IGNORECASE)
CERTIFICATE = re.compile("CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError", re.IGNORECASE)
NETWORK = re.compile(
    "NewConnectionError|Failed to establish a new connection|ConnectionError|getaddrinfo|Name or service|timed out|"
    "ConnectTimeout|Network is unreachable",
    re.IGNORECASE,
)
NO_BUILD = re.compile(r"No matching distribution found|Could not find a version that satisfies", re.IGNORECASE)
NO_LIST = "(from versions: none)"  # no server was reached, or it has nothing for this computer
FILE = re.compile(r"Downloading \S*?([\w.]+)-[^/\s]*\.(?:whl|tar\.gz)\S*(?: \(([\d.]+) (bytes|[kMG]B)\))?")
UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


@dataclass(frozen=True)
class Package:
    """Something that is installed.

    Attributes:
        name: in messages.
        remedy: a sentence for a failure that nothing else is known of.
        without: a sentence for a computer for which there is none.
    """

    name: str
    remedy: Message
    without: Message


PYTORCH = Package(
    "PyTorch",
    _("Read the details, or install it with the module PyTorch Utils."),
    _("Use LightSeg on another computer or in a newer Slicer; there is none for Intel Macs."),
)
OPENVINO = Package(
    "OpenVINO",
    _("Read the details, or go on without it: models run all the same, but slower."),
    _("Go on without it: models run all the same, but slower."),
)
# Without what it depends on: numpy, which stays Slicer's own, and its telemetry.
OPENVINO_ARGUMENTS = ("install", "--no-deps", "openvino>=2025.0")


class InstallHandler:
    """Installs PyTorch, or OpenVINO.

    It answers the job {"installer": path of PyTorchUtils.py, "requirement": version of torch}, or {} for OpenVINO.
    """

    def __call__(self, job: dict[str, Any], progress: ProgressCallback) -> dict[str, Any]:
        """Do a job and return the answer."""
        package = PYTORCH if "installer" in job else OPENVINO
        place = sysconfig.get_path("purelib")
        if refusal(Path(place)) is not None:
            raise _closed(place, package)
        progress(Progress(LOOKING))
        pip = Pip(progress, package)
        if package is OPENVINO:
            pip.run("pip", OPENVINO_ARGUMENTS)
            return {"installed": True}
        if installed_version("torch") is None and recorded_version("torch") is not None:
            pip.run("pip", ["uninstall", "--yes", "torch"])  # pip would take what is left of it for installed
        try:
            _installer(job["installer"], pip).installTorch(torchVersionRequirement=job["requirement"])
        except LightSegError:
            raise
        except Exception as error:
            raise LightSegError(
                _(
                    "PyTorch could not be installed by this version of the extension PyTorch ({error}). "
                    "Install it with the module PyTorch Utils."
                ).format(error=error)
            ) from error
        return {"installed": True}


class Pip:
    """Runs pip, or what comes before it, and reports its progress.

    Args:
        progress: called with the step, and while a file comes with its bytes.
        package: what is installed.
    """

    def __init__(self, progress: ProgressCallback, package: Package) -> None:
        self._progress = progress
        self._package = package
        self._changing = threading.Lock()  # two threads report
        self._step = Progress(LOOKING)
        self._begun = time.monotonic()

    def install(self, requirements: str | Sequence[str], *_options: Any, **_more: Any) -> None:
        """As `slicer.util.pip_install`."""
        self.run("pip", ["install", *(shlex.split(requirements) if isinstance(requirements, str) else requirements)])

    def run(self, module: str, arguments: Sequence[str], *_options: Any, **_more: Any) -> None:
        """As `python -m module arguments`. Raises LightSegError where it fails."""
        lines, done = [], threading.Event()
        with subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=os.environ | SETTINGS,
        ) as process:
            watch = threading.Thread(target=self._watch, args=(done,))
            watch.start()
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip())
                print(lines[-1], file=sys.stderr)
                self._read(lines[-1].strip())
            done.set()
            watch.join()
        if process.returncode:
            raise failure("\n".join(lines), process.returncode, self._package)
        importlib.invalidate_caches()  # for what the extension imports next

    def _read(self, line: str) -> None:
        """Report the step that a line begins."""
        if file := FILE.search(line):
            name, number, unit = file.groups()
            words = _("Downloading {name}").format(name=name)
            self._tell(Progress(words, size=round(float(number) * UNITS[unit]) if number else 0))
        elif line.startswith("Installing collected packages"):
            self._tell(Progress(PLACING))

    def _tell(self, step: Progress) -> None:
        """Report a new step."""
        with self._changing:
            self._step, self._begun = step, time.monotonic()
            self._progress(step)

    def _watch(self, done: threading.Event) -> None:
        """Report how much of a file is there, which not every version of pip reports to a program."""
        while not done.wait(WATCH_SECONDS):
            with self._changing:
                received = _received() if self._step.size else 0
                if received:
                    rate = received / max(time.monotonic() - self._begun, 1e-3)
                    left = max(0.0, self._step.size - received) / rate
                    self._progress(replace(self._step, received=received, bytes_per_second=rate, seconds_left=left))


def _received() -> int:
    """Return bytes of the file that pip downloads now, into its folder among the temporary ones."""
    files = []
    for path in Path(tempfile.gettempdir()).glob("pip-*/*"):
        with suppress(OSError):
            status = path.stat()
            files.append((status.st_mtime_ns, status.st_size if path.is_file() else 0))
    return max(files, default=(0, 0))[1]


def failure(log: str, code: int, package: Package) -> LightSegError:
    """Return why pip failed, by what it wrote; code: its exit code."""
    name, lines = package.name, log.splitlines()
    given_up = [number for number, line in enumerate(lines) if line.startswith(FAILED)]
    if given_up and NO_LIST not in log:  # else only the warnings tell whether a server was reached
        log = "\n".join(lines[given_up[0] :])
    if FULL.search(log):
        return DiskFullError(
            _("{name} could not be installed because the disk is full. Free some space and try again.").format(
                name=name
            )
        )
    if IN_USE.search(log) and refusal(Path(sysconfig.get_path("purelib"))) is None:
        return OutputError(
            _(
                "{name} could not be installed because files of an earlier version are in use. "
                "Close all other windows of Slicer, restart this one, and try again."
            ).format(name=name)
        )
    if CLOSED.search(log):
        return _closed(sysconfig.get_path("purelib"), package)
    if PROXY.search(log):
        proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or ""
        return DownloadError(
            _(
                "{name} could not be downloaded through the proxy {proxy}. Set HTTPS_PROXY to that of your network "
                "and restart Slicer."
            ).format(name=name, proxy=public_address(proxy) if "://" in proxy else proxy)
        )
    if CERTIFICATE.search(log):
        return DownloadError(
            _(
                "{name} could not be downloaded because the certificate of its server was not accepted. "
                "Set PIP_CERT to the certificate of your network and restart Slicer."
            ).format(name=name)
        )
    if NETWORK.search(log):
        return DownloadError(
            _(
                "{name} could not be downloaded because its server cannot be reached. "
                "Check the network connection and the proxy (HTTPS_PROXY), and try again."
            ).format(name=name)
        )
    if NO_BUILD.search(log):
        return LightSegError(
            _(
                "{name} could not be installed because there is none for this computer with Python {version}. {remedy}"
            ).format(name=name, version=platform.python_version(), remedy=package.without)
        )
    return LightSegError(
        _("{name} could not be installed (pip ended with {code}). {remedy}").format(
            name=name, code=code, remedy=package.remedy
        )
    )


def _closed(folder: str, package: Package) -> LightSegError:
    """Return the error of a folder that cannot be written to."""
    return OutputError(
        _(
            "{name} cannot be installed because {folder} is read-only. "
            "Ask your administrator to install it, or install Slicer into a folder of your own."
        ).format(name=package.name, folder=folder)
    )


def _installer(path: str, pip: Pip) -> Any:
    """Return the extension's logic, in a Slicer of which there is only what it calls to install."""
    slicer = types.ModuleType("slicer")
    util = types.ModuleType("slicer.util")
    util.__dict__.update(pip_install=pip.install, _executePythonModule=pip.run)
    slicer.__dict__.update(util=util, __path__=[])
    base = types.ModuleType("slicer.ScriptedLoadableModule")
    base.__dict__.update({name: type(name, (), {}) for name in PLACEHOLDERS})
    words = types.ModuleType("slicer.i18n")
    words.__dict__.update(tr=lambda text: text, translate=lambda context, text: text)
    others = {name: types.ModuleType(name) for name in ("qt", "ctk", "vtk")}
    sys.modules.update(
        {"slicer": slicer, "slicer.util": util, "slicer.ScriptedLoadableModule": base, "slicer.i18n": words, **others}
    )
    specification = importlib.util.spec_from_file_location("PyTorchUtils", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.PyTorchUtilsLogic()
