"""Qt without a screen, as strict as PythonQt: what every widget needs before it can be made.

Where PythonQt and PySide6 differ, PythonQt's way holds (see `strict`).
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
WARNINGS: list[str] = []  # what Qt complained about: a signal that does not exist, a second layout, ...
HARMLESS = "This plugin does not support propagateSizeHints()"  # of the platform without a screen


def _keep_warning(kind: Any, context: Any, text: str) -> None:
    if text != HARMLESS:
        WARNINGS.append(text)


QtCore.qInstallMessageHandler(_keep_warning)
