"""PySide6's classes as PythonQt shows them: properties are attributes, and what Qt's class lacks is refused.

In Slicer `button.text` is the text and `button.text = "Apply"` sets it; `setText` and `isEnabled` exist beside it, but
no `text()`. PySide6 has it the other way round, and a misspelled `button.txet = "Apply"` quietly becomes an attribute
of the Python object, so that a test passes on nothing. PySide6's own `true_property` is not used: it belongs to single
Python modules, and with it classes derived in Python lose their slots.

After `install` this holds for every caller. A class written in Python may have attributes of its own; those of the
stand-ins are set by the stand-ins alone.
"""

from __future__ import annotations

import sys
from typing import Any

from PySide6.QtCore import Property, QObject

MISSING = object()
KEPT_BY_PYSIDE = ("SignalInstance", "MetaFunction")  # it puts these into an object when they are first used


def install(*modules: Any) -> None:
    """Change all classes of these Qt modules. Each one: PySide6 gives each a slot of its own for attributes."""
    for module in modules:
        for name in dir(module):
            kind = getattr(module, name)
            if isinstance(kind, type(QObject)):  # and so are items, icons and colors, which have no properties
                if issubclass(kind, QObject):
                    _add_properties(kind)
                kind.__setattr__ = set_attribute  # type: ignore[method-assign]


class QtProperty(property):
    """A property of Qt's class; on the class itself its method of the same name, such as `QTimer.singleShot`."""

    method: Any = None

    def __get__(self, widget: Any, kind: type | None = None) -> Any:
        return super().__get__(widget, kind) if widget is not None or self.method is None else self.method


def _add_properties(kind: Any) -> None:
    """Put Qt's properties in the class: its own, and inherited ones that a method of the class would hide."""
    meta, own = kind.staticMetaObject, dict(vars(kind))
    for number in range(meta.propertyCount()):
        declared = meta.property(number)
        name = str(declared.name())
        capital = name[0].upper() + name[1:]
        if number < meta.propertyOffset() and name not in own:
            continue
        getter = next((own[get] for get in (f"is{capital}", f"has{capital}", name) if callable(own.get(get))), None)
        setter = getattr(kind, f"set{capital}", None)
        shown = QtProperty(_reader(name, getter), _writer(name, setter) if declared.isWritable() else None)
        shown.method = own.get(name)
        setattr(kind, name, shown)


def _reader(name: str, getter: Any) -> Any:
    return lambda widget: getter(widget) if getter is not None else widget.property(name)


def _writer(name: str, setter: Any) -> Any:
    return lambda widget, value: setter(widget, value) if setter is not None else widget.setProperty(name, value)


def set_attribute(self: Any, name: str, value: Any) -> None:
    """Set a property of Qt or of the class; raise AttributeError for anything else."""
    found = next((vars(kind)[name] for kind in type(self).__mro__ if name in vars(kind)), MISSING)
    if isinstance(found, Property) and found.fset is not None:  # of a stand-in; it has no __set__
        found.fset(self, value)
    elif hasattr(type(found), "__set__"):
        found.__set__(self, value)
    elif type(value).__name__ in KEPT_BY_PYSIDE or (found is MISSING and _may_have_its_own(type(self))):
        self.__dict__[name] = value
    else:
        what = "has no attribute" if found is MISSING else "cannot be given another"
        raise AttributeError(f"{type(self).__name__} {what} {name!r}")


def _may_have_its_own(kind: type) -> bool:
    origin = kind.__module__.partition(".")[0]
    if origin == "fakes":
        return sys._getframe(2).f_globals["__name__"].startswith("fakes.")
    return origin not in ("PySide6", "Shiboken")
