"""Every slice of a DICOM series is where its file states, straightened where the slices are no regular grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import ORIGIN, STEP, noise, slices, world, write
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.volume import Volume
from pydicom.dataset import Dataset, FileDataset

TILT = np.deg2rad(20)
OBLIQUE = (0.8, 0.6, 0.0, -0.48, 0.64, 0.6)
ACROSS = np.cross(OBLIQUE[:3], OBLIQUE[3:])


def at(volume: Volume, place: np.ndarray) -> np.ndarray:
    """Index (i, j, k) of a world position."""
    return (np.linalg.inv(volume.geometry.index_to_world) @ (*place, 1))[:3]


def check_ten_voxels(volume: Volume, data_sets: list[pydicom.Dataset]) -> None:
    """World positions by the arithmetic of the standard; the voxel there has the file's value."""
    random = np.random.default_rng(1)
    for _ in range(10):
        data = data_sets[random.integers(len(data_sets))]
        i, j = int(random.integers(data.Columns)), int(random.integers(data.Rows))
        index = at(volume, world(data, i, j))
        k, row, column = np.rint(index[::-1]).astype(int)
        found = (volume.geometry.index_to_world @ (column, row, k, 1))[:3]
        np.testing.assert_allclose(found, world(data, i, j), atol=0.01)
        slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
        assert volume.voxels[k, row, column] == pytest.approx(data.pixel_array[j, i] * slope + intercept)


@pytest.mark.parametrize(
    "data_sets",
    [
        slices(),
        slices()[::-1],
        slices(position=lambda k: ORIGIN + STEP * k * ACROSS, orientation=OBLIQUE),
        slices(position=lambda k: ORIGIN - (STEP * k, 0, 0), orientation=(0, 1, 0, 0, 0, -1)),
        slices(RescaleSlope="2", RescaleIntercept="-1024", Modality="CT"),
        slices(position=lambda k: (0, 0, round(-100.3 + 0.003 * k, 3) * 250)),
    ],
    ids=["axial", "from the top", "oblique", "sagittal", "rescaled", "long"],
)
def test_ten_voxels_are_where_the_files_say(tmp_path: Path, data_sets: list[FileDataset]) -> None:
    volume = read_volume(write(tmp_path, data_sets))
    check_ten_voxels(volume, data_sets)
    assert volume.notices == () and volume.reading["frames"] == len(data_sets)


@pytest.mark.parametrize("folder", ["hippocampus_crop_series", "ct_head_small", "ct_jpeg2000_no_extension"])
def test_ten_voxels_of_real_series(shared_data: Path, folder: str) -> None:
    volume = read_volume(shared_data / "dicom" / folder)
    files = sorted((shared_data / "dicom" / folder).iterdir())
    check_ten_voxels(volume, [pydicom.dcmread(path) for path in files])


@pytest.mark.parametrize(("name", "count"), [("enhanced_mr_siemens", 6), ("enhanced_mr_philips.dcm", 32)])
def test_frames_of_real_multiframe_files(shared_data: Path, name: str, count: int) -> None:
    """The place of each frame by its own functional groups; of Philips's two volumes each is one."""
    given = shared_data / "dicom" / name
    (path,) = given.iterdir() if given.is_dir() else [given]
    part = ""
    if name == "enhanced_mr_philips.dcm":
        with pytest.raises(InputError, match=r"2 volumes in one series") as refused:
            read_volume(path)
        part = str(refused.value).split("one series: ")[1].split(" (")[0]
    volume = read_volume(path, part=part)
    data = pydicom.dcmread(path)
    values = data.pixel_array
    seen = set()
    for frame, groups in enumerate(data.PerFrameFunctionalGroupsSequence):
        flat = Dataset()
        for sequence in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            shared = data.SharedFunctionalGroupsSequence[0]
            flat.update((groups if sequence in groups else shared)[sequence].value[0])
        place = world(flat, 10, 20)
        i, j, k = at(volume, place)
        assert (i, j, k) == pytest.approx((10, 20, round(k)), abs=0.01 / min(volume.geometry.spacing))
        rescale = groups.get("PixelValueTransformationSequence")
        slope, intercept = (rescale[0].RescaleSlope, rescale[0].RescaleIntercept) if rescale else (1, 0)
        expected = values[frame] * float(slope) + float(intercept)
        if np.allclose(volume.voxels[round(k)], expected, rtol=1e-5):
            seen.add(round(k))
    assert len(seen) == count == volume.geometry.shape[0]


