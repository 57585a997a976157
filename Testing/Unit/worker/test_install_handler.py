"""Why PyTorch or OpenVINO could not be installed, by the output of pip; and where they may not be."""

from __future__ import annotations

import pytest
from LightSegLib.core.errors import DiskFullError, DownloadError, LightSegError, OutputError
from LightSegLib.worker import install_handler
from LightSegLib.worker.install_handler import OPENVINO, PYTORCH, InstallHandler, failure

RETRY = "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(...)': /simple/torch/"
LOADED = r"[WinError 5] Access is denied: 'C:\Slicer\lib\Python\Lib\site-packages\~orch\lib\c10.dll'"
NONE_FITS = "ERROR: No matching distribution found for torch>=2.6"


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", DiskFullError),
        ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/opt/x'", OutputError),
        ("WARNING: Retrying after connection broken by 'ProxyError('Cannot connect to proxy.')'", DownloadError),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))", DownloadError),
        (
            "NewConnectionError: Failed to establish a new connection: [Errno -2] Name or service not known",
            DownloadError,
        ),
        ("ERROR: ResolutionImpossible", LightSegError),
    ],
)
@pytest.mark.parametrize("package", [PYTORCH, OPENVINO])
def test_a_failure_has_its_kind_and_its_remedy(output, kind, package):
    error = failure(f"Collecting torch\n{output}\n", 1, package)
    assert type(error) is kind
    first, second = str(error).split(". ", 1)
    assert first.startswith(f"{package.name} c") and second.endswith("."), "what is wrong, and what to do"


def test_a_folder_that_is_read_only_is_named_before_anything_is_downloaded(monkeypatch):
    monkeypatch.setattr(install_handler, "refusal", lambda folder: PermissionError(13, "Access is denied"))
    with pytest.raises(OutputError, match="read-only"):
        InstallHandler()({"installer": "nowhere", "requirement": ">=2.6"}, lambda progress: None)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (f"ERROR: Could not install packages due to an OSError: {LOADED}", "Close all other windows of Slicer"),
        (
            f"{RETRY}\nERROR: Could not install packages: {LOADED.replace('5', '32')}",
            "Close all other windows of Slicer",
        ),
        (f"{RETRY}\nERROR: ... (from versions: 2.2.0, 2.2.2)\n{NONE_FITS}", "there is none for this computer"),
        (f"ERROR: ... (from versions: none)\n{NONE_FITS}", "there is none for this computer"),
        (f"{RETRY}\nERROR: ... (from versions: none)\n{NONE_FITS}", "its server cannot be reached"),
        (f"{RETRY}\nERROR: ResolutionImpossible", "pip ended with 1"),
    ],
)
def test_a_cause_that_is_over_is_not_named(output, words):
    """What pip gave up for counts: it warns of many a thing, and tries again."""
    assert words in str(failure(f"Collecting torch\n{output}\n", 1, PYTORCH))


def test_a_file_that_windows_denies_in_a_folder_of_others_is_read_only(monkeypatch):
    monkeypatch.setattr(install_handler, "refusal", lambda folder: PermissionError(13, "Access is denied"))
    assert "is read-only" in str(failure(f"ERROR: Could not install packages: {LOADED}", 1, PYTORCH))


class Extension:
    """The extension PyTorch, as far as it asks for an installation."""

    def __init__(self, pip):
        self.pip = pip

    def installTorch(self, torchVersionRequirement):
        self.pip.install(f"torch{torchVersionRequirement}")


def test_what_is_left_of_pytorch_is_removed_before_it_is_installed(monkeypatch):
    """It cannot be imported, but pip would take it for installed."""
    calls = []
    monkeypatch.setattr(install_handler, "installed_version", {"torch": None}.get)
    monkeypatch.setattr(install_handler, "recorded_version", {"torch": "2.9.0"}.get)
    monkeypatch.setattr(install_handler, "_installer", lambda path, pip: Extension(pip))
    monkeypatch.setattr(install_handler.Pip, "run", lambda self, module, arguments: calls.append(arguments))
    InstallHandler()({"installer": "PyTorchUtils.py", "requirement": ">=2.6"}, lambda progress: None)
    assert calls == [["uninstall", "--yes", "torch"], ["install", "torch>=2.6"]]
