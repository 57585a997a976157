"""`qt.QUiLoader` of Slicer: reads a .ui file with Slicer's and CTK's widgets in it, and refuses what they lack."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import ctk_widgets, mrml_widgets

SCENE_SIGNAL = "mrmlSceneChanged(vtkMRMLScene*)"
FORM_ONLY = {("QLabel", "buddy")}  # which forms have and Qt's loader sets, though the class has no such property


class UiLoader(QtUiTools.QUiLoader):
    """Loads a form; raises RuntimeError for a widget or a property that does not exist."""

    def load(self, device: Any, parent: Any = None) -> Any:
        form = ElementTree.fromstring(bytes(device.readAll().data()).decode("utf-8"))
        known = {**ctk_widgets.NAMES, **mrml_widgets.NAMES}
        for kind in known.values():
            self.registerCustomWidget(kind)
        _check_classes(form, known)
        passes_scene = _take_scene_connections(form)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(form, encoding="utf-8"))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        top = super().load(buffer, parent)
        if top is None:
            return None
        _check_properties(form, top)
        for sender, receiver in passes_scene:
            find(top, sender).mrmlSceneChanged.connect(find(top, receiver).setMRMLScene)
        return top


def find(top: Any, name: str) -> Any:
    """The object of this name; the top itself counts."""
    found = top if top.objectName == name else top.findChild(QtCore.QObject, name)
    if found is None:
        raise RuntimeError(f"The form has no object {name}")
    return found


def _check_classes(form: Any, known: dict[str, Any]) -> None:
    """Qt puts a plain widget in the place of one it does not know, with a warning."""
    for element in form.iter("widget"):
        name = element.attrib["class"]
        if name not in known and not hasattr(QtWidgets, name):
            raise RuntimeError(f"There is no widget class {name}")
    for custom in form.iter("customwidget"):
        name, base = custom.findtext("class"), custom.findtext("extends")
        if name in known and not any(kind.__name__ == base for kind in known[name].__mro__):
            raise RuntimeError(f"{name} does not extend {base}")


def _take_scene_connections(form: Any) -> list[tuple[str, str]]:
    """Remove from the form what passes the scene on, which Qt cannot connect without Slicer; return it."""
    taken = []
    for connections in form.iter("connections"):
        for connection in list(connections):
            if connection.findtext("signal") == SCENE_SIGNAL:
                taken.append((connection.findtext("sender"), connection.findtext("receiver")))
                connections.remove(connection)
    return taken


def _check_properties(form: Any, top: Any) -> None:
    """Qt makes a dynamic property of a name that the class lacks; only stdset="0" means that."""
    for element in form.iter("widget"):
        widget = find(top, element.attrib["name"])
        for entry in element.findall("property"):
            name = entry.attrib["name"]
            if (element.attrib["class"], name) in FORM_ONLY:
                continue
            if entry.attrib.get("stdset") != "0" and widget.metaObject().indexOfProperty(name) < 0:
                raise RuntimeError(f"{element.attrib['class']} has no property {name}")
