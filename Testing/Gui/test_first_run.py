"""The first run on a bare computer: PyTorch is installed beside the application, or the window shows what is in the
way.
"""

from __future__ import annotations

import importlib.util
import sys
import types

import pytest
import slicer
from http_server import PROXY_VARIABLES, nobody_listening
from LightSegLib.core import packages
from user_actions import choose, in_view, let_slices_cross_at, resize_panel, wait_until
from waiting import gone
from wheels import wheel_offered

SMALL = (360, 560)
# The extension PyTorch as far as the module sees it, with one call of the two by which it runs pip.
EXTENSION = """
import logging
import qt
import slicer
from slicer.ScriptedLoadableModule import *

class PyTorchUtils(ScriptedLoadableModule):
    pass

class PyTorchUtilsLogic(ScriptedLoadableModuleLogic):
    def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None):
        slicer.util.{call}
"""
# A pip that follows a script: its output, how much of a file it has, what it waits for, how it ends.
PIP = """
import os, pathlib, sys, tempfile, time
for line in open(os.environ["PIP_STORY"], encoding="utf-8"):
    word, _, rest = line.rstrip().partition(" ")
    if word == "say":
        print(rest, flush=True)
    elif word == "file":
        (pathlib.Path(tempfile.mkdtemp(prefix="pip-unpack-")) / "torch.whl").open("wb").truncate(int(rest))
    elif word == "touch":
        pathlib.Path(rest).touch()
    elif word == "wait":
        while not pathlib.Path(rest).exists():
            time.sleep(0.02)
    elif word == "exit":
        sys.exit(int(rest))
"""


@pytest.fixture
def here(tmp_path):
    """A file that is there as soon as PyTorch is."""
    return tmp_path / "torch is here"


@pytest.fixture(autouse=True)
def without_torch(monkeypatch, here):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" and not here.exists() else real(name)
    )


@pytest.fixture
def extension(tmp_path, monkeypatch):
    """Installs the extension PyTorch: extension(call) with what it asks of Slicer to run pip."""

    def install(call="_executePythonModule('light_the_torch', ['install', 'torch' + torchVersionRequirement])"):
        folder = tmp_path / "extension PyTorch"
        folder.mkdir()
        (folder / "PyTorchUtils.py").write_text(EXTENSION.format(call=call), encoding="utf-8")
        loaded = types.SimpleNamespace(__file__=str(folder / "PyTorchUtils.py"))  # as by the application
        monkeypatch.setitem(sys.modules, "PyTorchUtils", loaded)

    return install


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """Gives the processes a pip that follows a script: pip("say Downloading...", "exit 1")."""

    def write_script(*script):
        folder = tmp_path / "pip"
        (folder / "light_the_torch").mkdir(parents=True, exist_ok=True)
        (folder / "light_the_torch" / "__init__.py").touch()
        (folder / "light_the_torch" / "__main__.py").write_text(PIP, encoding="utf-8")
        (folder / "story").write_text("\n".join(script), encoding="utf-8")
        monkeypatch.setenv("PIP_STORY", str(folder / "story"))
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return write_script


@pytest.fixture
def ready(window):
    window.ui.openvinoBox.setChecked(False)
    choose(window.ui.deviceBox, "CPU")
    window.ui.sampleButton.click()
    let_slices_cross_at(25, -25, -12)
    window.ui.roiSliceButton.click()
    return window


TORCH = "say Downloading https://example.org/torch-2.9.1%2Bcu128-cp312-cp312-win_amd64.whl (866.0 MB)"
INSTALLING = "say Installing collected packages: torch"


