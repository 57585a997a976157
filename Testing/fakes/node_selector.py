"""Slicer's selector of nodes, on the real scene.

It has the properties, slots and invokable methods that Slicer's class has, and no others: those are what PythonQt
shows to Python. `setNodeTypes` is not among them, `nodeTypes = [...]` is.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from shiboken6 import isValid

from . import qt_application  # noqa: F401  widgets need the application

Property, Signal, Slot = QtCore.Property, QtCore.Signal, QtCore.Slot


def observe(thing: Any, events: tuple[int, ...], method: Callable[[], None]) -> list[int]:
    """Call a widget's method at these events, as long as the widget exists."""
    owner, name, tags = weakref.ref(method.__self__), method.__name__, []  # type: ignore[attr-defined]

    def call(caller: Any, event: str) -> None:
        widget = owner()
        if widget is not None and isValid(widget):
            getattr(widget, name)()
        else:
            for tag in tags:
                thing.RemoveObserver(tag)

    tags += [thing.AddObserver(event, call) for event in events]
    return tags


def _flag(name: str) -> Any:
    """A property that is true or false and decides what the list of nodes shows."""

    def change(self: qMRMLNodeComboBox, value: bool) -> None:
        self._flags[name] = value
        self._follow()

    return Property(bool, lambda self: self._flags[name], change)


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Choice of a node of the scene."""

    # Slicer has this signal twice, with a node and with a bool, and PythonQt connects either: a receiver cannot rely
    # on what it is given. Here it is the bool.
    currentNodeChanged = Signal(bool)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    nodeAboutToBeRemoved = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._box = QtWidgets.QComboBox()
        self._scene, self._nodes, self._current, self._wanted = None, [], None, None
        self._types, self._base_name, self._none_text, self._attributes, self._labels = [], "", "None", [], {}
        self._flags = {"showChildNodeTypes": True, "addEnabled": True, "removeEnabled": True, "noneEnabled": False}
        self._flags |= {"renameEnabled": False, "editEnabled": False, "showHidden": False}
        self._flags |= {"selectNodeUponCreation": True}
        row = QtWidgets.QHBoxLayout(self)
        row.contentsMargins = QtCore.QMargins()
        row.addWidget(self._box)
        self._box.minimumContentsLength = 8
        self._box.sizeAdjustPolicy = QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self._box.activated.connect(self._activate)
        self.setEnabled(False)

    # --- the scene ---

    def mrmlScene(self) -> Any:
        return self._scene

    @Slot(object)
    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._scene = scene
        if scene is not None:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent)
            observe(scene, events, self._follow)
        self.setEnabled(scene is not None)
        self._follow()
        if self._wanted is not None:
            self.setCurrentNodeID(self._wanted)
            self._wanted = None

    def _follow(self) -> None:
        """Show the nodes as they are now."""
        if self._scene is None or self._scene.IsBatchProcessing():
            return
        before, place, actions = self._nodes, self._index_of(self._current), self._actions()
        self._nodes = [node for node in slicer.util.getNodesByClass("vtkMRMLNode") if self._fits(node)]
        for node in self._nodes:
            if node not in before:
                observe(node, (vtk.vtkCommand.ModifiedEvent,), self._name_nodes)
        if self._current is not None and self._current not in self._nodes:  # the next one takes its place
            self._change(self._nodes[min(place, len(self._nodes) - 1)] if self._nodes else None)
        elif self._current is None and not before and self._nodes and not (self._flags["noneEnabled"] or actions):
            self._change(self._nodes[0])  # Qt selects the first entry of a list that was empty
        self._fill()
        for node in self._nodes:
            if node not in before:
                self.nodeAdded.emit(node)

    def _fits(self, node: Any) -> bool:
        exact = not self._flags["showChildNodeTypes"]
        types = [kind for kind in self._types if (node.GetClassName() == kind if exact else node.IsA(kind))]
        if not types or (node.GetHideFromEditors() and not self._flags["showHidden"]):
            return False
        wanted = [(name, value) for kind, name, value in self._attributes if kind in types]
        return all(
            node.GetAttribute(name) == value if value is not None else node.GetAttribute(name) is not None
            for name, value in wanted
        )

    # --- what is shown ---

    def _actions(self) -> dict[str, Callable[[], Any]]:
        actions: dict[str, Callable[[], Any]] = {}
        label = self.nodeTypeLabel(self._types[0]) if len(self._types) == 1 else "node"
        if self._flags["renameEnabled"]:
            actions[f"Rename current {label}"] = self.renameCurrentNode
        if self._flags["addEnabled"]:
            for kind in self._types:
                actions[f"Create new {self.nodeTypeLabel(kind)}"] = lambda kind=kind: self._add_by_user(kind)
        if self._flags["removeEnabled"]:
            actions[f"Delete current {label}"] = self.removeCurrentNode
        return actions

    def _fill(self) -> None:
        self._box.clear()
        if self._flags["noneEnabled"]:
            self._box.addItem(self._none_text, None)
        for node in self._nodes:
            self._box.addItem(node.GetName() or "", node.GetID())
        if actions := self._actions():
            self._box.insertSeparator(self._box.count)
            self._box.addItems(list(actions))
        self._show_current()

    def _name_nodes(self) -> None:
        for number, node in enumerate(self._nodes, start=int(self._flags["noneEnabled"])):
            self._box.setItemText(number, node.GetName() or "")

    def _show_current(self) -> None:
        place = self._index_of(self._current)
        first = int(self._flags["noneEnabled"])
        self._box.setCurrentIndex(place + first if place >= 0 else first - 1)

    def _index_of(self, node: Any) -> int:
        return self._nodes.index(node) if node in self._nodes else -1

    def _activate(self, index: int) -> None:
        """The user chose an entry of the list."""
        first, text = int(self._flags["noneEnabled"]), self._box.itemText(index)
        self._show_current()
        if index < first + len(self._nodes):
            self._change(None if index < first else self._nodes[index - first])
            self.nodeActivated.emit(self._current)
        else:
            self._actions()[text]()

    def _change(self, node: Any) -> None:
        if node is self._current:
            return
        self._current = node
        self._show_current()
        self.currentNodeChanged.emit(node is not None)
        self.currentNodeIDChanged.emit(node.GetID() if node is not None else "")

    # --- slots and methods of Slicer's class ---

    def currentNode(self) -> Any:
        return self._current

    @Slot(object)
    def setCurrentNode(self, node: Any) -> None:
        """A node or its ID. What is not in the list deselects."""
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    @Slot(str)
    def setCurrentNodeID(self, identifier: str) -> None:
        if self._scene is None:
            self._wanted = identifier
        else:
            self._change(next((node for node in self._nodes if node.GetID() == identifier), None))

    @Slot(int)
    def setCurrentNodeIndex(self, index: int) -> None:
        self._change(self.nodeFromIndex(index))

    def nodeCount(self) -> int:
        return len(self._nodes)

    def nodeFromIndex(self, index: int) -> Any:
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def addAttribute(self, nodeType: str, name: str, value: Any = None) -> None:
        self._attributes.append((nodeType, name, value))
        self._follow()

    def nodeTypeLabel(self, nodeType: str) -> str:
        named = self._labels.get(nodeType)
        return named or (self._scene.GetTypeDisplayNameByClassName(nodeType) if self._scene else "") or "node"

    def setNodeTypeLabel(self, label: str, nodeType: str) -> None:
        self._labels[nodeType] = label
        self._follow()

    def addNode(self, nodeType: str | None = None) -> Any:
        kind = nodeType or self._types[0]
        name = self._scene.GenerateUniqueName(self._base_name or self.nodeTypeLabel(kind))
        node = self._scene.AddNewNodeByClass(kind, name)
        if self._flags["selectNodeUponCreation"]:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def _add_by_user(self, nodeType: str) -> None:
        node = self.addNode(nodeType)
        self.setCurrentNode(node)
        self.nodeAddedByUserAction.emit(node)

    @Slot()
    def removeCurrentNode(self) -> None:
        if self._current is not None:
            self.nodeAboutToBeRemoved.emit(self._current)
            self._scene.RemoveNode(self._current)

    @Slot()
    def renameCurrentNode(self) -> None:
        raise NotImplementedError("the dialog that asks for a name")

    # --- properties of Slicer's class ---

    def _set_types(self, types: list[str]) -> None:
        self._types = list(types)
        self._follow()

    def _set_base_name(self, name: str) -> None:
        self._base_name = name

    def _set_none_text(self, text: str) -> None:
        self._none_text = text
        self._fill()

    def _current_id(self) -> str:
        return self._current.GetID() if self._current is not None else ""

    currentNodeID = Property(str, _current_id, setCurrentNodeID, notify=currentNodeIDChanged)
    nodeTypes = Property("QStringList", lambda self: self._types, _set_types)
    baseName = Property(str, lambda self: self._base_name, _set_base_name)
    noneDisplay = Property(str, lambda self: self._none_text, _set_none_text)
    noneEnabled = _flag("noneEnabled")
    addEnabled = _flag("addEnabled")
    removeEnabled = _flag("removeEnabled")
    renameEnabled = _flag("renameEnabled")
    editEnabled = _flag("editEnabled")
    showHidden = _flag("showHidden")
    showChildNodeTypes = _flag("showChildNodeTypes")
    selectNodeUponCreation = _flag("selectNodeUponCreation")
