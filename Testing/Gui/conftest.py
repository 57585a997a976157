"""LightSeg's real window in real Qt, on a real MRML scene: the module's class, its .ui file, its worker.

How a test uses it:

    def test_apply_states_what_is_missing(window):
        assert not window.ui.applyButton.enabled      # properties as in Slicer: no isEnabled()
        choose(window.ui.inputSelector1, "T1")         # as a user opens the list and clicks
        window.ui.applyButton.click()
        wait_until(lambda: window.ui.applyButton.text == "Apply")

`window`      LightSegWidget, set up and entered, on an empty scene; closed again afterwards.
`dialogs`     what was shown: `dialogs.answer("Ok")` before a question, `dialogs.choose_path(path)` before a file
              dialog, `dialogs.take().text` afterwards, `dialogs.opened` for links. A question without an answer, a
              message that was not checked and an answer that was not used fail the test.
`raised`      exceptions that left a slot or an observer. Slicer prints them; here they fail the test, unless an error
              message repeated them or the test took them out of the list.
`heartbeat`   with heartbeat: ... ; heartbeat.longest_gap, in seconds, of the event loop while it turned.
`screenshot`  screenshot("name"): a PNG of the panel with all that is in it, in the folder LIGHTSEG_SCREENSHOTS, or in
              a temporary one if that is not set; screenshot("name", size) of what a panel of this size shows.
              `pictures` is that folder, for views.draw_views(...): slices and 3D.
`extensions`, `other_modules`  what was asked of the Extensions Manager, and which other modules were opened.
`make_volume`, `model`, `boxes` are those of Testing/scene_fixtures.py, `tiny_model` is that of Testing/conftest.py.

`wait_until`, `turn_event_loop`, `choose`, `type_into`, `shown_in` and `reload_module` are imported from
`user_actions`.

Widgets are as strict as in Slicer, see Testing/fakes/strict.py.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from needs_slicer import skip_without_slicer

skip_without_slicer()
import fakes  # noqa: E402
import slicer  # noqa: E402

fakes.install()
from scene_fixtures import *  # noqa: E402, F403 (the scene must be there first)

try:
    from fakes import dialogs as dialog_box
    from fakes import qt_application

    NO_QT = ""
except ImportError as error:
    NO_QT = f"PySide6 cannot be used on this machine: {error}"


@pytest.fixture(autouse=True)
def qt_is_there() -> None:
    if NO_QT:
        pytest.skip(NO_QT)


@pytest.fixture(autouse=True)
def models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Downloaded and imported models of this test: none at first, and never those of the user."""
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def dialogs(qt_is_there: None) -> Iterator[Any]:
    """Dialogs as a user meets them, answered by the test."""
    slicer.app.testing = False
    current = dialog_box.start()
    yield current
    slicer.app.testing = True
    assert not current.shown, "messages nobody took"
    assert not current.unused(), "answers nobody asked for"


@pytest.fixture(autouse=True)
def raised(dialogs: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """What left a slot or an observer as an exception."""
    errors: list[BaseException] = []
    messages: list[str] = []
    shown = dialogs.message_box

    def message_box(text: str, *arguments: Any, **options: Any) -> Any:
        messages.append(text)
        return shown(text, *arguments, **options)

    monkeypatch.setattr(slicer.util, "messageBox", message_box)
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: errors.append(error))
    qt_application.WARNINGS.clear()
    yield errors
    qt_application.APPLICATION.processEvents()
    assert not qt_application.WARNINGS, "Qt complained"
    unsaid = [error for error in errors if not any(str(error) in message for message in messages)]
    if unsaid:
        raise unsaid[0]


@pytest.fixture(scope="session")
def warm_worker() -> Iterator[None]:
    """One process that computes for all tests, since most of a short job is the start of Python and PyTorch."""
    from LightSegLib.slicer_app import jobs

    yield
    jobs.stop()
    assert jobs.worker().pid is None


@pytest.fixture
def window(scene: Any, raised: Any, warm_worker: None) -> Iterator[Any]:
    """The module's window with a model that is quick in a region; the process that computes outlives it here."""
    from LightSegLib.slicer_app import jobs
    from user_actions import close_module, open_module

    opened = open_module()
    opened.logic.getParameterNode().modelId = "hippocampus-mr-unet"
    yield opened
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "stop", lambda: None)
        close_module()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures go: the folder LIGHTSEG_SCREENSHOTS if it is set, else a temporary one."""
    folder = Path(os.environ.get("LIGHTSEG_SCREENSHOTS") or tmp_path / "pictures").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def screenshot(pictures: Path) -> Callable[..., Path]:
    """Writes a PNG of the panel with all that is in it, or as it is in this size: screenshot(name, (360, 560))."""
    from PySide6.QtGui import QFontDatabase
    from user_actions import grab_panel

    if not QFontDatabase.families():
        pytest.skip("There is no font on this machine; on Linux the package fonts-dejavu-core has one.")

    def save(name: str, size: tuple[int, int] | None = None) -> Path:
        path = pictures / f"{name}.png"
        assert grab_panel(size).save(str(path)), f"{path} cannot be written"
        return path

    return save


@pytest.fixture
def extensions() -> Any:
    """The Extensions Manager: `installed` names the extensions that are there, `requested` those it was to install."""
    model = slicer.app.extensionsManagerModel()
    model._installed.clear()
    model._requested.clear()
    return SimpleNamespace(installed=model._installed, requested=model._requested)


@pytest.fixture
def other_modules() -> list[str]:
    """Names of other modules that were opened; the Segment Editor's window is `slicer.modules.SegmentEditorWidget`."""
    from fakes.application import SELECTED

    SELECTED.clear()
    vars(slicer.modules).pop("SegmentEditorWidget", None)
    return SELECTED


@pytest.fixture
def heartbeat(qt_is_there: None) -> Any:
    """A pulse in the event loop; `longest_gap` is the longest time that it was frozen."""
    from user_actions import Heartbeat

    return Heartbeat()


@pytest.fixture
def model_without_finder() -> Iterator[str]:
    """The id of a model of a small region that cannot find its place in a larger volume."""
    from LightSegLib.catalog.card_file import write_card
    from LightSegLib.catalog.lookup import find_card, weights_path
    from LightSegLib.core.paths import user_models_folder

    card = find_card("hippocampus-mr-unet")
    folder = user_models_folder() / "region-alone"
    folder.mkdir(parents=True)
    shutil.copy(weights_path(card), folder)
    write_card(replace(card, id=folder.name, region_from=None), folder / "model.json")
    yield folder.name
    shutil.rmtree(folder)