def test_apply_installs_pytorch_beside_the_application_and_goes_on(
    ready, extension, pip, here, tmp_path, dialogs, heartbeat, screenshot
):
    extension()
    pip(TORCH, "file 433000000", f"wait {tmp_path}/a", INSTALLING, f"wait {tmp_path}/b", f"touch {here}")
    ready.enter()
    assert "PyTorch is not installed yet" in ready.ui.statusLabel.text and ready.ui.applyButton.enabled
    screenshot("first run without PyTorch", SMALL)
    dialogs.answer("Cancel", "Ok")
    ready.ui.applyButton.click()
    assert "needs PyTorch" in dialogs.take().text and not ready.installation.running

    ready.ui.applyButton.click()
    dialogs.take()
    with heartbeat:
        wait_until(lambda: "433.0 of 866.0 MB" in ready.ui.statusLabel.text)
    print(f"the event loop stood still for {1000 * heartbeat.longest_gap:.0f} ms at most")
    assert ready.ui.applyButton.text == "Cancel" and ready.ui.applyButton.enabled
    assert ready.ui.progressBar.value == 500, "of 1000"
    screenshot("first run installing PyTorch", SMALL)
    assert in_view(ready.ui.applyButton) and in_view(ready.ui.progressBar)
    (tmp_path / "a").touch()
    wait_until(lambda: "in place" in ready.ui.statusLabel.text)
    assert not ready.ui.applyButton.enabled, "half of PyTorch would be worse than none"
    (tmp_path / "b").touch()
    wait_until(lambda: ready.run.running)
    wait_until(lambda: not ready.run.running)
    assert ready.ui.statusLabel.text.startswith("Segmented in ")


def test_a_pytorch_that_is_too_old_is_installed_anew(ready, extension, here, dialogs, monkeypatch):
    """Another extension has brought it years ago."""
    here.touch()
    extension()
    monkeypatch.setattr(packages, "recorded_version", lambda name: "2.2.2")
    dialogs.answer("Cancel")
    ready.ui.applyButton.click()
    assert "needs PyTorch 2.6 or newer. Install it now?" in dialogs.take().text
    assert not ready.run.running


def test_the_installation_is_canceled(ready, extension, pip, here, dialogs, tmp_path, raised):
    extension()
    pip(TORCH, "file 1000000", f"wait {here}")
    dialogs.answer("Ok")
    ready.ui.applyButton.click()
    dialogs.take()
    wait_until(lambda: "1.0 of 866.0 MB" in ready.ui.statusLabel.text)
    pid = ready.installation._worker.pid
    ready.ui.applyButton.click()
    wait_until(lambda: not ready.installation.running)
    assert ready.ui.applyButton.text == "Apply" and ready.ui.applyButton.enabled
    assert ready.ui.statusLabel.text == "Canceled. PyTorch was not installed."
    wait_until(lambda: gone(pid))
    assert not ready.run.running and not ready.ui.progressBar.visible


@pytest.mark.parametrize(
    ("warning", "message", "name"),
    [
        ("NewConnectionError: Failed to establish a new connection: [Errno 101]", "cannot be reached", "no network"),
        ("ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407'))", "the proxy", "proxy"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "certificate", "certificate"),
        ("OSError: [Errno 28] No space left on device", "the disk is full", "full disk"),
        ("ERROR: Could not install packages: [Errno 13] Permission denied: '/opt/Slicer'", "read-only", "read-only"),
        ("something else", "pip ended with 3", "something else"),
    ],
)
def test_what_is_in_the_way_is_reported_with_what_to_do(
    ready, extension, pip, dialogs, monkeypatch, screenshot, warning, message, name
):
    monkeypatch.setenv("HTTPS_PROXY", "http://jane:secret@proxy.example:3128")
    extension()
    pip("say Collecting torch", f"say WARNING: {warning}", "exit 3")
    dialogs.answer("Ok")
    ready.ui.applyButton.click()
    dialogs.take()
    wait_until(lambda: dialogs.shown)
    shown = dialogs.take()
    assert message in shown.text and "secret" not in shown.text + shown.details
    assert warning.split(":")[0] in shown.details
    assert ready.ui.copyDetailsButton.visible and ready.ui.applyButton.enabled and not ready.run.running
    resize_panel(*SMALL)
    assert in_view(ready.ui.statusLabel) and in_view(ready.ui.copyDetailsButton)
    screenshot(f"first run {name}", SMALL)


@pytest.mark.slow
def test_pip_itself_is_understood(window, extension, dialogs, here, tmp_path, monkeypatch):
    """A wheel comes from a server on this computer, through the pip that is installed, into a folder of the test."""
    extension("pip_install('torch' + torchVersionRequirement)")
    steps = []
    with wheel_offered("torch", tmp_path, monkeypatch):
        dialogs.answer("Ok")
        window.pytorch.ensure(lambda: None)
        window.installation._task.progress.connect(steps.append)
        dialogs.take()
        wait_until(lambda: dialogs.shown)
    assert "not found here. Restart Slicer" in dialogs.take().text, "the application does not search that folder"
    assert (tmp_path / "packages" / "torch" / "much").stat().st_size == 300_000
    texts = [step.step for step in steps]
    assert "Downloading torch" in texts and texts[-1] == "Putting the files in place"
    assert next(step.size for step in steps if step.size) == pytest.approx(300_500, rel=0.01)


