"""Headers with their voxels in other files are read as ITK reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.detached import voxel_files

SLICES = 12
META = (
    f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = 5 4 {SLICES}\n"
    "ElementSpacing = 1 1 1\nElementType = MET_SHORT\nElementDataFile = "
)
NRRD = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 {SLICES}\nencoding: raw\nendian: little\n"
LIST = "".join(f"raw/s{number:03}.raw\n" for number in range(SLICES))
EACH = [f"raw/s{number:03}.raw" for number in range(SLICES)]
FORMS = [
    ("a.mhd", META + "raw/all.raw\n", ["raw/all.raw"]),
    ("a.mha", META + "raw/all.raw", ["raw/all.raw"]),
    ("a.mhd", META + "LIST\n" + LIST, EACH),
    ("a.mhd", META + f"raw/s%03d.raw 0 {SLICES - 1} 1\n", EACH),
    ("a.mhd", META + "raw/s%03d.raw 0\n", EACH),
    ("a.mhd", (META + "LIST\n" + LIST).replace("\n", "\r\n"), EACH),
    ("a.nhdr", NRRD + "data file: raw/all.raw\n", ["raw/all.raw"]),
    ("a.nrrd", NRRD + "datafile: raw/all.raw\n", ["raw/all.raw"]),
    ("a.nhdr", NRRD + "data file: LIST\n" + LIST, EACH),
    ("a.nhdr", NRRD + f"data file: raw/s%03d.raw 0 {SLICES - 1} 1\n", EACH),
]


@pytest.fixture
def voxels(tmp_path: Path) -> np.ndarray:
    """Of an image whose slices, and the whole of them, are in the folder `raw`."""
    array = np.arange(SLICES * 20, dtype="<i2").reshape(SLICES, 4, 5)
    (tmp_path / "raw").mkdir()
    array.tofile(tmp_path / "raw" / "all.raw")
    for number, one in enumerate(array):
        one.tofile(tmp_path / "raw" / f"s{number:03}.raw")
    return array


@pytest.mark.parametrize(("name", "header", "expected"), FORMS)
def test_the_files_are_those_from_which_itk_takes_the_voxels(
    tmp_path: Path, voxels: np.ndarray, name: str, header: str, expected: list[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(header.encode())
    files = voxel_files(path)
    assert files == [tmp_path / one for one in expected]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), voxels)


@pytest.mark.parametrize("ending", ["mha", "nrrd", "nii.gz"])
def test_a_file_that_holds_its_voxels_names_no_other(tmp_path: Path, voxels: np.ndarray, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    assert voxel_files(path) == []


@pytest.mark.parametrize(
    "words", ["s%03d.raw 0 1000000000 1", "s%999999999d.raw 0 1 1", "s%s.raw 0 1 1", "s%d.raw 0 9 0"]
)
def test_a_header_that_names_files_without_end_is_refused(tmp_path: Path, words: str) -> None:
    (tmp_path / "a.mhd").write_text(META + words, encoding="utf-8")
    with pytest.raises(InputError, match="not name its voxel files in a supported way"):
        voxel_files(tmp_path / "a.mhd")
