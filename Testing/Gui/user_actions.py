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

PANEL_SIZE = (400, 700)  # pixels
_panels: list[Any] = []  # of the module; Qt's parent has to outlive the window
_frames: list[Any] = []  # the application's panel around each


def open_module() -> Any:
    """Open the module as the application does: set up in the panel, shown, entered. Returns the LightSegWidget."""
    from fakes.mrml_widgets import ModulePanel

    panel = slicer.qSlicerScriptedLoadableModuleWidget()
    _panels.append(panel)
    window = panel.open(LightSeg.LightSegWidget)
    panel.setMRMLScene(slicer.mrmlScene)
    frame = ModulePanel()
    _frames.append(frame)
    frame.setModule(panel)
    frame.resize(*PANEL_SIZE)
    frame.show()
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
    frame = _frames.pop()
    frame.hide()
    frame.deleteLater()
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


def close_application_during(work: Callable[[], Any]) -> None:
    """Do some work as the Python console does, within the application's event loop, and close its windows meanwhile.

    Returns when the application would have ended. All windows are closed, since those that other tests left open would
    keep it running.
    """
    from fakes.qt_application import APPLICATION, MAIN_WINDOW

    raised: list[BaseException] = []

    def in_console() -> None:
        qt.QTimer.singleShot(0, APPLICATION.closeAllWindows)
        try:
            work()
        except BaseException as error:
            raised.append(error)

    guard = qt.QTimer()
    guard.setSingleShot(True)
    guard.timeout.connect(APPLICATION.quit)
    guard.start(round(1000 * PATIENCE))
    MAIN_WINDOW.show()
    qt.QTimer.singleShot(0, in_console)
    APPLICATION.exec()
    in_time = guard.isActive()
    guard.stop()
    assert in_time, "the application went on without a window"
    if raised:
        raise raised[0]


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


def let_slices_cross_at(r: float, a: float, s: float) -> None:
    """Scroll the slices until they cross at a point, in RAS mm."""
    for name in slicer.app.layoutManager().sliceViewNames():
        slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().JumpSlice(r, a, s)


def resize_panel(width: int, height: int) -> None:
    """Drag the panel's border until it has this size, or the least that it can have."""
    frame = _frames[-1]
    for _ in range(4):  # text that wraps and lists that fit their contents settle in steps
        frame.resize(max(width, frame.minimumSizeHint().width()), height)
        slicer.app.processEvents()


def panel() -> Any:
    """The application's panel with the module in it."""
    return _frames[-1]


def in_view(widget: Any) -> bool:
    """Whether all of a widget is to be seen in the panel as it is now, however it is scrolled."""
    return bool(widget.visible) and widget.visibleRegion().boundingRect() == widget.rect


def grab_panel(size: tuple[int, int] | None = None) -> Any:
    """A picture of the panel: in this size, or 400 pixels wide and as high as all that is in it."""
    frame, module = _frames[-1], _panels[-1]
    if size is not None:
        resize_panel(*size)
        return frame.grab()
    for _ in range(3):
        window = module.self().ui
        contents, run = window.scrollContents, window.runPart
        width = window.scrollArea.viewport().width
        inner = contents.layout().totalHeightForWidth(width) if contents.layout().hasHeightForWidth() else 0
        below = run.layout().totalHeightForWidth(run.width) if run.layout().hasHeightForWidth() else 0
        height = max(inner, contents.sizeHint.height()) + max(below, run.sizeHint.height())
        resize_panel(PANEL_SIZE[0], height + 80)
    return frame.grab()
