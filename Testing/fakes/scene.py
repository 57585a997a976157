"""The scene and the module logics, set up in the order in which the application does it."""

from __future__ import annotations

from typing import Any

SLICE_VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


def make_scene() -> None:
    """Give `slicer` its scene, with colors, slice views and the logics that LightSeg's module asks for."""
    import slicer

    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    application = slicer.app.applicationLogic()
    application.SetMRMLScene(scene)
    for kind in ("vtkMRMLSelectionNode", "vtkMRMLInteractionNode"):
        node = scene.CreateNodeByClass(kind)
        node.SetSingletonTag("Singleton")
        scene.AddNode(node)
        node.UnRegister(None)
    colors = slicer.vtkMRMLColorLogic()
    colors.SetMRMLScene(scene)
    colors.AddDefaultColorNodes()
    application.SetColorLogic(colors)
    classes = {
        "SubjectHierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic,
        "Volumes": slicer.vtkSlicerVolumesLogic,
        "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic,
        "Markups": slicer.vtkSlicerMarkupsLogic,
        "Sequences": slicer.vtkSlicerSequencesLogic,
    }
    for name, kind in classes.items():
        logic = kind()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
        slicer.modules.add(name.lower(), logic)


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
