"""`slicer.app` and `slicer.modules`, and the windows of other modules that LightSeg opens."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class Signal:
    """`connect`, `disconnect` and `emit` of a Qt signal."""

    def __init__(self) -> None:
        self._receivers: list[Callable[..., Any]] = []

    def connect(self, receiver: Callable[..., Any]) -> bool:
        self._receivers.append(receiver)
        return True

    def disconnect(self, receiver: Callable[..., Any]) -> bool:
        self._receivers.remove(receiver)
        return True

    def emit(self, *arguments: Any) -> None:
        for receiver in list(self._receivers):
            receiver(*arguments)


class Application:
    """What LightSeg and slicer.util ask of `slicer.app`.

    In testing mode `slicer.util` raises errors and shows no dialog; tests of the window leave it, to meet dialogs as
    a user does.
    """

    __slots__ = ("_extensions", "_layout", "_logic", "aboutToQuit", "startupCompleted", "testing")

    applicationName = "Slicer"
    applicationVersion = "5.10.0"
    revision = "34045"

    def __init__(self) -> None:
        import slicer

        self.startupCompleted, self.aboutToQuit = Signal(), Signal()
        self._logic = slicer.vtkSlicerApplicationLogic()
        self.testing = True
        self._layout = LayoutManager()
        self._extensions = ExtensionsManagerModel()

    def applicationLogic(self) -> Any:
        return self._logic

    def translate(self, context: str, text: str) -> str:
        """The text in the application's language: that of the translators that are installed, where Qt is used."""
        if "PySide6.QtCore" not in sys.modules:
            return text
        from PySide6.QtCore import QCoreApplication

        return QCoreApplication.translate(context, text)

    def testingEnabled(self) -> bool:
        return self.testing

    def layoutManager(self) -> LayoutManager:
        return self._layout

    def extensionsManagerModel(self) -> ExtensionsManagerModel:
        return self._extensions

    @property
    def lastWindowClosed(self) -> Any:
        """Qt's own signal."""
        return _qt_application().lastWindowClosed

    def processEvents(self) -> None:
        _qt_application().processEvents()

    def clipboard(self) -> Any:
        return _qt_application().clipboard()

    def setOverrideCursor(self, cursor: Any) -> None:
        if not self.testing:
            _qt_application().setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        if not self.testing:
            _qt_application().restoreOverrideCursor()

    def pauseRender(self) -> None:
        pass

    def resumeRender(self) -> None:
        pass


def _qt_application() -> Any:
    from .qt_application import APPLICATION

    return APPLICATION


class ExtensionsManagerModel:
    """Knows which extensions are installed, and remembers which it was asked to install."""

    __slots__ = ("_installed", "_requested", "interactive")

    def __init__(self) -> None:
        self.interactive = True
        self._installed: set[str] = set()
        self._requested: list[str] = []

    def isExtensionInstalled(self, name: str) -> bool:
        return name in self._installed

    def installExtensionFromServer(self, name: str, restart: bool = True, update: bool = False) -> bool:
        self._requested.append(name)
        return True


class LayoutManager:
    """The three slice views, by the nodes and logics that MRML has for them; they exist once asked for."""

    __slots__ = ("_widgets",)

    def __init__(self) -> None:
        self._widgets: dict[str, SliceWidget] = {}

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._views())

    def sliceWidget(self, name: str) -> SliceWidget | None:
        return self._views().get(name)

    def mrmlSliceLogics(self) -> Any:
        import vtk

        logics = vtk.vtkCollection()
        for widget in self._views().values():
            logics.AddItem(widget.sliceLogic())
        return logics

    def _views(self) -> dict[str, SliceWidget]:
        import slicer

        from .scene import SLICE_VIEWS

        if not self._widgets:
            slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene)
            self._widgets = {name: SliceWidget(name, plane) for name, plane in SLICE_VIEWS.items()}
        return self._widgets


class SliceWidget:
    """One slice view without a picture: its node and its logic."""

    __slots__ = ("_logic",)

    def __init__(self, name: str, orientation: str) -> None:
        import slicer

        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.AddSliceNode(name)
        self._logic.GetSliceNode().SetOrientation(orientation)

    def sliceLogic(self) -> Any:
        return self._logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()


class Modules:
    """`slicer.modules`: a module is an attribute in lower case, and its open window `<Name>Widget`."""

    def add(self, name: str, logic: Any) -> None:
        setattr(self, name, SimpleNamespace(logic=lambda: logic))


# --- other modules' windows --------------------------------------------------------------------

SELECTED: list[str] = []  # the modules that were opened, last one last


def select_module(module: str) -> None:
    """`slicer.util.selectModule`, for the one module that LightSeg leads to."""
    assert module == "SegmentEditor", f"these tests know no module {module}"
    import slicer

    SELECTED.append(module)
    shown = getattr(slicer.modules, "LightSegWidget", None)
    if shown is not None and shown.parent.isEntered:
        shown.parent.exit()  # the panel shows one module at a time
    module_widget(module)


def module_widget(module: str) -> Any:
    """`slicer.util.getModuleWidget`: the module's window, made when it is first asked for."""
    import slicer

    assert module == "SegmentEditor", f"these tests know no module {module}"
    if not hasattr(slicer.modules, "SegmentEditorWidget"):
        slicer.modules.SegmentEditorWidget = SimpleNamespace(editor=SegmentEditor())
    return slicer.modules.SegmentEditorWidget


class SegmentEditor:
    """The editor of the module Segment Editor, as far as another module hands nodes over to it."""

    __slots__ = ("_segmentation", "_volume")

    def __init__(self) -> None:
        self._segmentation = self._volume = None

    def setSegmentationNode(self, node: Any) -> None:
        self._segmentation = node

    def segmentationNode(self) -> Any:
        return self._segmentation

    def setSourceVolumeNode(self, node: Any) -> None:
        self._volume = node

    def sourceVolumeNode(self) -> Any:
        return self._volume


def main_window() -> Any:
    """The main window, where Qt is used."""
    import slicer

    if slicer.app.testingEnabled():
        return None
    from .qt_application import MAIN_WINDOW

    return MAIN_WINDOW