@pytest.mark.parametrize(("step", "decimals"), [(0.625, 3), (0.625, 2), (1.25, 1), (0.7, 1), (2.1875, 2)])
def test_rounded_positions_are_even(tmp_path: Path, step: float, decimals: int) -> None:
    """Written with few decimals, no slice is missing; each is as close as the digits show."""
    data_sets = slices(position=lambda k: (-10, -20, round(-100.3 + step * k, decimals)))
    volume = read_volume(write(tmp_path, data_sets))
    assert volume.notices == () and volume.geometry.shape[0] == len(data_sets)
    for k, data in enumerate(data_sets):
        assert at(volume, world(data, 0, 0)) == pytest.approx((0, 0, k), abs=10.0**-decimals / step)
    assert volume.geometry.spacing[2] == pytest.approx(step, rel=0.01)


def ball(data_sets: list[FileDataset], center: np.ndarray, radius: float) -> None:
    """Painted by the world position of each voxel."""
    for data in data_sets:
        j, i = np.mgrid[: data.Rows, : data.Columns]
        row, column = (np.array(part, float) for part in np.split(np.array(data.ImageOrientationPatient), 2))
        down, along = map(float, data.PixelSpacing)
        places = world(data, 0, 0) + (i[..., None] * along) * row + (j[..., None] * down) * column
        inside = np.linalg.norm(places - center, axis=-1) <= radius
        data.PixelData = np.where(inside, 1000, -1000).astype(np.int16).tobytes()


@pytest.mark.parametrize("kind", ["tilted", "tilted the other way", "moved aside", "uneven", "tilted and uneven"])
def test_a_ball_comes_back_at_its_place(tmp_path: Path, kind: str) -> None:
    tilt = {"tilted": TILT, "tilted the other way": -TILT, "tilted and uneven": TILT}.get(kind, 0.0)
    steps = np.where(np.arange(40) < 20, 1.0, 1.7) if "uneven" in kind else np.full(40, 1.5)
    heights = np.cumsum(steps)
    aside = np.where(np.arange(40) < 20, 0, 7.3) if kind == "moved aside" else np.zeros(40)
    data_sets = slices(
        np.zeros((40, 96, 64), np.int16),
        position=lambda k: (-30 + aside[k], -40, heights[k]),
        orientation=(1, 0, 0, 0, np.cos(tilt), np.sin(tilt)),
        spacing=(1.0, 1.0),
        GantryDetectorTilt=str(np.rad2deg(tilt).round(3)),
    )
    center, radius = np.array([2.3, -40 + 45 * np.cos(tilt), 28.4 + 45 * np.sin(tilt)]), 11.0
    ball(data_sets, center, radius)
    volume = read_volume(write(tmp_path, data_sets))
    assert volume.geometry.is_orthogonal and "were interpolated onto a regular grid" in volume.notices[0]
    assert volume.reading["straightened"]["slices"] == volume.geometry.shape[0]
    inside = np.argwhere(volume.voxels > 0)[:, ::-1]
    places = inside @ volume.geometry.index_to_world[:3, :3].T + volume.geometry.origin
    assert np.linalg.norm(places.mean(axis=0) - center) < 0.5 * min(volume.geometry.spacing)
    assert len(inside) * volume.geometry.voxel_volume_ml * 1000 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
    for corner in (data_sets[0], data_sets[-1]):  # the grid covers the stack
        for i, j in ((0, 0), (63, 95)):
            index = at(volume, world(corner, i, j))
            assert (index > -0.51).all() and (index < np.array(volume.geometry.shape[::-1]) - 0.49).all()


