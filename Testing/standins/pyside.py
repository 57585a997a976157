"""The module `qt` of Slicer, made of PySide6: the names of QtCore, QtGui and QtWidgets on one level.

Where PythonQt and PySide6 differ, PythonQt's way holds (see `standins.strict`), and a file dialog returns the path
alone. There is no `qt.Signal`: signals of one's own crash PythonQt. Nothing waits for a user: dialogs are answered by
`standins.dialogs`.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from . import strict

APPLICATION = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
strict.install(QtCore, QtGui, QtWidgets, QtUiTools)
MAIN_WINDOW = QtWidgets.QMainWindow()

from .dialogs import DesktopServices, FileDialog, refuse_to_wait  # noqa: E402 (classes are derived from strict ones)
from .forms import UiLoader  # noqa: E402

WARNINGS: list[str] = []  # what Qt complained about: a signal that does not exist, a second layout, ...
HARMLESS = "This plugin does not support propagateSizeHints()"  # of the platform without a screen


def _keep_warning(kind: Any, context: Any, text: str) -> None:
    if text != HARMLESS:
        WARNINGS.append(text)


QtCore.qInstallMessageHandler(_keep_warning)
refuse_to_wait()
NAMES: dict[str, Any] = {
    name: getattr(module, name) for module in (QtCore, QtGui, QtWidgets) for name in dir(module) if name.startswith("Q")
}
NAMES |= {"QUiLoader": UiLoader, "QFileDialog": FileDialog, "QDesktopServices": DesktopServices}
