"""What the system tells about the computer without PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest
from LightSegLib.core import system


def test_a_driver_s_device_is_the_trace_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "nvidia0"
    monkeypatch.setattr(system.sys, "platform", "linux")
    monkeypatch.setattr(system, "GPU_TRACES", (device,))
    assert not system.may_have_gpu()
    device.touch()
    assert system.may_have_gpu()


def test_windows_has_the_driver_s_library_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.sys, "platform", "win32")
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    assert not system.may_have_gpu()
    (tmp_path / "System32").mkdir()
    (tmp_path / "System32" / "nvcuda.dll").touch()
    assert system.may_have_gpu()


@pytest.mark.parametrize(("machine", "has"), [("arm64", True), ("x86_64", False)])
def test_a_mac_has_a_gpu_in_apple_s_own_processors(machine: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.sys, "platform", "darwin")
    monkeypatch.setattr(system.platform, "machine", lambda: machine)
    assert system.may_have_gpu() is has
