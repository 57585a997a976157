"""What a report of an error needs: versions, system and log, and nothing of a patient."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import PurePath
from typing import Any

import slicer
import vtk

from ... import __version__
from ...core.anonymous import anonymous

PACKAGES = ("torch", "numpy", "SimpleITK", "openvino")
NODES = ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLMarkupsNode", "vtkMRMLTransformNode")
LOG_LINES = 200  # the last ones


def details(message: str, log: str) -> str:
    """Return a text for a report.

    Args:
        message: what the user was reported.
        log: what the worker or the program wrote, of which the end counts.

    Returns:
        Lines with the message, the versions, the system and the log. Names of nodes and of the scene's items, folders
        and files are replaced, since they often are those of patients.
    """
    app = slicer.app
    versions = {
        "LightSeg": __version__,
        app.applicationName: f"{app.applicationVersion} (revision {app.revision})",
        "Python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }
    system = f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} processors"
    lines = [
        message,
        "",
        *(f"{name}: {version}" for name, version in versions.items() if version),
        f"System: {system}",
        "",
        *log.splitlines()[-LOG_LINES:],
    ]
    return anonymous("\n".join(lines).strip(), _names())


def _version(package: str) -> str:
    """Return as its files say, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _names() -> list[str]:
    """Return what nodes, their files and their places in the subject hierarchy (patient, study) are called."""
    nodes = [node for kind in NODES for node in slicer.util.getNodesByClass(kind)]
    files = [PurePath(node.GetFileName() or "") for node in slicer.util.getNodesByClass("vtkMRMLStorageNode")]
    stems = [file.name.partition(".")[0] for file in files]
    return [*(node.GetName() or "" for node in nodes), *stems, *_itemNames(slicer.mrmlScene)]


def _itemNames(scene: Any) -> list[str]:
    """Return the names of all items of the scene's subject hierarchy."""
    hierarchy = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    if hierarchy is None:
        return []
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    return [hierarchy.GetItemName(items.GetId(number)) for number in range(items.GetNumberOfIds())]
