"""The labels as surfaces in three dimensions, rendered off screen: alone in this folder it needs VTK, with OpenGL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from .framing import index_to_ras
from .layers import Layer

FILLED = 0.8  # of the picture, by the surface, along its longer side
PROBE = """
import vtkmodules.vtkRenderingOpenGL2
from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow, vtkWindowToImageFilter
window, renderer, grabber = vtkRenderWindow(), vtkRenderer(), vtkWindowToImageFilter()
window.SetOffScreenRendering(True)
window.SetSize(16, 16)
renderer.SetBackground(1, 0, 0)
window.AddRenderer(renderer)
window.Render()
grabber.SetInput(window)
grabber.ReadFrontBufferOff()
grabber.Update()
pixel = [grabber.GetOutput().GetScalarComponentAsDouble(8, 8, 0, part) for part in range(3)]
raise SystemExit(0 if pixel == [255, 0, 0] else 1)
"""


def opengl_works() -> bool:
    """Return whether VTK can render here; LIGHTSEG_OPENGL=0 or =1 in the environment answers instead."""
    if (answer := os.environ.get("LIGHTSEG_OPENGL", "")) in ("0", "1"):
        return answer == "1"
    return _vtk_renders()


@cache
def _vtk_renders() -> bool:
    """Try it once, in a process of its own, since VTK may end the process where the OpenGL library is missing."""
    try:
        probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def render_surface(layers: Sequence[Layer], width: int, height: int) -> tuple[Image.Image, np.ndarray]:
    """Smooth surfaces of all labels in RAS: picture, RGB, and the world axes [3, 3] as seen.

    Needs OpenGL; ask `opengl_works` first.
    """
    import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  registers the renderer
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkLogger
    from vtkmodules.vtkRenderingCore import vtkLightKit, vtkRenderer, vtkRenderWindow, vtkWindowToImageFilter

    renderer = vtkRenderer()
    renderer.SetBackground(0.07, 0.08, 0.10)
    renderer.SetBackground2(0.20, 0.22, 0.27)
    renderer.SetGradientBackground(True)
    seen: list[np.ndarray] = []
    for segmentation in {id(layer.segmentation): layer.segmentation for layer in layers}.values():
        own = [layer for layer in layers if layer.segmentation is segmentation and layer.box is not None]
        if own:
            actor, points = _surface_actor(own)
            renderer.AddActor(actor)
            seen.append(points)
    lights = vtkLightKit()
    lights.SetKeyLightIntensity(0.95)
    lights.AddLightsToRenderer(renderer)

    camera = renderer.GetActiveCamera()
    camera.SetPosition(0.45, 1.0, 0.55)  # from the front, a little from the patient's right and above
    camera.SetFocalPoint(0, 0, 0)
    camera.SetViewUp(0, 0, 1)
    camera.SetViewAngle(20)
    verbosity = vtkLogger.GetCurrentVerbosityCutoff()
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)  # without a screen VTK warns before it does without
    window = vtkRenderWindow()
    vtkLogger.SetStderrVerbosity(verbosity)
    window.SetOffScreenRendering(True)
    window.SetMultiSamples(0)
    window.SetSize(width * 2, height * 2)  # twice as fine, then averaged: smooth edges with any driver
    window.AddRenderer(renderer)
    renderer.ResetCamera()
    _fill(camera, np.concatenate(seen), width / height)
    renderer.ResetCameraClippingRange()
    window.Render()

    grabber = vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    grabber.Update()
    pixels = vtk_to_numpy(grabber.GetOutput().GetPointData().GetScalars())
    picture = Image.fromarray(pixels.reshape(2 * height, 2 * width, 3)[::-1]).reduce(2)
    view = camera.GetViewTransformMatrix()
    axes = np.array([[view.GetElement(row, column) for row in range(3)] for column in range(3)])
    window.Finalize()
    return picture, axes


def _fill(camera: Any, points: np.ndarray, aspect: float) -> None:
    """Center points [n, 3] in the view of a camera and let them fill it: VTK's own fit is to their box, or a sphere."""
    for _ in range(2):  # the second time corrects that a camera near by sees the angle change with the zoom
        low, high = _ends_in_view(camera, points, aspect)
        camera.Zoom(2 * FILLED / float((high - low).max()))
        low, high = _ends_in_view(camera, points, aspect)
        center = np.array(camera.GetWindowCenter()) + (low + high) / 2
        camera.SetWindowCenter(*center)


