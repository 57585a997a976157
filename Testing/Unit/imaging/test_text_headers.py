"""NRRD and MetaImage as their definitions say, beside ITK's readers where these follow them, and refused otherwise."""

from __future__ import annotations

import bz2
import gzip
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.readers import read_grid, read_labels, read_volume

LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"
VOXELS = np.random.default_rng(5).integers(-1000, 1000, (5, 6, 7)).astype("<i2")
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "7 6 5",
    "space directions": "(0.75,0,0) (0,1.25,0) (0,0,2.5)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-10.5,20.25,3.75)",
}
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-10.5 20.25 3.75",
    "ElementSpacing": "0.75 1.25 2.5",
    "DimSize": "7 6 5",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
PLACE = np.array([[0.75, 0, 0, -10.5], [0, 1.25, 0, 20.25], [0, 0, 2.5, 3.75], [0, 0, 0, 1]])


def write_nrrd(path: Path, data: bytes = VOXELS.tobytes(), **changes: str | None) -> Path:
    """A field is left out by None; underscores in names are blanks."""
    fields = NRRD | {name.replace("_", " "): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    path.write_bytes("\n".join(["NRRD0004", "# a comment", *lines, "", ""]).encode() + data)
    return path


def write_meta(path: Path, data: bytes = VOXELS.tobytes(), **changes: str | None) -> Path:
    fields = META | changes
    fields["ElementDataFile"] = fields.pop("ElementDataFile")  # the last one
    lines = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    path.write_bytes("\n".join([*lines, ""]).encode() + data)
    return path


def place_by_itk(path: Path) -> np.ndarray:
    image = sitk.ReadImage(str(path))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix


@pytest.mark.parametrize(
    ("changes", "turned"),
    [
        ({}, (1, 1, 1)),
        ({"space": "LPS"}, (1, 1, 1)),
        ({"space": "right-anterior-superior"}, (-1, -1, 1)),
        ({"space": "RAS"}, (-1, -1, 1)),
        ({"space": "left-anterior-superior"}, (1, -1, 1)),
        ({"centers": "cell cell cell"}, (1, 1, 1)),  # the space origin is that of a voxel's center all the same
        ({"centers": "node node node"}, (1, 1, 1)),
        ({"measurement frame": "(0,1,0) (1,0,0) (0,0,1)"}, (1, 1, 1)),  # which turns vectors, no voxels
    ],
)
def test_spaces_of_nrrd(tmp_path: Path, changes: dict[str, str], turned: tuple[int, ...]) -> None:
    path = write_nrrd(tmp_path / "a.nrrd", **changes)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_allclose(volume.geometry.index_to_world, np.diag([*turned, 1]) @ PLACE, atol=1e-12)
    np.testing.assert_allclose(volume.geometry.index_to_world, place_by_itk(path), atol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("cm", 10), ("m", 1000), ("um", 0.001)])
def test_units_are_millimeters_in_the_end(tmp_path: Path, unit: str, factor: float) -> None:
    volume = read_volume(write_nrrd(tmp_path / "a.nrrd", space_units=" ".join([f'"{unit}"'] * 3)))
    np.testing.assert_allclose(volume.geometry.index_to_world, np.diag([factor] * 3 + [1]) @ PLACE)
    assert bool(volume.notices) == (factor != 1), "ITK and Slicer take the numbers as mm"
    if unit != "m":
        volume = read_volume(write_meta(tmp_path / "a.mha", DistanceUnits=unit))
        assert bool(volume.notices) == (factor != 1)
        np.testing.assert_allclose(volume.geometry.index_to_world, np.diag([factor] * 3 + [1]) @ PLACE)


