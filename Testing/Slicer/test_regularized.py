"""DICOM whose slices are not on a regular grid, as Slicer imports it: upright, and put into place by a transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from dicom_series import slices, world, write
from LightSegLib.imaging.readers import read_volume
from LightSegLib.slicer_app.scene import volume_from_node
from vtk.util import numpy_support

COUNT, ROWS, COLUMNS = 24, 48, 40


def stored(tilt: float, uneven: bool) -> list[Any]:
    heights = np.cumsum(np.where(np.arange(COUNT) < 14, 1.5, 3.5) if uneven else np.full(COUNT, 2.0))
    data_sets = slices(
        np.zeros((COUNT, ROWS, COLUMNS), np.int16),
        position=lambda k: (-20, -25, heights[k]),
        orientation=(1, 0, 0, 0, np.cos(tilt), np.sin(tilt)),
        spacing=(1.25, 0.75),
    )
    for data in data_sets:
        places = np.array([[world(data, i, j) for i in range(COLUMNS)] for j in range(ROWS)])
        data.PixelData = np.rint(picture(places)).astype(np.int16).tobytes()
    return data_sets


def picture(places: np.ndarray) -> np.ndarray:
    """A smooth one, by LPS positions [..., 3] in the world."""
    return 400 * np.sin(places @ (0.11, 0.07, 0.05))


def within(places: np.ndarray, data_sets: list[Any]) -> np.ndarray:
    """Which positions [n, 3] are in the stack, two voxels and more from its sides."""
    row = np.array(data_sets[0].ImageOrientationPatient[:3], float)
    column = np.array(data_sets[0].ImageOrientationPatient[3:], float)
    normal = np.cross(row, column)
    starts = np.array([world(data, 0, 0) for data in data_sets])
    height = places @ normal
    start = np.stack([np.interp(height, starts @ normal, starts[:, axis]) for axis in range(3)], axis=-1)
    i, j = ((places - start) @ row) / 0.75, ((places - start) @ column) / 1.25
    known = (height >= starts[0] @ normal) & (height <= starts[-1] @ normal)
    return known & (i >= 2) & (i <= COLUMNS - 3) & (j >= 2) & (j <= ROWS - 3)


def imported(data_sets: list[Any], scene: Any) -> Any:
    """As Slicer's DICOMScalarVolumePlugin regularizes: the mean step, and the displacements of the slices' corners."""
    voxels = np.stack([data.pixel_array for data in data_sets])
    node = slicer.util.addVolumeFromArray(voxels, name="CT")
    to_ras = np.array([-1, -1, 1])
    first, last = world(data_sets[0], 0, 0) * to_ras, world(data_sets[-1], 0, 0) * to_ras
    row = (world(data_sets[0], 1, 0) - world(data_sets[0], 0, 0)) * to_ras
    column = (world(data_sets[0], 0, 1) - world(data_sets[0], 0, 0)) * to_ras
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([row, column, normal * (normal @ (last - first)) / (COUNT - 1)], axis=1)
    matrix[:3, 3] = first
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    corners = np.zeros((COUNT, 2, 2, 3))
    for k, data in enumerate(data_sets):
        for b, j in enumerate((0, ROWS - 1)):
            for a, i in enumerate((0, COLUMNS - 1)):
                corners[k, b, a] = world(data, i, j) * to_ras - (matrix @ [i, j, k, 1])[:3]
    grid = vtk.vtkImageData()
    grid.SetDimensions(2, 2, COUNT)
    grid.SetSpacing(*np.linalg.norm(matrix[:3, :3], axis=0) * (COLUMNS - 1, ROWS - 1, 1))
    grid.SetOrigin(*first)
    grid.GetPointData().SetScalars(numpy_support.numpy_to_vtk(corners.reshape(-1, 3), deep=True))
    transform = slicer.vtkOrientedGridTransform()
    axes = np.eye(4)
    axes[:3, :3] = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    transform.SetGridDirectionMatrix(slicer.util.vtkMatrixFromArray(axes))
    transform.SetDisplacementGridData(grid)
    transform_node = scene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    transform_node.SetAndObserveTransformToParent(transform)
    node.SetAndObserveTransformNodeID(transform_node.GetID())
    return node


@pytest.mark.parametrize("kind", ["tilted", "uneven", "tilted and uneven"])
def test_it_is_the_same_volume_at_the_same_place_as_from_the_files(kind: str, scene: Any, tmp_path: Path) -> None:
    tilt = np.radians(15) if "tilted" in kind else 0.0
    data_sets = stored(tilt, "uneven" in kind)
    by_files = read_volume(write(tmp_path, data_sets))

    by_scene = volume_from_node(imported(data_sets, scene))

    assert by_scene.geometry.matches(by_files.geometry, 0.05)
    index = np.argwhere(np.ones(by_files.voxels.shape))[:, ::-1]
    places = index @ by_files.geometry.index_to_world[:3, :3].T + by_files.geometry.origin
    inside = within(places, data_sets)
    assert inside.mean() > 0.5
    for volume in (by_files, by_scene):  # linear interpolation over 3.5 mm errs by 3.5 ** 2 / 8 times the curvature
        assert np.abs(volume.voxels.ravel() - picture(places))[inside].max() < 3.5**2 / 8 * 400 * 0.14**2 + 2
    if kind != "tilted and uneven":  # then along the tilt or across the slices
        assert np.abs(by_scene.voxels.astype(int) - by_files.voxels).ravel()[inside].max() <= 3, "of 800"
    assert "interpolated onto" in by_scene.notices[0] and "interpolated onto" in by_files.notices[0]