def _ends_in_view(camera: Any, points: np.ndarray, aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest place [2], across and up, of points [n, 3] in a view from -1 to 1."""
    matrix = camera.GetCompositeProjectionTransformMatrix(aspect, -1, 1)
    rows = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in (0, 1, 3)])
    across, up, distance = rows[:, :3] @ points.T + rows[:, 3:]
    places = np.stack([across, up]) / distance
    return places.min(axis=1), places.max(axis=1)


def _surface_actor(layers: Sequence[Layer]) -> tuple[Any, np.ndarray]:
    """Return the outer surface of one segmentation's labels, without voxel steps, and its points [n, 3] in RAS.

    All labels are one mesh, colored by label, so that neighbors meet without a gap.
    """
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkFiltersCore import vtkPolyDataNormals, vtkWindowedSincPolyDataFilter
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

    mesh, labels = _label_mesh(layers)
    smooth = vtkWindowedSincPolyDataFilter()
    smooth.SetInputData(mesh)
    smooth.SetNumberOfIterations(30)
    smooth.SetPassBand(0.02)
    smooth.NormalizeCoordinatesOn()
    smooth.NonManifoldSmoothingOn()  # three surfaces meet where two labels touch the background
    smooth.Update()

    outer = labels.min(axis=1) == 0  # walls between labels are never seen
    triangles = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)[outer]
    colors = np.zeros((labels.max() + 1, 3), np.uint8)
    for layer in layers:
        colors[layer.label.value] = layer.label.color
    shell, cells = vtkPolyData(), vtkCellArray()
    cells.SetData(3, numpy_to_vtk(triangles.ravel().astype(np.int64), deep=True))
    shell.SetPoints(smooth.GetOutput().GetPoints())
    shell.SetPolys(cells)
    shell.GetCellData().SetScalars(numpy_to_vtk(colors[labels[outer].max(axis=1)], deep=True))
    normals = vtkPolyDataNormals()
    normals.SetInputData(shell)
    normals.SplittingOff()
    normals.ConsistencyOff()

    mapper = vtkPolyDataMapper()
    mapper.SetInputConnection(normals.GetOutputPort())
    actor = vtkActor()
    actor.SetMapper(mapper)
    appearance = actor.GetProperty()
    appearance.SetInterpolationToPhong()
    appearance.SetAmbient(0.08)
    appearance.SetDiffuse(0.9)
    appearance.SetSpecular(0.15)
    appearance.SetSpecularPower(20)
    return actor, vtk_to_numpy(smooth.GetOutput().GetPoints().GetData())[np.unique(triangles)]


def _label_mesh(layers: Sequence[Layer]) -> tuple[Any, np.ndarray]:
    """Return triangles between the labels of a segmentation in RAS mm, and the labels [n, 2] on both sides."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkSurfaceNets3D

    segmentation = layers[0].segmentation
    boxes = [layer.box for layer in layers if layer.box is not None]
    low = [min(box[axis].start for box in boxes) for axis in range(3)]
    high = [max(box[axis].stop for box in boxes) for axis in range(3)]
    block = segmentation.voxels[tuple(slice(*ends) for ends in zip(low, high, strict=True))]
    # A rim of background closes the surface at the border of the image.
    padded = np.pad(np.where(np.isin(block, [layer.label.value for layer in layers]), block, 0), 1).astype(np.int32)
    image = vtkImageData()
    image.SetDimensions(*padded.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(padded.ravel(), deep=True))
    nets = vtkSurfaceNets3D()
    nets.SetInputData(image)
    for number, layer in enumerate(layers):
        nets.SetValue(number, layer.label.value)
    nets.SmoothingOff()
    nets.SetOutputMeshTypeToTriangles()
    nets.Update()
    mesh = nets.GetOutput()
    labels = vtk_to_numpy(mesh.GetCellData().GetArray("BoundaryLabels"))
    matrix = index_to_ras(segmentation.geometry)
    index = vtk_to_numpy(mesh.GetPoints().GetData()) + np.array(low[::-1]) - 1
    mesh.GetPoints().SetData(numpy_to_vtk(index @ matrix[:3, :3].T + matrix[:3, 3], deep=True))
    if np.linalg.det(matrix[:3, :3]) < 0:  # a left-handed grid turns the triangles inside out
        triangles = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)
        triangles[:] = triangles[:, ::-1].copy()
    return mesh, labels
