"""Reading images: every format gives the same voxels at the same place in the world."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.catalog.card import Label
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.volume import Segmentation, Volume

NAMES = (3, 0, 5, 1, 4, 2)
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)


def write_dicom(folder: Path, image: sitk.Image, series: str = "1") -> None:
    """One file for each of six slices, as a scanner exports it, with names that do not sort like the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = np.reshape(image.GetDirection(), (3, 3))
    tags = {
        "0008|0060": "MR",
        "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
        "0020|000e": f"1.2.826.0.1.3680043.2.1125.1.{series}",
        "0020|0037": "\\".join(f"{x:.8g}" for x in direction.T[:2].ravel()),
    }
    for k in range(image.GetDepth()):
        plane = image[:, :, k]
        for tag, text in tags.items():
            plane.SetMetaData(tag, text)
        position = image.TransformIndexToPhysicalPoint((0, 0, k))
        plane.SetMetaData("0020|0032", "\\".join(f"{x:.8g}" for x in position))
        plane.SetMetaData("0020|0013", str(k + 1))
        plane.SetMetaData("0008|0018", f"1.2.826.0.1.3680043.2.1125.1.{series}.{k + 1}")
        writer.SetFileName(str(folder / f"{NAMES[k]:03}.dcm"))
        writer.Execute(plane)


@pytest.fixture
def stored() -> Volume:
    geometry = Geometry((6, 8, 10), (0.5, 0.75, 2.0), (10.0, -20.0, 30.0), OBLIQUE)
    return Volume(np.arange(480, dtype=np.int16).reshape(6, 8, 10), geometry)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "Ordner mit ü/ä b.nii.gz"])
