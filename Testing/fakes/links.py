"""Widgets that follow parameters, and parameters that follow widgets."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import vtk
from PySide6 import QtWidgets

from .node_selector import qMRMLNodeComboBox

NUMBERS = ((QtWidgets.QSpinBox, int), (QtWidgets.QSlider, int), (QtWidgets.QDoubleSpinBox, float))


def link_widgets(wrapper: Any, widgets: dict[str, Any]) -> Links:
    """Link widgets to the parameters of these names."""
    return Links(wrapper, {name: make_link(wrapper.allParameters[name], widget) for name, widget in widgets.items()})


class Links:
    """Widgets linked to parameters, until `end`."""

    def __init__(self, wrapper: Any, links: dict[str, Link]) -> None:
        self.wrapper, self.links, self.showing = wrapper, links, False
        self.show()
        for name, link in links.items():
            link.changed.connect(self._keeper(name))
        self.tag = wrapper.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self.show())

    def _keeper(self, name: str) -> Callable[..., None]:
        def keep(*arguments: Any) -> None:
            if self.tag is not None and not self.showing:
                self.wrapper.setValue(name, self.links[name].read())

        return keep

    def show(self) -> None:
        """Let the widgets show what the parameters are."""
        if self.showing:
            return
        self.showing = True
        try:
            for name, link in self.links.items():
                link.write(self.wrapper.getValue(name))
        finally:
            self.showing = False

    def end(self) -> None:
        self.wrapper.RemoveObserver(self.tag)
        self.tag = None


class Link:
    """How one widget shows a value, gives it back and signals that it changed."""

    def __init__(self, changed: Any, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self.changed, self.read, self.write = changed, read, write


def make_link(parameter: Any, widget: Any) -> Link:
    """Exact types only, as Slicer's connectors have it: a widget of a derived class is refused."""
    kind, wanted = type(widget), parameter.kind
    if kind is qMRMLNodeComboBox and parameter.is_node:
        return Link(widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode)
    if kind is QtWidgets.QCheckBox and wanted is bool:
        return Link(widget.toggled, lambda: widget.checked, widget.setChecked)
    if kind is QtWidgets.QLineEdit and wanted is str:
        return Link(widget.textChanged, lambda: widget.text, lambda text: text == widget.text or widget.setText(text))
    if (kind, wanted) in NUMBERS:
        return Link(widget.valueChanged, lambda: widget.value, widget.setValue)
    if kind is QtWidgets.QComboBox and isinstance(wanted, type):
        values = list(wanted) if issubclass(wanted, enum.Enum) else parameter.choices
        if values is not None:
            return _combo_box_link(widget, list(values))
    raise RuntimeError(f"Slicer links no {kind.__name__} to the parameter {parameter.name} of type {wanted}")


def _combo_box_link(widget: Any, values: list[Any]) -> Link:
    """Slicer fills the box itself, with the names of an Enum (or what its `label` returns) or with the choices."""
    widget.clear()
    for value in values:
        label = getattr(type(value), "label", lambda value: value.name)
        widget.addItem(label(value) if isinstance(value, enum.Enum) else str(value))
    return Link(
        widget.currentIndexChanged,
        lambda: values[widget.currentIndex],
        lambda value: widget.setCurrentIndex(values.index(value)),
    )