@pytest.mark.parametrize("mirrored", ["(-0.75,0,0) (0,1.25,0) (0,0,2.5)", "(0,1.25,0) (0.75,0,0) (0,0,2.5)"])
def test_left_handed_axes(tmp_path: Path, mirrored: str) -> None:
    path = write_nrrd(tmp_path / "a.nrrd", space_directions=mirrored)
    np.testing.assert_allclose(read_volume(path).geometry.index_to_world, place_by_itk(path), atol=1e-6)
    path = write_meta(tmp_path / "a.mha", TransformMatrix="0 1 0 -1 0 0 0 0 -1")  # a row is an axis
    np.testing.assert_allclose(read_volume(path).geometry.index_to_world, place_by_itk(path), atol=1e-6)
    assert read_volume(path).geometry.index_to_world[:3, 0].tolist() == [0, 0.75, 0]


@pytest.mark.parametrize("encoding", ["raw", "gzip", "gz", "bzip2", "ascii", "txt"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize(
    "kind", ["int8_t", "uint8", "short", "unsigned short", "int", "uint32_t", "long long", "double"]
)
def test_values_of_nrrd(tmp_path: Path, encoding: str, endian: str, kind: str) -> None:
    names = {"int8_t": "i1", "uint8": "u1", "short": "i2", "unsigned short": "u2", "int": "i4", "uint32_t": "u4"}
    order = "<" if endian == "little" else ">"
    values = (
        np.random.default_rng(1)
        .integers(0, 100, (5, 6, 7))
        .astype(order + (names | {"long long": "i8", "double": "f8"})[kind])
    )
    text = " ".join(map(str, values.ravel().tolist())).encode()
    packed = {"raw": bytes, "bzip2": bz2.compress}.get(encoding, gzip.compress)(values.tobytes())
    data = text if encoding in ("ascii", "txt") else packed
    volume = read_volume(write_nrrd(tmp_path / "a.nrrd", data, type=kind, endian=endian, encoding=encoding))
    np.testing.assert_array_equal(volume.voxels, values)


@pytest.mark.parametrize(
    ("write", "name", "sheared", "big"),
    [
        (write_nrrd, "a.nrrd", {"space_directions": "(0.75,0,0) (0,1.25,0) (0,0.5,2.5)"}, {"endian": "big"}),
        (write_meta, "a.mha", {"TransformMatrix": "1 0 0 0 1 0 0 0.2 0.98"}, {"BinaryDataByteOrderMSB": "True"}),
    ],
)
def test_big_endian_labels_on_a_sheared_grid_are_straightened_as_others_are(
    tmp_path: Path, write: Callable[..., Path], name: str, sheared: dict, big: dict
) -> None:
    """ITK and torch take no other byte order than the computer's."""
    expected = read_labels(write(tmp_path / name, **sheared))[0]
    path = write(tmp_path / name, VOXELS.astype(">i2").tobytes(), **sheared, **big)
    np.testing.assert_array_equal(read_labels(path)[0], expected)


@pytest.mark.parametrize("form", ["plain", "zlib", "gzip", "text", "big", "list", "apart, at the end"])
def test_values_of_metaimage(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.mha"
    if form in ("zlib", "gzip"):
        packed = (zlib if form == "zlib" else gzip).compress(VOXELS.tobytes())
        write_meta(path, packed, CompressedData="True", CompressedDataSize=str(len(packed)))
    elif form == "text":
        write_meta(path, " ".join(map(str, VOXELS.ravel())).encode(), BinaryData="False")
    elif form == "big":
        write_meta(path, VOXELS.astype(">i2").tobytes(), BinaryDataByteOrderMSB="True")
    elif form == "list":
        for number, part in enumerate(VOXELS):
            part.tofile(tmp_path / f"{number}.raw")
        write_meta(path, "".join(f"{number}.raw\n" for number in range(5)).encode(), ElementDataFile="LIST")
    elif form == "apart, at the end":
        (tmp_path / "a.img").write_bytes(b"some header" + VOXELS.tobytes())
        write_meta(path, b"", ElementDataFile="a.img", HeaderSize="-1")
    else:
        write_meta(path)
    np.testing.assert_array_equal(read_volume(path).voxels, VOXELS)
    if form not in ("text", "apart, at the end"):  # which ITK does not read
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), VOXELS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": "scanner-xyz"}, "left and right cannot be distinguished"),
        ({"space": "3D-right-handed"}, "left and right cannot be distinguished"),
        ({"space": None, "space dimension": "3"}, "does not name a space"),
        ({"space": None, "space directions": None, "space origin": None, "spacings": "1 1 1"}, "does not name a space"),
        ({"space directions": None, "spacings": "1 1 1"}, "no space directions"),
        ({"space origin": None}, "no space origin"),
        ({"space units": '"pixel" "pixel" "pixel"'}, "unsupported space units"),
        ({"space units": "cm cm cm"}, "unsupported space units"),
        ({"space directions": "(0.75,0,0) (0,1.25,0) (0,0,nan)"}, "is not a position"),
        ({"space directions": "(0.75,0,0) (0,1.25,0) (0,0,1e308)"}, "spacing"),
        ({"space directions": "(1e-308,0,0) (0,1.25,0) (0,0,2.5)"}, "spacing"),
        ({"space directions": "(0,75,0,0) (0,1.25,0) (0,0,2.5)"}, "three dimensions"),
        ({"space origin": "(1e300,0,0)"}, "not plausible"),
        ({"sizes": "7 6 5000000000"}, "ends before its last voxel"),
        ({"sizes": "7 6 4"}, r"more than the \d+ bytes of voxels that its header describes"),
        ({"sizes": "4294967295 4294967295 4294967295"}, "ends before its last voxel"),
        ({"dimension": "4294967296"}, "gives no valid size"),
        ({"sizes": "7 -6 5"}, "gives no valid size"),
        ({"endian": None}, "byte order"),
        ({"encoding": "zrl"}, "encoding 'zrl' is not supported"),
        ({"type": "block"}, "type 'block'"),
        ({"spacee": "RAS"}, "not a field of the format"),
        ({"dimension": "4", "sizes": "3 7 6 5", "kinds": "RGB-color domain domain domain"}, "all 4 dimensions"),
        ({"byte skip": "-7"}, "line skip or byte skip"),
        ({"line skip": "999999999999999999"}, "ends before its last voxel"),
    ],
)
def test_an_nrrd_without_sure_place_or_values_is_refused(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_volume(write_nrrd(tmp_path / "a.nrrd", **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ElementSpacing": None}, "no ElementSpacing"),
        ({"ElementSpacing": "1 nan 1"}, "is not a list of 3 numbers"),
        ({"ElementSpacing": "1 1e300 1"}, "spacing"),
        ({"ElementSpacing": "0,75 1,25 2,5"}, "is not a list of 3 numbers"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 1 0"}, r"^a\.mha has a singular direction matrix"),
        ({"TransformMatrix": "0 1 0 1 0 0 0 0 1", "CenterOfRotation": "10 0 0"}, "CenterOfRotation"),
        ({"TransformMatrix": None, "AnatomicalOrientation": "LAS"}, "position is unknown"),
        ({"Position": "10.5 20.25 3.75"}, "position twice"),
        ({"Orientation": "0 1 0 1 0 0 0 0 1"}, "position twice"),
        ({"DistanceUnits": "inch"}, "DistanceUnits"),
        ({"NDims": "4294967296"}, "gives no valid size"),
        ({"DimSize": "7 6 5000000000"}, "ends before its last voxel"),
        ({"DimSize": "7 6 4"}, r"more than the \d+ bytes of voxels that its header describes"),
        ({"ElementType": "MET_FLOAT_ARRAY"}, "type 'MET_FLOAT_ARRAY'"),
        ({"ElementNumberOfChannels": "3"}, "3 components"),
        ({"ElementToIntensityFunctionSlope": "2"}, "ElementToIntensityFunction"),
        ({"BinaryDataByteOrderMSB": "Trve"}, "neither True nor False"),
        ({"ElementDataFile": "nowhere.raw"}, "voxels are missing.*nowhere.raw"),
        ({"ElementDataFile": "."}, "voxels are missing"),
    ],
)
def test_a_metaimage_without_sure_place_or_values_is_refused(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_volume(write_meta(tmp_path / "a.mha", **changes))


def test_what_metaimage_has_by_default_is_reported(tmp_path: Path) -> None:
    path = write_meta(tmp_path / "a.mha", TransformMatrix=None, Offset=None)
    volume = read_volume(path)
    np.testing.assert_allclose(volume.geometry.index_to_world, place_by_itk(path))
    assert "no TransformMatrix and Offset" in volume.notices[0]


def test_a_byte_order_mark_before_a_metaimage_is_no_part_of_its_first_field(tmp_path: Path) -> None:
    path = write_meta(tmp_path / "a.mha", ObjectType="Mesh")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    with pytest.raises(InputError, match="does not begin like a MetaImage file"):
        read_volume(path)
    path.write_bytes(path.read_bytes().replace(b"Mesh", b"Image"))
    np.testing.assert_array_equal(read_volume(path).voxels, VOXELS)


def test_the_size_of_voxels_counts_where_no_spacing_is_stated(tmp_path: Path) -> None:
    path = write_meta(tmp_path / "a.mha", ElementSize="9 9 9")
    assert read_volume(path).geometry.spacing == (0.75, 1.25, 2.5)
    path = write_meta(tmp_path / "a.mha", ElementSpacing=None, ElementSize="0.75 1.25 2.5")
    assert read_volume(path).geometry.spacing == (0.75, 1.25, 2.5)


def test_one_point_in_time_is_a_volume_and_two_are_none(tmp_path: Path) -> None:
    nrrd = {"dimension": "4", "kinds": "domain domain domain time"}
    nrrd["space_directions"] = NRRD["space directions"] + " none"
    assert read_volume(write_nrrd(tmp_path / "a.nrrd", sizes="7 6 5 1", **nrrd)).voxels.shape == (5, 6, 7)
    for kind, words in (("time", "it is a series over time"), ("list", "does not state that they are over time")):
        fields = nrrd | {"sizes": "7 6 5 2", "kinds": f"domain domain domain {kind}"}
        with pytest.raises(InputError, match=f"4 dimensions.*{words}. Choose one of its frames"):
            read_volume(write_nrrd(tmp_path / "a.nrrd", VOXELS.tobytes() * 2, **fields))
    four = {"NDims": "4", "TransformMatrix": " ".join(map(str, np.eye(4, dtype=int).ravel())), "Offset": "1 2 3 0"}
    with pytest.raises(InputError, match=r"a\.mha has 4 dimensions, so it holds several images. Save one of them"):
        read_volume(write_meta(tmp_path / "a.mha", ElementSpacing="1 1 1 1", DimSize="7 6 5 2", **four))
    path = write_meta(tmp_path / "a.mha", ElementSpacing="1 1 1 1", DimSize="7 6 5 1", **four)
    assert read_volume(path).geometry.origin == (1, 2, 3)


def segments(path: Path, **changes: str) -> Path:
    """As 3D Slicer saves two segments that were drawn on an image of 9 x 9 x 9 voxels, cropped."""
    pairs = {
        "Segment0_ID": "Segment_1",
        "Segment0_LabelValue": "1",
        "Segmentation_ReferenceImageExtentOffset": "1 2 3",
        "Segmentation_ConversionParameters": "Reference image geometry|" + "1;" * 16 + "0;8;0;8;0;8;|Image|0.5|&",
        "Segmentation_MasterRepresentation": "Binary labelmap",
    } | changes
    labels = np.abs(VOXELS % 3)
    write_nrrd(path, labels.tobytes())
    content = path.read_bytes()
    lines = "".join(f"{name}:={value}\n" for name, value in pairs.items()).encode()
    path.write_bytes(content.replace(b"\n\n", b"\n" + lines + b"\n", 1))
    return path


def test_cropped_segments_are_labels_on_the_image_on_which_they_were_drawn(tmp_path: Path) -> None:
    path = segments(tmp_path / "a.seg.nrrd")
    with pytest.raises(InputError, match="is a segmentation, not an image"):
        read_volume(path)
    voxels, geometry = read_labels(path)
    assert voxels.shape == geometry.shape == (9, 9, 9)
    np.testing.assert_array_equal(voxels[3:8, 2:8, 1:8], np.abs(VOXELS % 3))
    assert np.count_nonzero(voxels) == np.count_nonzero(VOXELS % 3)
    np.testing.assert_allclose((geometry.index_to_world @ [1, 2, 3, 1])[:3], PLACE[:3, 3])
    path = segments(tmp_path / "b.seg.nrrd", Segmentation_ConversionParameters="")
    assert read_labels(path)[0].shape == VOXELS.shape


def test_segments_that_overlap_are_refused_for_what_they_are(tmp_path: Path) -> None:
    path = write_nrrd(
        tmp_path / "a.seg.nrrd",
        VOXELS.tobytes() * 2,
        dimension="4",
        sizes="2 7 6 5",
        kinds="list domain domain domain",
        space_directions="none " + NRRD["space directions"],
    )
    path.write_bytes(path.read_bytes().replace(b"\n\n", b"\nSegment0_ID:=a\n\n", 1))
    with pytest.raises(InputError, match="segments that overlap, in 2 layers"):
        read_labels(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii.gz"])
def test_200_flipped_bits_in_packed_voxels_are_all_noticed(tmp_path: Path, name: str) -> None:
    """The checksum of gzip or zlib is another. Of gzip's own beginning (RFC 1952) the time and system mean nothing, nor
    do the bits between the last block and the checksum.
    """
    path = tmp_path / name
    image = sitk.GetImageFromArray(VOXELS)
    sitk.WriteImage(image, str(path), True)
    whole = path.read_bytes()
    start = {"a.nrrd": whole.find(b"\n\n") + 12, "a.mha": whole.find(b"LOCAL") + 6, "a.nii.gz": 10}[name]
    checksum = len(whole) - (4 if name == "a.mha" else 8)
    places = [at for at in range(start, len(whole)) if at != checksum - 1]
    random = np.random.default_rng(7)
    for at in random.choice(places, 200):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << random.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(InputError, match="cannot be read as an image"):
            read_grid(path)


@pytest.mark.skipif(shutil.which("localedef") is None, reason="only Linux makes a locale at will")
def test_decimal_commas_of_the_user_change_no_number(tmp_path: Path) -> None:
    """In any Qt application of a German user C's functions write 1,25 for 1.25, and read 1 where they find 1.25."""
    made = ["localedef", "-i", "de_DE", "-f", "UTF-8", "--no-archive", str(tmp_path / "de_DE.UTF-8")]
    subprocess.run(made, check=True, capture_output=True)
    nrrd, meta = write_nrrd(tmp_path / "a.nrrd"), write_meta(tmp_path / "a.mha")
    program = f"""
import locale, sys
sys.path.insert(0, {str(LIBRARY)!r})
import numpy as np
from LightSegLib.catalog.card import Label
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.imaging.writers import write_segmentation
locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
assert locale.localeconv()["decimal_point"] == ","
for path in {[str(nrrd), str(meta)]!r}:
    geometry = read_volume(path).geometry
    labels = Segmentation(np.ones(geometry.shape, np.uint8), geometry, (Label(1, "a", (1, 2, 3)),))
    for ending in (".seg.nrrd", ".nii.gz"):
        write_segmentation(labels, path + ending)
"""
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"LOCPATH": str(tmp_path)}, check=True)
    for path in (nrrd, meta):
        np.testing.assert_allclose(read_volume(path).geometry.index_to_world, PLACE)
        for ending in (".seg.nrrd", ".nii.gz"):
            np.testing.assert_allclose(place_by_itk(Path(f"{path}{ending}")), PLACE, atol=1e-6)
