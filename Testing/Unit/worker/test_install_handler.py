"""Why PyTorch or OpenVINO could not be installed, by the output of pip; and where they may not be."""

from __future__ import annotations

import os

import pytest
from LightSegLib.core.errors import DiskFullError, DownloadError, LightSegError, OutputError
from LightSegLib.worker.install_handler import OPENVINO, PYTORCH, InstallHandler, failure


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", DiskFullError),
        ("ERROR: Could not install packages due to an OSError: [WinError 5] Access is denied: 'C:\\\\x'", OutputError),
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
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="read-only"):
        InstallHandler()({"installer": "nowhere", "requirement": ">=2.6"}, lambda progress: None)
