"""Slicer's Python base classes of a scripted module, as far as LightSeg uses them."""

from __future__ import annotations

import importlib.util
import sys
import unittest
from pathlib import Path
from typing import Any


def reload_scripted_module(name: str) -> Any:
    """`slicer.util.reloadScriptedModule`: the file is read anew, then the old window ends and a new one is set up.

    As in Slicer the window is neither left nor entered, and only the module's own file is read again.
    """
    import slicer

    specification = importlib.util.spec_from_file_location(name, sys.modules[name].__file__ or "")
    module = sys.modules[name] = importlib.util.module_from_spec(specification)  # type: ignore[arg-type]
    specification.loader.exec_module(module)  # type: ignore[union-attr]
    old = getattr(slicer.modules, f"{name}Widget")
    old.parent.hide_children()
    old.cleanup()
    old.parent.open(getattr(module, f"{name}Widget"))
    return module


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, name: str) -> str:
        return str(Path(sys.modules[type(self).__module__].__file__ or "").parent / "Resources" / name)


class ScriptedLoadableModuleWidget:
    """Without a parent it opens a window of its own, as `slicer.modules.lightseg.createNewWidgetRepresentation`."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        if parent is None:
            from .mrml_widgets import qSlicerScriptedLoadableModuleWidget

            parent = qSlicerScriptedLoadableModuleWidget()
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, name: str) -> str:
        return str(Path(sys.modules[type(self).__module__].__file__ or "").parent / "Resources" / name)

    def setup(self) -> None:
        pass

    def cleanup(self) -> None:
        pass

    def onReload(self) -> None:
        """The developer's button Reload."""
        import slicer

        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        """The module's one parameter node in the scene."""
        import slicer

        found = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if found is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
            found = slicer.mrmlScene.AddNode(node)
        found.SetAttribute("ModuleName", self.moduleName)
        return found


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        pass