@pytest.mark.parametrize("folder", ["ct_gantry_tilt_geometry_only", "ct_head_tilted_uneven"])
def test_a_ball_in_the_geometry_of_a_real_tilted_ct(shared_data: Path, tmp_path: Path, folder: str) -> None:
    files = sorted((shared_data / "dicom" / folder).iterdir())
    data_sets = [pydicom.dcmread(path) for path in files]
    middle = sorted(data_sets, key=lambda data: float(data.ImagePositionPatient[2]))[len(files) // 2]
    center = world(middle, 250, 260)
    ball(data_sets, center, 60.0)
    for data in data_sets:
        data.PixelRepresentation, data.RescaleSlope, data.RescaleIntercept = 1, 1, 0
        data.BitsStored, data.HighBit = 16, 15
    volume = read_volume(write(tmp_path, data_sets))
    high = np.array([world(data, 0, 0) for data in data_sets]) @ np.reshape(volume.geometry.direction, (3, 3))[:, 2]
    inside = np.argwhere(volume.voxels > 0)[:, ::-1]
    places = inside @ volume.geometry.index_to_world[:3, :3].T + volume.geometry.origin
    found = (places.min(axis=0) + places.max(axis=0)) / 2
    assert abs(found[0] - center[0]) < 0.5
    if np.ptp(high) > 130:  # the whole ball is in the stack
        assert np.linalg.norm(places.mean(axis=0) - center) < 0.5 * max(volume.geometry.spacing)


def test_missing_slices_are_named_and_interpolated_on_demand(tmp_path: Path) -> None:
    voxels = np.broadcast_to(np.arange(20, dtype=np.int16)[:, None, None] * 10, (20, 8, 8)).copy()
    voxels[:, 0, 0] += 500
    kept = [data for k, data in enumerate(slices(voxels)) if k not in (7, 8, 15)]
    folder = write(tmp_path / "cut", kept)
    with pytest.raises(InputError) as refused:
        read_volume(folder)
    words = str(refused.value)
    assert "4.5 mm between" in words and "at (-10, -20, -21)" in words and "at (-10, -20, -16.5)" in words
    assert "3 mm between" in words and "--allow-gaps" in words
    volume = read_volume(folder, allow_gaps=True)
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.geometry.spacing[2] == pytest.approx(STEP)
    assert volume.reading["interpolated_mm"] == [[-21, -16.5], [-9, -6]]
    assert any("were interpolated" in notice for notice in volume.notices)


def test_a_narrow_step_makes_no_gap_of_the_next(tmp_path: Path) -> None:
    heights = (0, 4, 8, 12, 16, 17, 21)
    folder = write(tmp_path, slices(noise((7, 8, 8)), position=lambda k: (0, 0, heights[k])))
    volume = read_volume(folder)
    assert volume.reading["step_mm"] == [1, 4] and "interpolated_mm" not in volume.reading
    assert volume.geometry.spacing[2] * (volume.geometry.shape[0] - 1) == pytest.approx(21)


def test_distances_that_hardly_differ_are_stated_as_different(tmp_path: Path) -> None:
    folder = write(tmp_path, slices(noise((40, 8, 8)), position=lambda k: (0, 0, k + 0.003 * max(0, k - 20))))
    assert any("are 1 to 1.003 mm apart" in notice for notice in read_volume(folder).notices)


def test_every_other_slice_missing_in_a_half_is_found_by_the_numbers(tmp_path: Path) -> None:
    kept = [data for k, data in enumerate(slices(noise((20, 8, 8)))) if k < 12 or k % 2]
    with pytest.raises(InputError, match="has missing slices"):
        read_volume(write(tmp_path, kept))


@pytest.mark.parametrize("lost", [(7, 9), (7, 9, 11), (7, 9, 10)], ids=str)
def test_lost_slices_side_by_side_are_gaps_although_slices_are_numbered_anew(
    tmp_path: Path, lost: tuple[int, ...]
) -> None:
    kept = [data for k, data in enumerate(slices(noise((20, 8, 8)))) if k not in lost]
    for number, data in enumerate(kept, start=1):
        data.InstanceNumber = number
    folder = write(tmp_path, kept)
    with pytest.raises(InputError, match=r"has missing slices: .* 3 mm between .* at \(-10, -20, -21\)"):
        read_volume(folder)
    gaps = read_volume(folder, allow_gaps=True).reading["interpolated_mm"]
    assert [low for low, _high in gaps] == [-30 + STEP * (k - 1) for k in lost if k - 1 not in lost]


def test_a_part_that_is_taken_at_twice_the_distance_has_no_gap(tmp_path: Path) -> None:
    heights = np.cumsum([*[1.5] * 9, *[3.0] * 10, *[1.5] * 9])
    folder = write(tmp_path, slices(noise((28, 8, 8)), position=lambda k: (0, 0, heights[k])))
    assert "interpolated_mm" not in read_volume(folder).reading


def test_slices_that_no_grid_fits_are_refused(tmp_path: Path) -> None:
    pairs = slices(noise((12, 8, 8)), position=lambda k: (0, 0, 5 * (k // 2) + 0.02 * (k % 2)))
    with pytest.raises(InputError, match=r"0\.02 to 4\.98 mm apart .* does not fit a regular grid"):
        read_volume(write(tmp_path, pairs), allow_gaps=True)


def test_directions_with_few_digits_are_not_tilt(tmp_path: Path) -> None:
    """What the fourth decimal of a direction moves over the height of the stack is below a tenth of a voxel."""
    turned = np.deg2rad(3.3)
    exact = np.array([0, -np.sin(turned), np.cos(turned)])
    data_sets = slices(
        noise((60, 8, 8)),
        position=lambda k: np.round(STEP * k * exact, 3),
        orientation=np.round((1, 0, 0, 0, np.cos(turned), np.sin(turned)), 4).tolist(),
    )
    assert read_volume(write(tmp_path, data_sets)).notices == ()