# --- the extension ---------------------------------------------------------------------------------


def test_without_the_extension_it_offers_to_install_that(ready, dialogs, extensions, monkeypatch):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    dialogs.answer("Cancel", "Ok")
    ready.ui.applyButton.click()
    assert "the extension PyTorch" in dialogs.take().text and not extensions.requested
    ready.ui.applyButton.click()
    dialogs.take()
    assert extensions.requested == ["PyTorch"] and "restart Slicer" in dialogs.take().text
    assert slicer.app.extensionsManagerModel().interactive, "the user's other installations are still asked about"

    extensions.installed.add("PyTorch")
    ready.ui.applyButton.click()
    assert "restart Slicer" in dialogs.take().text and len(extensions.requested) == 1
    assert not ready.run.running


def test_an_extension_that_cannot_be_installed_is_a_message(ready, dialogs, extensions, monkeypatch):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    manager = type(slicer.app.extensionsManagerModel())
    monkeypatch.setattr(manager, "installExtensionFromServer", lambda self, name, restart: False)
    dialogs.answer("Ok")
    ready.ui.applyButton.click()
    dialogs.take()
    assert "could not be installed" in dialogs.take().text
    assert ready.ui.copyDetailsButton.visible


def test_an_extension_of_another_kind_leads_to_its_own_window(ready, extension, dialogs):
    extension("no_such_call()")
    dialogs.answer("Ok")
    ready.ui.applyButton.click()
    dialogs.take()
    wait_until(lambda: dialogs.shown)
    assert "with the module PyTorch Utils" in dialogs.take().text


# --- weights ---------------------------------------------------------------------------------------


@pytest.fixture
def downloadable(make_model, tmp_path, monkeypatch):
    """A model of the user's whose weights are at an address: downloadable(url)."""
    import dataclasses

    from LightSegLib.catalog.card import Source
    from LightSegLib.catalog.card_file import read_card, write_card
    from LightSegLib.catalog.lookup import CARD_NAME

    def put(url):
        card = read_card(make_model() / CARD_NAME)
        weights = dataclasses.replace(card.weights, sources=(Source("url", url=url),))
        folder = tmp_path / "users models" / card.id
        folder.mkdir(parents=True)
        write_card(dataclasses.replace(card, weights=weights), folder / CARD_NAME)
        monkeypatch.setenv("LIGHTSEG_MODELS", str(folder.parent))
        return card.id

    return put


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("no network", marks=pytest.mark.slow),
        pytest.param("proxy", marks=pytest.mark.slow),
        "read-only home",
    ],
)
def test_weights_that_cannot_come_are_a_message_and_the_bundled_model_works(
    window, downloadable, dialogs, here, monkeypatch, tmp_path, screenshot, way
):
    here.touch()
    for name in (*PROXY_VARIABLES, *map(str.lower, PROXY_VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    with nobody_listening() as address:
        if way == "proxy":
            monkeypatch.setenv("HTTP_PROXY", address)
        if way == "read-only home":  # a folder that no one can make, not even an administrator
            (tmp_path / "file").touch()
            monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "file" / "weights"))
        window.logic.getParameterNode().modelId = downloadable(
            "http://models.example/w.pt" if way == "proxy" else f"{address}/w.pt"
        )
        window.refresh()
        dialogs.answer("Ok")
        window.ui.downloadButton.click()
        dialogs.take()
        wait_until(lambda: dialogs.shown)
    text = dialogs.take().text
    expected = {"no network": "could not be", "proxy": "proxy", "read-only home": "LIGHTSEG_WEIGHTS"}[way]
    assert expected in text, text
    screenshot(f"weights {way}", SMALL)

    window.logic.getParameterNode().modelId = "hippocampus-mr-unet"
    window.ui.sampleButton.click()
    window.ui.roiSliceButton.click()
    window.ui.applyButton.click()
    wait_until(lambda: not window.run.running)
    assert window.ui.statusLabel.text.startswith("Segmented in ")
