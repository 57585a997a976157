"""What Slicer's views show, without its application: slices and 3D, drawn by its displayable managers off screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

SLICES = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
SIZE = 500  # pixels of one view


def draw_views(volume: Any, segmentation: Any, path: Path, center: Any = None) -> np.ndarray:
    """Write a PNG of Slicer's four-up layout: axial and 3D above, coronal and sagittal below; returns its pixels.

    The segmentation is shown as its display node specifies. center: RAS position that the slices cut, else the center
    of the segmentation.
    """
    if center is None:
        bounds = np.zeros(6)
        segmentation.GetRASBounds(bounds)
        center = (bounds[::2] + bounds[1::2]) / 2
    slices = {name: draw_slice(name, volume, center) for name in SLICES}
    upper = np.hstack([slices["Red"], draw_surface(segmentation)])
    picture = np.vstack([upper, np.hstack([slices["Green"], slices["Yellow"]])])
    write_png(picture, path)
    return picture


def draw_slice(name: str, volume: Any, center: Any) -> np.ndarray:
    """One slice view as pixels [SIZE, SIZE, 3]: the volume in gray, and what the displayable managers put over it."""
    logic = slicer.app.layoutManager().sliceWidget(name).sliceLogic()
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    node = logic.GetSliceNode()
    node.SetOrientation(SLICES[name])
    logic.ResizeSliceNode(SIZE, SIZE)
    logic.FitSliceToAll(SIZE, SIZE)
    node.JumpSliceByOffsetting(*center)
    logic.UpdatePipeline()

    mapper, image = vtk.vtkImageMapper(), vtk.vtkActor2D()  # in the application CTK's view draws the gray image
    mapper.SetInputConnection(logic.GetImageDataConnection())
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    image.SetMapper(mapper)
    renderer = vtk.vtkRenderer()
    renderer.AddViewProp(image)
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    with View(renderer, factory, node, ("vtkMRMLSegmentationsDisplayableManager2D",)) as view:
        return view.grab()


def draw_surface(segmentation: Any) -> np.ndarray:
    """The 3D view as pixels [SIZE, SIZE, 3]: from the front, a little from above and from the patient's right."""
    segmentation.CreateClosedSurfaceRepresentation()
    logic = slicer.vtkMRMLViewLogic()
    logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    logic.SetMRMLScene(slicer.mrmlScene)
    node = logic.AddViewNode("1")
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    renderer = vtk.vtkRenderer()
    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    names = ("CameraDisplayableManager", "ViewDisplayableManager", "SegmentationsDisplayableManager3D")
    with View(renderer, factory, node, [f"vtkMRML{name}" for name in names]) as view:
        bounds = np.zeros(6)
        segmentation.GetRASBounds(bounds)
        camera = renderer.GetActiveCamera()
        middle = (bounds[::2] + bounds[1::2]) / 2
        camera.SetFocalPoint(middle)
        camera.SetPosition(middle + np.array([0.45, 1, 0.55]))
        camera.SetViewUp(0, 0, 1)
        renderer.ResetCamera(bounds)
        picture = view.grab()
    slicer.mrmlScene.RemoveNode(node)
    return picture


class View:
    """A window off screen in which displayable managers draw a view node."""

    def __init__(self, renderer: Any, factory: Any, node: Any, managers: Any) -> None:
        verbosity = vtk.vtkLogger.GetCurrentVerbosityCutoff()
        vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_ERROR)  # without a screen VTK warns
        self.window = vtk.vtkRenderWindow()
        vtk.vtkLogger.SetStderrVerbosity(verbosity)
        self.window.SetOffScreenRendering(True)
        self.window.SetSize(SIZE, SIZE)
        self.window.AddRenderer(renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.group = factory.InstantiateDisplayableManagers(renderer)
        self.group.SetMRMLDisplayableNode(node)

    def __enter__(self) -> View:
        return self

    def __exit__(self, *error: object) -> None:
        self.group.SetMRMLDisplayableNode(None)
        self.window.Finalize()

    def grab(self) -> np.ndarray:
        self.window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        pixels = numpy_support.vtk_to_numpy(grabber.GetOutput().GetPointData().GetScalars())
        return pixels.reshape(SIZE, SIZE, -1)[::-1, :, :3].copy()


def write_png(picture: np.ndarray, path: Path) -> None:
    """Write pixels [height, width, 3] as PNG."""
    height, width, _ = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    flat = np.ascontiguousarray(picture[::-1]).reshape(-1, 3)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(flat, deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()
