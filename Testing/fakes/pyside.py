"""The module `qt` of Slicer, made of PySide6: the names of QtCore, QtGui and QtWidgets on one level.

A file dialog returns the path alone, as with PythonQt. There is no `qt.Signal`: signals of one's own crash PythonQt.
Nothing waits for a user: dialogs are answered by `dialogs`.
"""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import qt_application  # noqa: F401  classes are derived from strict ones
from .dialogs import DesktopServices, FileDialog, refuse_to_wait
from .forms import UiLoader

refuse_to_wait()
NAMES: dict[str, Any] = {
    name: getattr(module, name) for module in (QtCore, QtGui, QtWidgets) for name in dir(module) if name.startswith("Q")
}
NAMES |= {"QUiLoader": UiLoader, "QFileDialog": FileDialog, "QDesktopServices": DesktopServices}
