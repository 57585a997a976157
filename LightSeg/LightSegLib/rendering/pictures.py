"""Results and training curves as PNG pictures, made off screen.

The slices, the text and the curves need no OpenGL; only the 3D surface does, and where a machine has none
the picture is made without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..imaging.volume import Segmentation, Volume
from .annotations import (
    BACKGROUND,
    BRIGHT,
    PANEL,
    PANEL_CORNERS,
    PANEL_SIZE,
    PLANE_COLORS,
    SIZE,
    SURFACE_COLOR,
    TEXT,
    annotate_slice,
    draw_axes_cross,
    draw_legend,
)
from .canvas import Canvas
from .charts import Axes, draw_axes, read_log
from .slices import PLANES, Layer, draw_slices, frame, index_to_ras, list_layers

NO_OPENGL = "The 3D surface is left out: this machine has no working OpenGL library."


def draw_result(
    volume: Volume, result: Segmentation | Sequence[Segmentation], path: str | Path, title: str | None = None
) -> str | None:
    """Write a PNG with axial, coronal and sagittal overlays, the 3D surface and the volume of every label.

    `result` may be several segmentations, on grids of their own, for example of both sides. Returns None, or
    one sentence that says what the picture lacks. Raises OutputError where the file cannot be written.
    """
    results = [result] if isinstance(result, Segmentation) else list(result)
    layers = list_layers(results)
    canvas = Canvas(*SIZE, BACKGROUND, text_mask)
    canvas.text(title or volume.name, 24, 46, 34, BRIGHT, bold=True)

    framing = frame(volume, layers, *PANEL_SIZE)
    for plane, color, corner, picture in zip(
        PLANES, PLANE_COLORS, PANEL_CORNERS, draw_slices(volume, layers, framing, *PANEL_SIZE), strict=False
    ):
        canvas.paste(picture, *corner)
        annotate_slice(canvas, plane, color, corner, framing)

    notice = _draw_surface_panel(canvas, layers, PANEL_CORNERS[3])
    draw_legend(canvas, layers, results[0].provenance if results else {})
    canvas.save(path)
    return notice


def draw_curves(log: str | Path, path: str | Path, title: str = "Training") -> None:
    """Write a PNG with training loss and validation Dice against the epoch.

    `log`: CSV with the columns epoch, train_loss, validation_dice and one validation_dice_<label> per label;
    validation columns may be empty in epochs without validation. Raises InputError for a file that has none of
    this, OutputError where the picture cannot be written.
    """
    loss, dice = read_log(Path(log))
    canvas = Canvas(1600, 800, BACKGROUND, text_mask)
    canvas.text(title, 40, 46, 34, BRIGHT, bold=True)
    draw_axes(canvas, Axes("Training loss", "epoch", (110, 140, 640, 560)), loss)
    draw_axes(canvas, Axes("Validation Dice", "epoch", (900, 140, 640, 560), high=1.0, mark_best=True), dice)
    canvas.save(path)


@cache
def text_mask(words: str, size: int, bold: bool = False) -> np.ndarray:
    """Coverage [height, width], 0 to 1, of one line of text, drawn by VTK's FreeType without OpenGL."""
    import vtkmodules.vtkRenderingFreeType  # noqa: F401  registers the text renderer
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkRenderingCore import vtkTextProperty, vtkTextRenderer

    style = vtkTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(size)
    style.SetBold(bold)
    image, used = vtkImageData(), [0, 0]
    renderer = vtkTextRenderer.GetInstance()
    # The backend is named because the default one reads '$' in a label's name as the start of a formula.
    renderer.RenderString(style, words, image, used, 72, vtkTextRenderer.FreeType)
    columns, rows, _ = image.GetDimensions()
    rgba = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 4)
    return np.asarray(rgba[: used[1], : used[0], 3][::-1] / np.float32(255))


# --- the surface -------------------------------------------------------------------------------

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


@cache
def opengl_works() -> bool:
    """Whether VTK can render here; LIGHTSEG_OPENGL=0 or =1 in the environment answers instead.

    Tried in a process of its own, since VTK may end the process where the OpenGL library is missing.
    """
    if (answer := os.environ.get("LIGHTSEG_OPENGL", "")) in ("0", "1"):
        return answer == "1"
    try:
        probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def _draw_surface_panel(canvas: Canvas, layers: Sequence[Layer], corner: tuple[int, int]) -> str | None:
    """The surface with its title and axes, or the words why there is none; these words are returned."""
    (x, y), (width, height) = corner, PANEL_SIZE
    canvas.rectangle(x, y, width, height, PANEL)
    notice = None
    if not any(layer.box for layer in layers):
        notice = "The 3D surface is left out: no voxel is labelled."
    elif not opengl_works():
        notice = NO_OPENGL
    else:
        picture, axes = render_surface(layers, width, height)
        canvas.paste(picture, x, y)
        draw_axes_cross(canvas, axes, x + 62, y + height - 62)
    canvas.rectangle(x, y - 4, width, 4, SURFACE_COLOR)
    canvas.text("Surface", x + 14, y + 22, 22, BRIGHT, bold=True)
    lines = canvas.wrapped(notice or "", width - 160, 20)
    for number, words in enumerate(lines):
        canvas.text(words, x + width / 2, y + height / 2 + 28 * number, 20, TEXT, align="center")
    return notice


def render_surface(layers: Sequence[Layer], width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth surfaces of all labels in RAS: picture [height, width, 3] and the world axes [3, 3] as seen.

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
    for segmentation in {id(layer.segmentation): layer.segmentation for layer in layers}.values():
        own = [layer for layer in layers if layer.segmentation is segmentation and layer.box is not None]
        if own:
            renderer.AddActor(_surface_actor(own))
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
    renderer.ResetCameraScreenSpace(0.85)
    renderer.ResetCameraClippingRange()
    window.Render()

    grabber = vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    grabber.Update()
    pixels = vtk_to_numpy(grabber.GetOutput().GetPointData().GetScalars())
    picture = pixels.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))[::-1]
    view = camera.GetViewTransformMatrix()
    axes = np.array([[view.GetElement(row, column) for row in range(3)] for column in range(3)])
    window.Finalize()
    return picture, axes


def _surface_actor(layers: Sequence[Layer]) -> Any:
    """The outer surface of one segmentation's labels, without voxel steps, at its place in RAS.

    All labels are one mesh, coloured by label, so that neighbours meet without a gap.
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
    return actor


def _label_mesh(layers: Sequence[Layer]) -> tuple[Any, np.ndarray]:
    """Triangles between the labels of one segmentation in RAS, and the two labels [n, 2] that each lies between."""
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
