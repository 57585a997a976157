"""A scene without the application: what slicer-core lacks of 3D Slicer, as far as LightSeg.py uses it.

The package slicer-core holds Slicer's own MRML and segmentation classes, which are used as they are. Missing are
the application object, the Qt side and the Python base classes of modules; these are small stand-ins of ours.
`install()` puts them in place, after which `import LightSeg` works as it does in Slicer's Python console.
"""

from __future__ import annotations

import sys
import types
import unittest
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MODULE_FOLDER = Path(__file__).resolve().parents[2] / "LightSeg"


def install() -> None:
    """Give `slicer` a scene, an application and module base classes; a second call changes nothing."""
    import slicer
    import slicer.util

    if hasattr(slicer, "app"):
        return
    if str(MODULE_FOLDER) not in sys.path:
        sys.path.insert(0, str(MODULE_FOLDER))
    slicer.app = Application()
    _make_scene(slicer)
    slicer.util.loadVolume = load_volume
    slicer.util.loadUI = load_ui
    slicer.util.childWidgetVariables = lambda widget: SimpleNamespace(**widget.children)
    _add_module("qt", Qt=SimpleNamespace(WaitCursor=3))
    _add_module("ctk")
    _add_module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    _add_module("slicer.parameterNodeWrapper", parameterNodeWrapper=parameter_node_wrapper)
    _add_module(
        "slicer.ScriptedLoadableModule",
        ScriptedLoadableModule=Module,
        ScriptedLoadableModuleWidget=ModuleWidget,
        ScriptedLoadableModuleLogic=ModuleLogic,
        ScriptedLoadableModuleTest=ModuleTest,
    )


def _make_scene(slicer: Any) -> None:
    """The scene and the module logics, set up in the order in which the application does it."""
    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    application = slicer.app.logic = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    colors = slicer.vtkMRMLColorLogic()
    colors.SetMRMLScene(scene)
    colors.AddDefaultColorNodes()
    application.SetColorLogic(colors)
    classes = {
        "SubjectHierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic,
        "Volumes": slicer.vtkSlicerVolumesLogic,
        "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic,
    }
    slicer.modules = SimpleNamespace()
    for name, kind in classes.items():
        logic = kind()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
        setattr(slicer.modules, name.lower(), SimpleNamespace(logic=lambda logic=logic: logic))


def _add_module(name: str, **content: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module


def load_volume(filename: str, properties: dict[str, Any] | None = None) -> Any:
    """Read an image file into a scalar volume node of the scene."""
    import slicer

    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(filename))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", (properties or {}).get("name", "Volume"))
    if not storage.ReadData(node):
        raise RuntimeError(f"{filename} cannot be read")
    node.SetAndObserveStorageNodeID(storage.GetID())
    return node


# --- Qt ----------------------------------------------------------------------------------------


class Signal:
    """`connect` and `emit` of a Qt signal."""

    def __init__(self) -> None:
        self.receivers: list[Callable[..., Any]] = []

    def connect(self, receiver: Callable[..., Any]) -> None:
        self.receivers.append(receiver)

    def emit(self, *arguments: Any) -> None:
        for receiver in self.receivers:
            receiver(*arguments)


class Application:
    """What LightSeg and slicer.util ask of `slicer.app`; in testing mode errors raise and show no dialog."""

    def __init__(self) -> None:
        self.startupCompleted = Signal()
        self.logic: Any = None

    def applicationLogic(self) -> Any:
        return self.logic

    def testingEnabled(self) -> bool:
        return True

    def setOverrideCursor(self, cursor: Any) -> None:
        pass

    def restoreOverrideCursor(self) -> None:
        pass


class Widget:
    """A widget that remembers what it was told; enough for a form of labels, buttons and selectors."""

    def __init__(self) -> None:
        self.children: dict[str, Widget] = {}
        self.clicked, self.currentIndexChanged, self.nodeAddedByUser = Signal(), Signal(), Signal()
        self.enabled, self.toolTip, self.text = True, "", ""
        self.items: list[str] = []
        self.currentIndex = -1
        self.scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        self.scene = scene

    def setEnabled(self, enabled: bool) -> None:
        self.enabled = enabled

    def setToolTip(self, text: str) -> None:
        self.toolTip = text

    def setText(self, text: str) -> None:
        self.text = text

    def repaint(self) -> None:
        pass

    def addItem(self, text: str) -> None:
        self.items.append(text)
        if self.currentIndex < 0:
            self.setCurrentIndex(0)

    def setCurrentIndex(self, index: int) -> None:
        if index != self.currentIndex:
            self.currentIndex = index
            self.currentIndexChanged.emit(index)


def load_ui(path: str) -> Widget:
    """The named widgets of a .ui file, without looks; its connections pass the scene on as Qt would."""
    form = ElementTree.parse(path).getroot()
    top = Widget()
    top.children = {element.attrib["name"]: Widget() for element in form.iter("widget")}
    receivers = [connection.findtext("receiver", "") for connection in form.iter("connection")]

    def set_scene(scene: Any) -> None:
        for name in receivers:
            top.children[name].setMRMLScene(scene)

    top.setMRMLScene = set_scene  # type: ignore[method-assign]
    return top


# --- Slicer's Python base classes --------------------------------------------------------------


class Module:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        self.parent = parent or SimpleNamespace(isEntered=True)
        self.layout = SimpleNamespace(addWidget=lambda widget: None)

    def setup(self) -> None:
        pass

    def resourcePath(self, name: str) -> str:
        return str(MODULE_FOLDER / "Resources" / name)


class ModuleLogic:
    def getParameterNode(self) -> Any:
        """The module's one parameter node in the scene."""
        import slicer

        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetSingletonTag("LightSeg")
        node.SetModuleName("LightSeg")
        return slicer.mrmlScene.GetSingletonNode("LightSeg", node.GetClassName()) or slicer.mrmlScene.AddNode(node)


class ModuleTest(unittest.TestCase):
    def delayDisplay(self, message: str) -> None:
        pass


def parameter_node_wrapper(kind: type) -> type:
    """Class decorator: annotated strings become parameters of the node, annotated node classes references."""

    def initialize(self: Any, node: Any) -> None:
        self.parameterNode = node
        for name, default in defaults.items():
            if not node.GetParameter(name):
                node.SetParameter(name, default)

    defaults = {name: getattr(kind, name) for name in kind.__annotations__ if hasattr(kind, name)}
    for name, annotation in kind.__annotations__.items():
        setattr(kind, name, _parameter(name) if annotation is str else _reference(name))
    kind.__init__ = initialize  # type: ignore[misc]
    kind.AddObserver = lambda self, *arguments: self.parameterNode.AddObserver(*arguments)  # type: ignore[attr-defined]
    kind.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)  # type: ignore[attr-defined]
    kind.connectGui = lambda self, widgets: 1  # type: ignore[attr-defined]
    kind.disconnectGui = lambda self, tag: None  # type: ignore[attr-defined]
    return kind


def _parameter(name: str) -> property:
    return property(
        lambda self: self.parameterNode.GetParameter(name),
        lambda self, value: self.parameterNode.SetParameter(name, value),
    )


def _reference(name: str) -> property:
    return property(
        lambda self: self.parameterNode.GetNodeReference(name),
        lambda self, node: self.parameterNode.SetNodeReferenceID(name, node.GetID() if node else None),
    )
