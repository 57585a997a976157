"""3D Slicer without its application: what the package slicer-core lacks, as far as LightSeg's module uses it.

slicer-core holds Slicer's own MRML and segmentation classes and `slicer.util`, which are used as they are. Missing
are the application object, the Python base classes of modules and the Qt side; these are small fakes of ours.
`install()` puts them in place, after which `import LightSeg` works as it does in Slicer's Python console.

`qt`, `ctk` and the widgets of `slicer` appear when they are first used: they need PySide6, all the rest does not.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

MODULE_FOLDER = Path(__file__).resolve().parents[2] / "LightSeg"
WIDGETS = ("qMRMLWidget", "qMRMLNodeComboBox", "qMRMLSegmentationShow3DButton", "qSlicerScriptedLoadableModuleWidget")


def install() -> None:
    """Give `slicer` a scene, an application and module base classes; a second call changes nothing."""
    import slicer
    import slicer.util

    if hasattr(slicer, "app"):
        return
    if str(MODULE_FOLDER) not in sys.path:
        sys.path.insert(0, str(MODULE_FOLDER))
    from . import application, module, parameters, scene

    slicer.app = application.Application()
    slicer.modules = application.Modules()
    scene.make_scene()
    slicer.util.loadVolume = scene.load_volume
    slicer.util.childWidgetVariables = _child_widgets
    slicer.util.settingsValue = lambda key, default, converter=None: default
    slicer.util.mainWindow = application.main_window
    slicer.util.selectModule = application.select_module
    slicer.util.getModuleWidget = application.module_widget
    slicer.util.reloadScriptedModule = module.reload_scripted_module
    slicer.__dict__["__getattr__"] = _slicer_widget
    sys.modules["qt"] = _Lazy("qt", "fakes.pyside")
    sys.modules["ctk"] = _Lazy("ctk", "fakes.ctk_widgets")
    # In the application both ask `slicer.app.translate`; its contexts, the files' names, do not matter here.
    _add_module(
        "slicer.i18n",
        tr=lambda text: slicer.app.translate("LightSeg", text),
        translate=lambda context, text: slicer.app.translate(context, text),
    )
    _add_module(
        "slicer.parameterNodeWrapper",
        parameterNodeWrapper=parameters.parameter_node_wrapper,
        Choice=parameters.Choice,
        Default=parameters.Default,
    )
    _add_module(
        "slicer.ScriptedLoadableModule",
        ScriptedLoadableModule=module.ScriptedLoadableModule,
        ScriptedLoadableModuleWidget=module.ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic=module.ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest=module.ScriptedLoadableModuleTest,
    )


class _Lazy(types.ModuleType):
    """A module whose names are those that another one offers in `NAMES`, imported at the first use."""

    def __init__(self, name: str, source: str) -> None:
        super().__init__(name)
        self._source = source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # PySide6 asks every module for its __file__
            raise AttributeError(name)
        names = importlib.import_module(self._source).NAMES
        if name not in names:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return names[name]


def _slicer_widget(name: str) -> Any:
    if name not in WIDGETS:
        raise AttributeError(f"module 'slicer' has no attribute {name!r}")
    return getattr(importlib.import_module("fakes.mrml_widgets"), name)


def _child_widgets(widget: Any) -> types.SimpleNamespace:
    """All named descendants of a widget, as attributes."""
    from PySide6 import QtCore

    return types.SimpleNamespace(
        **{child.objectName: child for child in widget.findChildren(QtCore.QObject) if child.objectName}
    )


def _add_module(name: str, **content: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module
