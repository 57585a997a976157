"""Positions through the transforms of a scene, in RAS mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util import numpy_support


def is_linear(node: Any) -> bool:
    """Return whether a node's transforms to the world are linear."""
    parent = node.GetParentTransformNode()
    return parent is None or bool(parent.IsTransformToWorldLinear())


def index_to_ras(volumeNode: Any) -> np.ndarray:
    """4x4 from voxel index to RAS: of the world, or local to the volume under a non-linear transform."""
    local, to_world = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(local)
    parent = volumeNode.GetParentTransformNode()
    if parent is None or not parent.IsTransformToWorldLinear():
        return array_of(local)
    parent.GetMatrixTransformToWorld(to_world)
    return array_of(to_world) @ array_of(local)


def world_position(volumeNode: Any, index: Sequence[float]) -> tuple[float, float, float]:
    """Return the RAS position in mm, in the world, of a volume's voxel index (i, j, k), under any transform."""
    local = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(local)
    transform = transform_between(volumeNode.GetParentTransformNode(), None)
    r, a, s = through(transform, moved(np.array([index], float), array_of(local)))[0]
    return float(r), float(a), float(s)


def transform_between(source: Any, target: Any) -> Any:
    """Transform from one transform node's coordinates to another's; None is the world."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    return transform


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the points [n, 3] through a 4x4 matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def through(transform: Any, points: np.ndarray) -> np.ndarray:
    """Return the points [n, 3] through any VTK transform."""
    before, after = vtk.vtkPoints(), vtk.vtkPoints()
    before.SetData(numpy_support.numpy_to_vtk(np.ascontiguousarray(points, float), deep=True))
    after.SetDataTypeToDouble()
    transform.TransformPoints(before, after)
    return numpy_support.vtk_to_numpy(after.GetData()).copy()


def array_of(matrix: Any) -> np.ndarray:
    """Return a VTK matrix as an array [4, 4]."""
    return slicer.util.arrayFromVTKMatrix(matrix)
