"""Sheared images: what is at a position in the world is there on the grid at right angles, too."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError
from LightSegLib.evaluation.comparison import evaluate_folders
from LightSegLib.imaging.affine import LARGEST_MOVE, shear_degrees, snapped, straight_grid, straightened
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.readers import read_grid, read_labels, read_volume

SHAPE = (30, 44, 40)  # k, j, i
BALL = np.array([8.0, -5.0, 12.0])  # its center, LPS, in mm
RADIUS = 9.0


def sheared(ij: float = 0.0, ik: float = 0.0, jk: float = 0.0, spacing: tuple = (1.0, 1.1, 1.6)) -> Geometry:
    """A turned grid around the ball, each of whose axes leans into the ones before it."""
    lean = np.array([[1, ij, ik], [0, 1, jk], [0, 0, 1]])
    about_z, about_x = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], [[1, 0, 0], [0, 0.96, -0.28], [0, 0.28, 0.96]]
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ np.array(about_x) @ lean @ np.diag(spacing)
    matrix[:3, 3] = BALL - matrix[:3, :3] @ ((np.array(SHAPE[::-1]) - 1) / 2 + [2, -3, 1])
    return Geometry.from_index_to_world(matrix, SHAPE)


TILTED = sheared(jk=math.tan(math.radians(17)))  # as a CT with gantry tilt
LEANING = sheared(0.05, -0.2, 0.12)  # as after an affine registration
ROUNDED = sheared(0.002)


def positions(geometry: Geometry) -> np.ndarray:
    """Of all voxels in mm, [k, j, i, 3]."""
    k, j, i = np.indices(geometry.shape)
    return np.stack([i, j, k, np.ones_like(i)], axis=-1) @ geometry.index_to_world[:3].T


def painted(geometry: Geometry) -> np.ndarray:
    """Voxels of 1000 within the ball, -1000 elsewhere."""
    inside = np.linalg.norm(positions(geometry) - BALL, axis=-1) <= RADIUS
    return np.where(inside, 1000, -1000).astype(np.int16)


def write(path: Path, voxels: np.ndarray, geometry: Geometry) -> Path:
    if path.name.endswith((".nii", ".nii.gz")):  # which ITK does not write
        ras = np.diag([-1, -1, 1, 1]) @ geometry.index_to_world
        image = nib.Nifti1Image(voxels.T, ras)
        image.header["qform_code"] = 0
        nib.save(image, path)
    else:
        sitk.WriteImage(to_sitk(voxels, geometry), str(path))
    return path


def found_at(voxels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Center of what is bright, in mm."""
    return positions(geometry)[voxels > 0].mean(axis=0)


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "mha"])
@pytest.mark.parametrize("geometry", [TILTED, LEANING], ids=["tilted", "leaning"])
def test_a_ball_stays_where_it_was_painted(tmp_path: Path, ending: str, geometry: Geometry) -> None:
    volume = read_volume(write(tmp_path / f"ball.{ending}", painted(geometry), geometry))
    grid = volume.geometry
    direction = np.reshape(grid.direction, (3, 3))
    assert np.allclose(direction.T @ direction, np.eye(3), atol=1e-9)
    assert volume.voxels.dtype == np.int16
    assert np.linalg.norm(found_at(volume.voxels, grid) - BALL) < 0.5 * min(grid.spacing)
    expected = 4 / 3 * math.pi * RADIUS**3 / 1000
    assert np.count_nonzero(volume.voxels > 0) * grid.voxel_volume_ml == pytest.approx(expected, rel=0.02)
    (notice,) = volume.notices
    assert f"ball.{ending} deviate from right angles by {shear_degrees(geometry):.2g} degrees" in notice
    assert "The result has this grid, at the same position" in notice
    assert volume.reading["straightened_degrees"] == round(shear_degrees(geometry), 2)


