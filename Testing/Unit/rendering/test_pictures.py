"""Pictures: what is on the patient's left is drawn on the left side, to scale, with and without OpenGL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.catalog.card import Label
from LightSegLib.core.errors import InputError, OutputError
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.rendering import pictures, slices
from LightSegLib.rendering.slices import AXIAL, CORONAL, PLANES, SAGITTAL, Plane

pytest.importorskip("vtkmodules", reason="pictures need the package vtk")

RED, GREEN = (230, 40, 40), (40, 210, 60)
LABELS = (Label(1, "Ball one", RED), Label(2, "Ball two", GREEN))

# Directions in LPS: straight, as scanners and converters write them, left-handed, and turned about all axes.
TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
TILT = np.array([[1.0, 0.0, 0.0], [0.0, 0.96, -0.28], [0.0, 0.28, 0.96]])
DIRECTIONS = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "sagittal slices": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "left-handed": np.diag([-1.0, 1.0, 1.0]),
    "oblique": TURN @ TILT,
}


@pytest.fixture(autouse=True)
def fresh_answer() -> Iterator[None]:
    """Each test asks anew whether OpenGL works."""
    pictures.opengl_works.cache_clear()
    yield
    pictures.opengl_works.cache_clear()


@pytest.fixture
def no_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose VTK ends the process when it renders."""
    monkeypatch.delenv("LIGHTSEG_OPENGL", raising=False)
    monkeypatch.setattr(pictures, "PROBE", "import os; os.abort()")


def make_balls(
    direction: np.ndarray, one_ras: tuple[float, ...], two_ras: tuple[float, ...]
) -> tuple[Volume, Segmentation]:
    """Two balls of 6 mm radius at RAS positions, on an anisotropic grid around the world's origin.

    Where a voxel lies is asked of SimpleITK, not of the code under test.
    """
    size, spacing = np.array([36, 44, 28]), np.array([2.0, 1.5, 2.5])
    origin = -direction @ (spacing * (size - 1) / 2)
    image = sitk.Image(size.tolist(), sitk.sitkUInt8)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(origin.tolist())
    image.SetDirection(direction.ravel().tolist())
    lps = sitk.GetArrayFromImage(sitk.PhysicalPointSource(sitk.sitkVectorFloat64, *_grid(image)))
    ras = lps * [-1, -1, 1]
    labels = np.zeros(ras.shape[:3], np.uint8)
    labels[np.linalg.norm(ras - one_ras, axis=-1) < 6] = 1
    labels[np.linalg.norm(ras - two_ras, axis=-1) < 6] = 2
    geometry = Geometry(labels.shape, tuple(spacing), tuple(origin), tuple(direction.ravel()))
    voxels = np.random.default_rng(0).normal(100, 5, labels.shape).astype(np.float32)
    return Volume(voxels, geometry, "balls"), Segmentation(labels, geometry, LABELS)


def _grid(image: sitk.Image) -> tuple[object, ...]:
    return image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()


