"""The surface: in its color, on its side, around as many mm as the voxels; and whether this machine can show it."""

from __future__ import annotations

import numpy as np
import pytest
from balls import DIRECTIONS, make_balls
from LightSegLib.rendering import surface
from LightSegLib.rendering.layers import list_layers

pytest.importorskip("vtkmodules", reason="surfaces need the package vtk")


def test_the_environment_can_forbid_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTSEG_OPENGL", "0")
    assert not surface.opengl_works()  # whatever was found before


@pytest.mark.parametrize("direction", ["left-handed", "oblique"])
def test_the_surface_shows_the_left_ball_at_the_right_in_its_color(direction: str) -> None:
    if not surface.opengl_works():
        pytest.skip("this machine has no working OpenGL library")
    _, segmentation = make_balls(DIRECTIONS[direction], (-18, 0, 0), (18, 0, 0))
    drawn, axes = surface.render_surface(list_layers([segmentation]), 200, 160)
    picture = np.asarray(drawn, float)
    red = picture[..., 0] > 1.5 * picture[..., 1]
    green = picture[..., 1] > 1.5 * picture[..., 0]
    assert min(red.sum(), green.sum()) > 300
    columns = np.nonzero(red | green)[1]  # their shaded sides left out
    assert np.ptp(columns) > 0.7 * 200 and columns.min() + columns.max() == pytest.approx(200, abs=20)  # fills it
    assert np.nonzero(red)[1].min() > np.nonzero(green)[1].max()  # seen from the front
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-6)
    assert axes[0, 0] < 0 < axes[2, 1]  # the patient's right to the left, the top upwards


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_the_mesh_encloses_the_labeled_voxels(direction: np.ndarray) -> None:
    from vtkmodules.util.numpy_support import vtk_to_numpy

    _, segmentation = make_balls(direction, (-4, 0, 0), (4, 0, 0))  # they overlap: two neighbors with a wall
    mesh, between = surface._label_mesh(list_layers([segmentation]))
    outer = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)[between.min(axis=1) == 0]
    corners = vtk_to_numpy(mesh.GetPoints().GetData())[outer].astype(float)
    # Divergence theorem: the sum over outward triangles is the volume; inward ones would make it negative.
    enclosed = np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert enclosed == pytest.approx(np.count_nonzero(segmentation.voxels) * 2.0 * 1.5 * 2.5, rel=0.02)
