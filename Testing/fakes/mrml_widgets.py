"""The Qt widgets of Slicer that LightSeg uses, on the real scene.

Each has the properties, slots and invokable methods that Slicer's class has, and no others: those are what PythonQt
shows to Python.
"""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from .ctk_widgets import ctkCollapsibleButton, ctkMenuButton
from .node_selector import observe, qMRMLNodeComboBox

Property, Signal, Slot = QtCore.Property, QtCore.Signal, QtCore.Slot
CLOSED_SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


class qMRMLWidget(QtWidgets.QWidget):
    """A form that passes the scene on to the widgets in it."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene = None

    @Slot(object)
    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The place in the module panel where a scripted module's window lives."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        QtWidgets.QVBoxLayout(self)
        self._entered, self._python = False, None

    def _get_entered(self) -> bool:
        return self._entered

    isEntered = Property(bool, _get_entered)

    def self(self) -> Any:
        """The Python object of the module's window."""
        return self._python

    def enter(self) -> None:
        self._entered = True
        self._python.enter()

    def exit(self) -> None:
        self._entered = False
        self._python.exit()

    def hide_children(self) -> None:
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly):
            child.hide()
        while self.layout().count():
            self.layout().takeAt(0)

    def open(self, kind: type) -> Any:
        """Make the Python object and set it up, as the application does before a module is first shown."""
        self._python = kind(self)
        setattr(slicer.modules, kind.__name__, self._python)
        self._python.setup()
        return self._python


class ModulePanel(QtWidgets.QWidget):
    """The panel in which the application shows one module at a time: it scrolls, below a section with the help.

    Its width cannot become less than what the module's minimum and a scroll bar need.
    """

    def __init__(self) -> None:
        super().__init__()
        self._area, contents = QtWidgets.QScrollArea(), QtWidgets.QWidget()
        self._area.horizontalScrollBarPolicy = QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self._area.widgetResizable = True
        rows = QtWidgets.QVBoxLayout(contents)
        help_section = ctkCollapsibleButton("Help & Acknowledgement")
        QtWidgets.QVBoxLayout(help_section).addWidget(QtWidgets.QLabel("Help"))
        help_section.collapsed = True
        rows.addWidget(help_section)
        policy = QtWidgets.QSizePolicy.Policy
        rows.addItem(QtWidgets.QSpacerItem(0, 0, policy.Minimum, policy.MinimumExpanding))
        self._area.setWidget(contents)
        whole = QtWidgets.QGridLayout(self)
        whole.contentsMargins = QtCore.QMargins()
        whole.addWidget(self._area)

    def setModule(self, module: Any) -> None:
        """Show a module's widget, as narrow as the panel is."""
        module.layout().contentsMargins = QtCore.QMargins()
        self._area.widget().layout().insertWidget(1, module, 1)
        policy = QtWidgets.QSizePolicy.Policy
        module.sizePolicy = QtWidgets.QSizePolicy(policy.Ignored, module.sizePolicy.verticalPolicy())
        module.show()

    def scrollArea(self) -> Any:
        return self._area

    def minimumSizeHint(self) -> QtCore.QSize:
        width = self._area.widget().minimumSizeHint.width() + self._area.horizontalScrollBar().sizeHint.width()
        return QtCore.QSize(width, super().minimumSizeHint.height())


class qMRMLSegmentationShow3DButton(ctkMenuButton):
    """Makes and removes the surfaces of a segmentation; pressed as long as it has some."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._node = None
        self.text = "Show 3D"
        self.checkable = True
        self.setEnabled(False)
        self.toggled.connect(self._show)

    @Slot(object)
    def setSegmentationNode(self, node: Any) -> None:
        if node is not self._node:
            self._node = node
            if node is not None:
                kind = slicer.vtkSegmentation
                events = (kind.SegmentAdded, kind.SegmentRemoved, kind.ContainedRepresentationNamesModified)
                observe(node, (vtk.vtkCommand.ModifiedEvent, *events), self._follow)
            self._follow()

    def segmentationNode(self) -> Any:
        return self._node

    def _follow(self) -> None:
        segmentation = self._node.GetSegmentation() if self._node is not None else None
        self.setEnabled(segmentation is not None and segmentation.GetNumberOfSegments() > 0)
        before = self.blockSignals(True)
        self.setChecked(segmentation is not None and segmentation.ContainsRepresentation(CLOSED_SURFACE))
        self.blockSignals(before)

    def _show(self, shown: bool) -> None:
        if self._node is None:
            return
        if not shown:
            self._node.GetSegmentation().RemoveRepresentation(CLOSED_SURFACE)
        elif self._node.GetSegmentation().CreateRepresentation(CLOSED_SURFACE) and self._node.GetDisplayNode():
            self._node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(CLOSED_SURFACE)
            self._node.GetDisplayNode().SetPreferredDisplayRepresentationName2D(LABELMAP)


NAMES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (qMRMLWidget, qSlicerScriptedLoadableModuleWidget, qMRMLNodeComboBox, qMRMLSegmentationShow3DButton)
}
