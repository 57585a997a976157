"""Dialogs without a user: what was shown is remembered, and the test sets the answers beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6 import QtCore, QtWidgets

Button = QtWidgets.QMessageBox.StandardButton


@dataclass(frozen=True)
class Message:
    """A message box that was shown: its words, its buttons, and which one was pressed."""

    text: str
    buttons: tuple[str, ...] = ("Ok",)
    pressed: str = "Ok"
    details: str = ""
    title: str = ""


class Dialogs:
    """What was shown, in order, and what comes next. A question without an answer is a failure of the test."""

    def __init__(self) -> None:
        self.shown: list[Message] = []
        self.opened: list[str] = []
        self._answers: list[str] = []
        self._paths: list[Any] = []

    def answer(self, *buttons: str) -> None:
        """The buttons to press in the next questions: "Ok", "Cancel", "Yes", "No", ..."""
        self._answers += buttons

    def choose_path(self, *paths: Any) -> None:
        """What the next file dialogs return; "" means that the user canceled."""
        self._paths += [str(path) for path in paths]

    def take(self) -> Message:
        """The first message that the test has not looked at yet. Messages that are not looked at fail the test."""
        assert self.shown, "no message was shown"
        return self.shown.pop(0)

    def message_box(self, text: str, parent: Any = None, **options: Any) -> Any:
        """In place of `slicer.util.messageBox`, which all dialogs of slicer.util end in."""
        asked = options.get("standardButtons") or Button.Ok
        buttons = tuple(button.name for button in Button if button & asked and button.name in NAMED)
        pressed = buttons[0] if len(buttons) == 1 else self._next(self._answers, f"Nobody answered: {text}")
        assert pressed in buttons, f"There is no button {pressed} in: {text}"
        details, title = options.get("detailedText", ""), options.get("windowTitle", "")
        self.shown.append(Message(text, buttons, pressed, details, title))
        return Button[pressed]

    def next_path(self, caption: str) -> str:
        return self._next(self._paths, f"Nobody chose a path: {caption}")

    @staticmethod
    def _next(waiting: list[str], complaint: str) -> str:
        assert waiting, complaint
        return waiting.pop(0)

    def unused(self) -> list[str]:
        """What the test prepared and nothing asked for."""
        return [*self._answers, *self._paths]


NAMED = ("Ok", "Cancel", "Yes", "No", "Retry", "Close", "Save", "Discard", "Open", "Abort", "Ignore")
CURRENT = Dialogs()


def start() -> Dialogs:
    """Begin anew, for one test; returns what it talks to."""
    import slicer.util

    global CURRENT
    CURRENT = Dialogs()
    slicer.util.messageBox = CURRENT.message_box
    return CURRENT


def _file_function(several: bool = False) -> Callable[..., Any]:
    def choose(parent: Any = None, caption: str = "", *more: Any) -> Any:
        path = CURRENT.next_path(caption)
        return ([path] if path else []) if several else path

    return staticmethod(choose)  # type: ignore[return-value]


class FileDialog(QtWidgets.QFileDialog):
    """PythonQt returns the path alone, where PySide6 adds the filter."""

    getOpenFileName = _file_function()
    getOpenFileNames = _file_function(several=True)
    getSaveFileName = _file_function()
    getExistingDirectory = _file_function()


class DesktopServices:
    """Remembers what would be opened in the browser or the file manager."""

    @staticmethod
    def openUrl(url: QtCore.QUrl) -> bool:
        CURRENT.opened.append(url.toString())
        return True


def refuse_to_wait() -> None:
    """Let every dialog fail that waits for a user and is not answered here."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a dialog would wait for a user; ask through slicer.util, or show it without exec")

    for kind in (QtWidgets.QDialog, QtWidgets.QMessageBox, QtWidgets.QInputDialog):
        for name in [name for name in vars(kind) if name in WAITING]:
            setattr(kind, name, staticmethod(refuse))


WAITING = ("exec", "exec_", "about", "critical", "information", "question", "warning")
WAITING += ("getDouble", "getInt", "getItem", "getMultiLineText", "getText")
