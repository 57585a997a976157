"""`slicer.parameterNodeWrapper`: typed attributes that live in a vtkMRMLScriptedModuleNode and follow widgets.

Values are stored as Slicer stores them, so that a scene saved here opens there. Types: str, bool, int, float, Enum,
node classes, and `list[...]` of these; `Annotated[str, Choice([...])]` and `Annotated[..., Default(...)]`. Stricter
than Slicer: an attribute that is not a parameter cannot be set.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """Annotation: the values that are allowed."""

    choices: typing.Sequence[Any]


@dataclass(frozen=True)
class Default:
    """Annotation: the value of a new parameter node."""

    value: Any


def parameter_node_wrapper(kind: type) -> type:
    """Class decorator: every annotated name becomes a parameter of the node that the class is made with."""
    parameters = {}
    for name, annotated in typing.get_type_hints(kind, include_extras=True).items():
        parameters[name] = parameter = Parameter(name, annotated, getattr(kind, name, None))
        setattr(kind, name, property(parameter.read_from, parameter.write_to))
    for name, value in vars(Wrapper).items():
        if not name.startswith("__") or name in ("__init__", "__setattr__"):
            setattr(kind, name, value)
    kind.allParameters = parameters  # type: ignore[attr-defined]
    return kind


class Wrapper:
    """The methods that every parameter node has."""

    def __init__(self, parameterNode: Any) -> None:
        object.__setattr__(self, "parameterNode", parameterNode)
        object.__setattr__(self, "_links", {})
        for parameter in self.allParameters.values():
            if not parameter.is_in(parameterNode):
                parameter.write(parameterNode, parameter.default)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.allParameters:
            raise AttributeError(f"{type(self).__name__} has no parameter {name!r}")
        object.__setattr__(self, name, value)

    def getValue(self, name: str) -> Any:
        return self._parameter(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self._parameter(name).write(self.parameterNode, value)

    def default(self, name: str) -> Default:
        return Default(self._parameter(name).default)

    def _parameter(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"There is no parameter {name!r}")
        return self.allParameters[name]

    def connectGui(self, gui: Any) -> int:
        """Link every widget that names a parameter in its property SlicerParameterName; returns a tag."""
        widgets = [widget for widget in vars(gui).values() if hasattr(widget, "property")]
        named = {widget.property("SlicerParameterName"): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, widgets: dict[str, Any]) -> int:
        from .links import link_widgets

        tag = len(self._links)
        self._links[tag] = link_widgets(self, widgets)
        return tag

    def disconnectGui(self, tag: int) -> None:
        if self._links.get(tag):
            self._links[tag].end()
            self._links[tag] = None

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> int:
        return self.parameterNode.EndModify(wasModified)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def AddObserver(self, event: Any, callback: Callable[..., Any], priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)


class Parameter:
    """One parameter: its type, its default, and how it is stored."""

    def __init__(self, name: str, annotated: Any, default: Any = None) -> None:
        self.name = name
        self.kind, *notes = typing.get_args(annotated) if hasattr(annotated, "__metadata__") else [annotated]
        self.choices = next((note.choices for note in notes if isinstance(note, Choice)), None)
        self.item = Parameter(name, typing.get_args(self.kind)[0]) if typing.get_origin(self.kind) is list else None
        stated = [note.value for note in notes if isinstance(note, Default)]
        self.default = next((value for value in (default, *stated) if value is not None), self._empty())
        self.check(self.default)

    def _empty(self) -> Any:
        if self.item:
            return []
        if issubclass(self.kind, enum.Enum):
            return next(iter(self.kind))
        if self.kind in (str, bool, int, float):
            return self.kind()
        if not self.is_node:
            raise TypeError(f"The parameter {self.name} has a type that these tests do not know: {self.kind}")
        return None

    @property
    def is_node(self) -> bool:
        import slicer

        return isinstance(self.kind, type) and issubclass(self.kind, slicer.vtkMRMLNode)

    def check(self, value: Any) -> None:
        """Raise what Slicer raises for a value that does not fit."""
        if value is None and not self.is_node:
            raise ValueError("Value must not be None")
        if self.item:
            for item in value:
                self.item.check(item)
            return
        fits = (int, float) if self.kind is float else self.kind
        if value is not None and not isinstance(value, fits):
            raise TypeError(f"{self.name} must be of type {self.kind}, not {type(value)}")
        if self.choices is not None and value not in self.choices:
            raise ValueError(f"{self.name} must be one of {self.choices}, not {value!r}")

    def read_from(self, wrapper: Wrapper) -> Any:
        return self.read(wrapper.parameterNode)

    def write_to(self, wrapper: Wrapper, value: Any) -> None:
        self.write(wrapper.parameterNode, value)

    def is_in(self, node: Any) -> bool:
        return bool(node.HasParameter(f"{self.name}.len" if self.item else self.name))

    def read(self, node: Any) -> Any:
        if self.item:
            return tuple(self.item.read_as(node, f"{self.name}.{number}") for number in range(self._length(node)))
        return self.read_as(node, self.name)

    def write(self, node: Any, value: Any) -> None:
        self.check(value)
        if not self.item:
            self.write_as(node, self.name, value)
            return
        before = node.StartModify()
        for number in range(self._length(node)):
            node.UnsetParameter(f"{self.name}.{number}")
            node.RemoveNodeReferenceIDs(f"{self.name}.{number}")
        for number, item in enumerate(value):
            self.item.write_as(node, f"{self.name}.{number}", item)
        node.SetParameter(f"{self.name}.len", str(len(value)))
        node.EndModify(before)

    def _length(self, node: Any) -> int:
        return int(node.GetParameter(f"{self.name}.len") or 0)

    def read_as(self, node: Any, name: str) -> Any:
        if self.is_node:
            return node.GetNodeReference(name)
        text = node.GetParameter(name)
        if self.kind is bool:
            return text == "True"
        return self.kind[text] if issubclass(self.kind, enum.Enum) else self.kind(text)

    def write_as(self, node: Any, name: str, value: Any) -> None:
        before = node.StartModify()
        if self.is_node:
            node.SetParameter(name, "")
            node.SetNodeReferenceID(name, value.GetID() if value else None)
        else:
            node.SetParameter(name, value.name if isinstance(value, enum.Enum) else str(value))
        node.EndModify(before)