@pytest.mark.parametrize("geometry", [TILTED, LEANING], ids=["tilted", "leaning"])
def test_the_grid_covers_the_image_with_voxels_of_the_same_volume(geometry: Geometry) -> None:
    grid = straight_grid(geometry)
    assert grid.voxel_volume_ml == pytest.approx(geometry.voxel_volume_ml)
    world = np.concatenate([positions(geometry).reshape(-1, 3).T, np.ones((1, math.prod(SHAPE)))])
    index = (np.linalg.inv(grid.index_to_world) @ world)[:3]
    assert (index.min(axis=1) > -0.01).all()
    assert (index.max(axis=1) < np.array(grid.shape[::-1]) - 0.99).all()


def test_slices_of_a_tilted_ct_are_moved_within_their_plane() -> None:
    grid = straight_grid(TILTED)
    assert grid.spacing[:2] == pytest.approx(TILTED.spacing[:2])
    assert grid.shape[0] == SHAPE[0]
    assert grid.shape[2] == SHAPE[2]
    assert np.allclose(grid.index_to_world[:3, :2], TILTED.index_to_world[:3, :2])


def test_shear_that_rounding_explains_leaves_every_voxel_as_it_is(tmp_path: Path) -> None:
    voxels = painted(ROUNDED)
    volume = read_volume(write(tmp_path / "a.nii.gz", voxels, ROUNDED))
    assert np.array_equal(volume.voxels, voxels)
    assert volume.notices == ()
    direction = np.reshape(volume.geometry.direction, (3, 3))
    assert np.allclose(direction.T @ direction, np.eye(3), atol=1e-9)
    apart = np.linalg.norm(positions(volume.geometry) - positions(ROUNDED), axis=-1).max()
    assert 0.001 < apart < 0.05, "half the shear times half the image, in mm"
    assert 0 < volume.reading["snapped_voxels"] < 0.05


def test_shear_that_is_more_than_rounding_is_mentioned(tmp_path: Path) -> None:
    """The voxels stay as they are, but the grid is no more exactly that of the file."""
    geometry = replace(sheared(0.004, spacing=(1.0, 1.0, 1.0)), shape=(6, 120, 120))
    voxels = np.arange(6 * 120 * 120, dtype=np.float32).reshape(geometry.shape)
    (notice,) = read_volume(write(tmp_path / "a.nii.gz", voxels, geometry)).notices
    assert str(notice) == (
        "The axes of a.nii.gz deviate a little from right angles. The result has a grid with right angles, "
        "whose voxels are up to 0.12 of a voxel away from those of the file."
    )


@pytest.mark.parametrize("size", [40, 200, 500, 700])
@pytest.mark.parametrize("shear", [0.0002, 0.001, 0.002, 0.004, 0.02])
def test_snapping_moves_no_voxel_by_more_than_it_states(size: int, shear: float) -> None:
    """Half of the shear is along either axis: at the edge, half the image away from the center, it moves most."""
    geometry = replace(sheared(shear, spacing=(1.0, 1.0, 1.0)), shape=(20, size, size))
    move = shear / 2 * (size - 1) / 2
    near = snapped(geometry)
    assert (near is not None) == (move <= LARGEST_MOVE)
    if near is not None:
        corner = np.array([[0, 0, 0, 1], [size - 1, size - 1, 19, 1]], float).T
        apart = (near[0].index_to_world @ corner - geometry.index_to_world @ corner)[:3]
        assert near[1] == pytest.approx(move, rel=0.05)
        assert np.linalg.norm(apart, axis=0).max() < 1.5 * near[1], "along two axes at most"


def test_mirrored_axes_stay_mirrored() -> None:
    matrix = ROUNDED.index_to_world @ np.diag([1, 1, -1, 1])
    near = snapped(Geometry.from_index_to_world(matrix, SHAPE))
    assert near is not None
    assert np.linalg.det(np.reshape(near[0].direction, (3, 3))) == pytest.approx(-1)


def test_right_angles_are_left_alone_to_the_last_digit() -> None:
    geometry = sheared(spacing=(0.7, 0.7, 5.0))
    assert snapped(geometry) == (geometry, 0.0)