def test_files_keep_voxels_and_place(stored: Volume, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(to_sitk(stored.voxels, stored.geometry), str(path))
    volume = read_volume(path)
    assert np.array_equal(volume.voxels, stored.voxels)
    assert volume.geometry.matches(stored.geometry)
    assert volume.name == path.name.split(".")[0]


def test_a_dicom_folder_is_one_volume(tmp_path: Path) -> None:
    upright = Geometry((6, 8, 10), (0.5, 0.75, 2.0), (10.0, -20.0, 30.0))
    voxels = np.arange(480, dtype=np.int16).reshape(6, 8, 10)
    write_dicom(tmp_path / "séries 1", to_sitk(voxels, upright))
    volume = read_volume(tmp_path / "séries 1")
    assert np.array_equal(volume.voxels, voxels)
    assert volume.geometry.matches(upright)


def test_a_series_with_missing_slices_is_refused(tmp_path: Path) -> None:
    """ITK alone spreads the remaining slices evenly over the gap without a word."""
    write_dicom(tmp_path, to_sitk(np.arange(480, dtype=np.int16).reshape(6, 8, 10), Geometry((6, 8, 10))))
    for file in tmp_path.iterdir():
        if sitk.ReadImage(str(file)).GetMetaData("0020|0013").strip() == "3":
            file.unlink()
    with pytest.raises(InputError, match=r"1 to 2 mm, with"):
        read_volume(tmp_path)


def test_slices_that_are_not_evenly_spaced_are_straightened(tmp_path: Path) -> None:
    """The third of six is a fifth of a millimeter too high."""
    write_dicom(tmp_path, to_sitk(np.arange(480, dtype=np.int16).reshape(6, 8, 10), Geometry((6, 8, 10))))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for file in tmp_path.iterdir():
        plane = sitk.ReadImage(str(file))
        if plane.GetMetaData("0020|0013").strip() == "3":
            plane.SetMetaData("0020|0032", "0\\0\\2.2")
            writer.SetFileName(str(file))
            writer.Execute(plane)
    volume = read_volume(tmp_path)
    assert "0.8 to 1.2 mm apart" in volume.notices[0]
    assert volume.geometry.spacing[2] == pytest.approx(5 / 7), "of eight slices over the same height"
    assert np.array_equal(volume.voxels[[0, -1]], np.arange(480).reshape(6, 8, 10)[[0, -1]])


def test_a_folder_with_two_series_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not contain a DICOM series"):
        read_volume(tmp_path)
    image = to_sitk(np.arange(480, dtype=np.int16).reshape(6, 8, 10), Geometry((6, 8, 10)))
    for series in ("1", "2"):
        write_dicom(tmp_path / series, image, series)
        for file in (tmp_path / series).iterdir():
            file.rename(tmp_path / f"{series}_{file.name}")
    with pytest.raises(InputError, match="2 DICOM series"):
        read_volume(tmp_path)


def test_a_real_dicom_series(shared_data: Path) -> None:
    volume = read_volume(shared_data / "dicom" / "hippocampus_crop_series")
    assert volume.geometry.shape[0] == 32
    assert volume.voxels.std() > 0


def test_a_single_frame_of_four_dimensions_is_a_volume(write_image: Callable[..., Path], tmp_path: Path) -> None:
    volume = sitk.ReadImage(str(write_image()))
    sitk.WriteImage(sitk.JoinSeries([volume]), str(tmp_path / "one frame.nii.gz"))
    assert np.array_equal(read_volume(tmp_path / "one frame.nii.gz").voxels, sitk.GetArrayFromImage(volume))


def test_a_file_packed_in_several_parts_is_complete(write_image: Callable[..., Path], tmp_path: Path) -> None:
    whole = gzip.decompress(write_image("whole.nii.gz").read_bytes())
    parts = gzip.compress(whole[:1000]) + gzip.compress(whole[1000:])
    (tmp_path / "parts.nii.gz").write_bytes(parts)
    expected = read_volume(tmp_path / "whole.nii.gz").voxels
    assert np.array_equal(read_volume(tmp_path / "parts.nii.gz").voxels, expected)


def test_index_to_world_agrees_with_simpleitk(stored: Volume) -> None:
    image = to_sitk(stored.voxels, stored.geometry)
    for index in ((0, 0, 0), (9, 7, 5), (3, 1, 4)):
        assert np.allclose(
            stored.geometry.index_to_world @ (*index, 1), (*image.TransformIndexToPhysicalPoint(index), 1)
        )
    again = Geometry.from_index_to_world(stored.geometry.index_to_world, stored.geometry.shape)
    assert again.matches(stored.geometry)


def test_grids_match_to_a_hundredth_of_a_voxel(stored: Volume) -> None:
    x, y, z = stored.geometry.origin
    near = Geometry(stored.geometry.shape, stored.geometry.spacing, (x + 0.004, y, z), OBLIQUE)
    far = Geometry(stored.geometry.shape, stored.geometry.spacing, (x + 0.006, y, z), OBLIQUE)
    assert near.matches(stored.geometry)
    assert not far.matches(stored.geometry)


def test_volumes_of_labels_in_ml(stored: Volume) -> None:
    voxels = np.zeros((6, 8, 10), np.uint8)
    voxels[0, 0, :4] = 2
    labels = (Label(1, "one", (0, 0, 0)), Label(2, "two", (0, 0, 0)))
    volumes = Segmentation(voxels, stored.geometry, labels).volumes_ml()
    assert volumes == pytest.approx({"one": 0, "two": 4 * 0.5 * 0.75 * 2 / 1000})


def test_a_sheared_voxel_has_the_volume_of_its_parallelepiped() -> None:
    sheared = Geometry((2, 2, 2), (1, 2, 1), direction=(1, 0.6, 0, 0, 0.8, 0, 0, 0, 1))
    assert sheared.voxel_volume_ml == pytest.approx(1 * 2 * 0.8 * 1 / 1000)
    assert not sheared.is_orthogonal


def test_an_image_of_few_whole_values_gets_a_notice(write_image: Callable[..., Path]) -> None:
    """It may be a label map that was given for the image; one that says so is refused."""
    labels = np.random.default_rng(0).integers(0, 5, (9, 9, 9))
    assert "only 5 different values" in read_volume(write_image("a.nrrd", labels.astype(np.uint8))).notices[0]
    assert "only 5 different values" in read_volume(write_image("b.nii", labels.astype(np.float32))).notices[0]
    for voxels in (labels - 1, labels * 0.5, np.arange(729).reshape(9, 9, 9)):
        assert read_volume(write_image("c.nrrd", voxels.astype(np.float32))).notices == ()
