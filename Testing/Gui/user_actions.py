"""What a user does with the window, and what a test waits for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import qt
import slicer
from waiting import PATIENCE

import LightSeg

PANEL_WIDTH = 400
_panels: list[Any] = []  # the open one; Qt's parent has to outlive the window


def open_module() -> Any:
    """Open the module as the application does: set up in the panel, shown, entered. Returns the LightSegWidget."""
    panel = slicer.qSlicerScriptedLoadableModuleWidget()
    _panels.append(panel)
    window = panel.open(LightSeg.LightSegWidget)
    panel.setMRMLScene(slicer.mrmlScene)
    panel.resize(PANEL_WIDTH, 700)
    panel.show()
    panel.enter()
    slicer.app.processEvents()
    return window


def close_module() -> None:
    """Leave the module and delete its window, as the application does at its end."""
    panel = _panels.pop()
    sys.modules["LightSeg"] = LightSeg  # the one that the tests have imported, should it have been reloaded
    panel.exit()
    panel.self().cleanup()
    slicer.modules.LightSegWidget = None
    panel.hide()
    panel.deleteLater()
    qt.QCoreApplication.sendPostedEvents(None, qt.QEvent.DeferredDelete)
    slicer.app.processEvents()


def reload_module() -> Any:
    """The developer's button Reload: LightSeg.py is read anew, in the same panel. Returns the new LightSegWidget."""
    panel = _panels[-1]
    panel.self().onReload()
    return panel.self()


def choose(selector: Any, text: str) -> None:
    """Open a list, of nodes or of anything else, and click the entry with this text."""
    box = selector if isinstance(selector, qt.QComboBox) else selector.findChild(qt.QComboBox)
    entries = [box.itemText(number) for number in range(box.count)]
    assert text in entries, f"{text} is not among {entries}"
    assert box.enabled, "the list is disabled"
    box.setCurrentIndex(entries.index(text))
    box.activated.emit(entries.index(text))


def type_into(widget: Any, text: str) -> None:
    """Click into a widget and type."""
    from PySide6.QtTest import QTest

    assert widget.enabled, "the widget is disabled"
    widget.setFocus()
    QTest.keyClicks(widget, text)


def shown_in(selector: Any) -> list[str]:
    """The entries of a list, without separators."""
    box = selector if isinstance(selector, qt.QComboBox) else selector.findChild(qt.QComboBox)
    return [text for text in (box.itemText(number) for number in range(box.count)) if text]


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Let the event loop turn until the condition holds; returns what it gave. Fails after that many seconds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {condition.__name__}"
        turn_event_loop()
    return found


def turn_event_loop(seconds: float = 0) -> None:
    """Let the event loop turn for a while, at least once."""
    end = time.monotonic() + seconds
    while True:
        qt.QCoreApplication.processEvents(qt.QEventLoop.AllEvents, 10)
        if time.monotonic() >= end:
            return
        time.sleep(0.001)


class Heartbeat:
    """While it is entered, a timer beats every few milliseconds; a gap is a time in which nothing else ran either."""

    def __init__(self, interval_ms: int = 5) -> None:
        self.gaps: list[float] = []
        self._timer = qt.QTimer()
        self._timer.setTimerType(qt.Qt.PreciseTimer)
        self._timer.interval = interval_ms
        self._timer.timeout.connect(self._beat)

    @property
    def longest_gap(self) -> float:
        assert self.gaps, "the event loop never turned"
        return max(self.gaps)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def __enter__(self) -> Heartbeat:
        self._last = time.perf_counter()
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._beat()
        self._timer.stop()


def grab_panel(widget: Any = None) -> Any:
    """A picture of the panel, 400 pixels wide if it can be, and as high as its contents; or of a widget as it is."""
    if widget is not None:
        return widget.grab()
    panel = _panels[-1]
    for _ in range(3):  # text that wraps and lists that fit their contents settle in steps
        height = panel.layout().totalHeightForWidth(PANEL_WIDTH) if panel.layout().hasHeightForWidth() else 0
        panel.resize(PANEL_WIDTH, max(height, panel.sizeHint.height()))
        slicer.app.processEvents()
    return panel.grab()