def test_labels_of_a_sheared_image_are_on_the_grid_of_the_image(tmp_path: Path) -> None:
    labels = np.where(painted(LEANING) > 0, 300, 0).astype(np.uint16)
    image = read_volume(write(tmp_path / "image.nii.gz", painted(LEANING), LEANING))
    found, geometry = read_labels(write(tmp_path / "labels.nrrd", labels, LEANING))
    assert geometry.matches(image.geometry)
    assert found.dtype == np.uint16
    assert set(np.unique(found)) == {0, 300}
    assert np.linalg.norm(found_at(found, geometry) - BALL) < 0.5


@pytest.mark.parametrize("geometry", [TILTED, ROUNDED], ids=["tilted", "rounded"])
def test_files_with_one_matrix_have_one_grid(tmp_path: Path, geometry: Geometry) -> None:
    labels = (painted(geometry) > 0).astype(np.uint8)
    one = write(tmp_path / "one.nii.gz", labels, geometry)
    other = write(tmp_path / "other.nii.gz", labels[:, ::-1], geometry)
    (voxels, grid), (_, second) = read_grid(one), read_grid(other)
    assert grid == second
    assert np.array_equal(voxels, labels)
    (row,) = evaluate_folders(one, one)
    assert row.dice == 1.0
    assert evaluate_folders(one, other)[0].dice < 1.0


def test_the_command_line_writes_the_result_as_nifti_and_reports_it(
    tmp_path: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image, out = write(tmp_path / "tilted.nii.gz", painted(TILTED), TILTED), tmp_path / "out.nii.gz"
    assert main(["segment", str(image), "--model", str(tiny_model), "--out", str(out), "--device", "cpu"]) == 0
    assert "tilted.nii.gz deviate from right angles by 17 degrees" in capfd.readouterr().err
    assert read_grid(out)[1].matches(read_volume(image).geometry)
    assert evaluate_folders(out, write(tmp_path / "labels.nii.gz", np.ones(SHAPE, np.uint8), TILTED)), "on one grid"


def test_outside_of_the_image_are_its_lowest_value_and_no_label() -> None:
    voxels, grid = straightened(painted(TILTED), TILTED)
    labels, _ = straightened(np.ones(SHAPE, np.uint8), TILTED, labels=True)
    index = np.linalg.inv(TILTED.index_to_world)[:3] @ np.insert(positions(grid), 3, 1, axis=-1)[..., None]
    outside = ((index[..., 0] < -0.51) | (index[..., 0] > np.array(SHAPE[::-1]) - 0.49)).any(axis=-1)
    assert 0.1 < outside.mean() < 0.5
    assert (voxels[outside] == -1000).all()
    assert np.array_equal(labels == 0, labels != 1)
    assert (labels[outside] == 0).all()
    assert (labels == 1).mean() == pytest.approx((~outside).mean(), abs=0.01)


def test_whole_numbers_are_rounded_not_cut_off() -> None:
    ramp = np.broadcast_to(np.arange(SHAPE[1], dtype=np.int16)[:, None], SHAPE) - np.int16(20)
    voxels, _ = straightened(ramp, TILTED)
    exact, _ = straightened(ramp.astype(np.float64), TILTED)
    assert np.array_equal(voxels, np.rint(exact))


def test_a_matrix_that_has_collapsed_is_refused() -> None:
    with pytest.raises(InputError, match=r"deviate from right angles by 8\d degrees. Correct the matrix"):
        straight_grid(sheared(jk=40.0))


def test_a_real_ct_with_tilt_in_its_matrix(shared_data: Path) -> None:
    path = shared_data / "other" / "ct_sheared_affine.nii.gz"
    volume = read_volume(path)
    image = nib.load(path)
    assert volume.geometry.is_orthogonal
    voxels = np.asarray(image.dataobj)
    i, j, k = np.nonzero(voxels > 200)  # bone
    expected = np.diag([-1, -1, 1]) @ nib.affines.apply_affine(image.affine, np.c_[i, j, k].mean(axis=0))
    center = positions(volume.geometry)[volume.voxels > 200].mean(axis=0)
    assert np.linalg.norm(center - expected) < 0.5
    assert "deviate from right angles" in volume.notices[-1]