def find_color(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Mean position (x, y) of the pixels that carry an outline of this colour."""
    rows, columns = np.nonzero(np.abs(picture - np.array(color)).max(axis=-1) < 12)
    assert len(rows) > 20, "this colour is not in the picture"
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize(
    ("plane", "one", "two", "shift_mm"),
    [
        # one: left and in front; two: right and behind. Seen from below: 32 mm to the right, 20 mm up.
        (AXIAL, (-18, 12, 3), (14, -8, 3), (32, -20)),
        # one: left and above; two: right and below. Seen from the front.
        (CORONAL, (-16, 4, 14), (12, 4, -8), (28, -22)),
        # one: in front and below; two: behind and above. The face looks to the left.
        (SAGITTAL, (5, 16, -12), (5, -10, 10), (-26, 22)),
    ],
    ids=["axial", "coronal", "sagittal"],
)
def test_balls_are_drawn_where_the_patient_has_them(
    plane: Plane,
    one: tuple[float, ...],
    two: tuple[float, ...],
    shift_mm: tuple[float, float],
    direction: np.ndarray,
) -> None:
    volume, segmentation = make_balls(direction, one, two)
    layers = slices.list_layers([segmentation])
    framing = slices.frame(volume, layers, 240, 200)
    picture = slices.draw_slices(volume, layers, framing, 240, 200)[PLANES.index(plane)]
    shift = (find_color(picture, RED) - find_color(picture, GREEN)) * framing.mm_per_pixel
    assert shift == pytest.approx(shift_mm, abs=1.5)


def test_paired_organs_are_cut_and_not_the_gap_between_them() -> None:
    volume, segmentation = make_balls(np.eye(3), (-18, 0, 0), (18, 0, 0))
    focus = slices.frame(volume, slices.list_layers([segmentation]), 200, 200).focus
    assert abs(focus[0]) == pytest.approx(18, abs=3)
    assert focus[1:] == pytest.approx([0, 0], abs=3)


def test_the_picture_of_two_results_shows_both(tmp_path: Path, no_opengl: None) -> None:
    volume, segmentation = make_balls(np.eye(3), (-18, 12, 3), (14, -8, 3))
    sides = [
        Segmentation(np.where(segmentation.voxels == label.value, label.value, 0), volume.geometry, (label,))
        for label in LABELS
    ]
    path = tmp_path / "both.png"
    pictures.draw_result(volume, sides, path)
    (x, y), (width, height) = pictures.PANEL_CORNERS[0], pictures.PANEL_SIZE
    axial = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(float)[y : y + height, x : x + width]
    assert find_color(axial, RED)[0] > width / 2 > find_color(axial, GREEN)[0]


def test_without_opengl_the_slices_remain_and_the_loss_is_named(tmp_path: Path, no_opengl: None) -> None:
    volume, segmentation = make_balls(DIRECTIONS["oblique"], (-18, 12, 3), (14, -8, 3))
    path = tmp_path / "result.png"
    assert pictures.draw_result(volume, segmentation, path, "Two balls") == pictures.NO_OPENGL
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert picture.shape == (1200, 1600, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["result.png"]


def test_the_environment_can_forbid_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTSEG_OPENGL", "0")
    assert not pictures.opengl_works()


@pytest.mark.parametrize("direction", ["left-handed", "oblique"])
def test_the_surface_shows_the_left_ball_at_the_right_in_its_colour(direction: str) -> None:
    if not pictures.opengl_works():
        pytest.skip("this machine has no working OpenGL library")
    _, segmentation = make_balls(DIRECTIONS[direction], (-18, 0, 0), (18, 0, 0))
    picture, axes = pictures.render_surface(slices.list_layers([segmentation]), 200, 160)
    red = picture[..., 0] > 1.5 * picture[..., 1]
    green = picture[..., 1] > 1.5 * picture[..., 0]
    assert min(red.sum(), green.sum()) > 300
    assert np.nonzero(red)[1].min() > np.nonzero(green)[1].max()  # seen from the front
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-6)
    assert axes[0, 0] < 0 < axes[2, 1]  # the patient's right to the left, the top upwards


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_the_mesh_encloses_the_labelled_voxels(direction: np.ndarray) -> None:
    from vtkmodules.util.numpy_support import vtk_to_numpy

    _, segmentation = make_balls(direction, (-4, 0, 0), (4, 0, 0))  # they overlap: two neighbours with a wall
    mesh, between = pictures._label_mesh(slices.list_layers([segmentation]))
    outer = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)[between.min(axis=1) == 0]
    corners = vtk_to_numpy(mesh.GetPoints().GetData())[outer].astype(float)
    # Divergence theorem: the sum over outward triangles is the volume; inward ones would make it negative.
    enclosed = np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert enclosed == pytest.approx(np.count_nonzero(segmentation.voxels) * 2.0 * 1.5 * 2.5, rel=0.02)


def test_an_empty_result_is_drawn_and_says_so(tmp_path: Path) -> None:
    volume, segmentation = make_balls(np.eye(3), (900, 0, 0), (900, 0, 0))
    notice = pictures.draw_result(volume, segmentation, tmp_path / "empty.png")
    assert notice == "The 3D surface is left out: no voxel is labelled."


def test_a_folder_that_is_missing_is_named_and_nothing_is_left(tmp_path: Path, no_opengl: None) -> None:
    volume, segmentation = make_balls(np.eye(3), (-18, 12, 3), (14, -8, 3))
    with pytest.raises(OutputError, match="nowhere"):
        pictures.draw_result(volume, segmentation, tmp_path / "nowhere" / "result.png")
    assert list(tmp_path.iterdir()) == []


LOG = """epoch,learning_rate,train_loss,validation_dice,validation_dice_Front,validation_dice_Back,seconds
1,0.001,1.0,,,,2
2,0.001,0.5,0.6,0.7,0.5,2
3,0.001,0.0,0.8,0.9,0.7,2
"""


def test_the_loss_curve_falls_from_corner_to_corner(tmp_path: Path) -> None:
    log = tmp_path / "training.csv"
    log.write_text(LOG)
    pictures.draw_curves(log, tmp_path / "curves.png")
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "curves.png"))).astype(float)
    rows, columns = np.nonzero(np.abs(picture - [96, 165, 250]).max(axis=-1) < 12)
    first, last = columns.argmin(), columns.argmax()
    # Epochs 1 to 3 span the chart, as do losses of 1 and 0; the chart is 640 x 560 pixels from (110, 140).
    assert (columns[first], rows[first]) == pytest.approx((110, 140), abs=3)
    assert (columns[last], rows[last]) == pytest.approx((750, 700), abs=3)


def test_a_log_that_stops_in_the_middle_of_a_line_is_drawn(tmp_path: Path) -> None:
    log = tmp_path / "training.csv"
    log.write_text(LOG + "4,0.0")
    pictures.draw_curves(log, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").is_file()


@pytest.mark.parametrize("content", [None, "", "name,size\na,1\n"], ids=["missing", "empty", "another table"])
def test_what_is_no_training_log_is_refused(tmp_path: Path, content: str | None) -> None:
    log = tmp_path / "other.csv"
    if content is not None:
        log.write_text(content)
    with pytest.raises(InputError, match=r"other\.csv"):
        pictures.draw_curves(log, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
