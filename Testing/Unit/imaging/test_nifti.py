"""NIfTI files: the place of the voxels and their values are those that nibabel, another reader, finds."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import struct
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.catalog.card import Label
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.nifti import read_nifti
from LightSegLib.imaging.readers import frame_moments, read_grid, read_volume
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.imaging.writers import write_segmentation
from LightSegLib.worker.messages import volume_message, volume_of

RANDOM = np.random.default_rng(18)
VOXELS = RANDOM.integers(-500, 500, (9, 8, 7)).astype(np.int16)  # [i, j, k], as nibabel has them
STEPS = np.diag([0.8, 0.9, 2.5, 1.0])
TURNED = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
SFORM = np.array([[1, 0, 0, -11], [0, 1, 0, 22], [0, 0, 1, 33], [0, 0, 0, 1]]) @ TURNED @ STEPS
QFORM = np.array([[-1, 0, 0, 40], [0, 1, 0, -50], [0, 0, 1, 60], [0, 0, 0, 1]]) @ STEPS

LABELS = (Label(1, "Liver", (1, 2, 3)),)


def save(
    path: Path,
    sform: int = 1,
    qform: int = 1,
    version: type = nib.Nifti1Image,
    matrix: np.ndarray = SFORM,
    other: np.ndarray = QFORM,
) -> Path:
    """matrix, other: those of sform and qform, which are at different places where they are not given."""
    header = version.header_class()
    header.set_data_dtype(VOXELS.dtype)
    header.set_data_shape(VOXELS.shape)
    header.set_sform(matrix, sform)
    header.set_qform(other, qform)
    nib.save(version(VOXELS, None, header), path)  # without an affine, nibabel leaves the codes as they are
    found = nib.load(path).header
    assert (found["sform_code"], found["qform_code"]) == (sform, qform)
    return path


def rewrite(path: Path, offset: int, kind: str, *values: float) -> Path:
    """Change numbers of a header in a file that is not packed."""
    content = bytearray(path.read_bytes())
    struct.pack_into(kind, content, offset, *values)
    path.write_bytes(content)
    return path


def same_places(volume: Volume, path: Path) -> bool:
    """Whether ten voxels are within 0.01 mm of where nibabel puts them."""
    index = RANDOM.integers(0, volume.geometry.shape[::-1], (10, 3))
    ones = np.c_[index, np.ones(10)].T
    ours = (volume.geometry.index_to_world @ ones)[:3]
    theirs = np.diag([-1, -1, 1]) @ (nib.load(path).affine @ ones)[:3]  # RAS to LPS
    return bool(np.abs(ours - theirs).max() < 0.01)


@pytest.mark.parametrize(("sform", "qform"), list(itertools.product(range(5), repeat=2)))
@pytest.mark.parametrize("version", [nib.Nifti1Image, nib.Nifti2Image])
def test_every_combination_of_codes(tmp_path: Path, version: type, sform: int, qform: int) -> None:
    path = save(tmp_path / "a.nii.gz", sform, qform, version)
    volume = read_volume(path)
    assert same_places(volume, path)
    assert np.array_equal(volume.voxels, VOXELS.T)
    assert volume.reading["matrix"] == ("sform" if sform else "qform" if qform else "pixdim")
    words = " ".join(volume.notices)
    assert ("place its voxels up to" in words) == bool(sform and qform)
    assert ("does not define its position" in words) == (not sform and not qform)


def in_slicer(path: Path) -> Geometry:
    """The grid that ITK, by which 3D Slicer reads NIfTI, gives a file."""
    image = sitk.ReadImage(str(path))
    return Geometry(image.GetSize()[::-1], image.GetSpacing(), image.GetOrigin(), image.GetDirection())


@pytest.mark.parametrize(("sform", "qform"), list(itertools.product(range(5), repeat=2)))
@pytest.mark.parametrize("scaled", [False, True])
def test_a_result_lies_on_its_image_in_every_program(tmp_path: Path, sform: int, qform: int, scaled: bool) -> None:
    """Also where programs read the image at different places; scaled: voxels have another size by the sform."""
    matrix = SFORM @ np.diag([1.5, 1.5, 1.5, 1]) if scaled else SFORM
    path = save(tmp_path / "a.nii.gz", sform, qform, matrix=matrix)
    volume = read_volume(path)
    labels = Segmentation((volume.voxels > 0).astype(np.uint8), volume.geometry, LABELS)
    write_segmentation(labels, tmp_path / "result.nii.gz")
    result, image = nib.load(tmp_path / "result.nii.gz"), nib.load(path)
    assert np.array_equal(result.affine, image.affine)
    for name in ("sform_code", "qform_code"):
        assert result.header[name] == image.header[name]
    assert in_slicer(tmp_path / "result.nii.gz").matches(in_slicer(path), 1e-6)
    assert read_grid(tmp_path / "result.nii.gz")[1] == volume.geometry

    write_segmentation(labels, tmp_path / "result.nrrd")
    assert in_slicer(tmp_path / "result.nrrd").matches(volume.geometry, 1e-6)
    beside = not in_slicer(path).matches(volume.geometry, 0.1)
    assert ("are beside the image in 3D Slicer" in " ".join(volume.notices)) == beside


def test_a_sheared_image_that_programs_show_elsewhere_promises_no_result_in_its_place(tmp_path: Path) -> None:
    """It is interpolated onto a grid that no matrix of the file has."""
    sheared = SFORM @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    words = " ".join(read_volume(save(tmp_path / "a.nii.gz", 2, 1, matrix=sheared)).notices)
    assert "onto a grid with right angles" in words and "beside the image in these programs" in words
    assert "in its place in every program" not in words


def test_a_volume_that_goes_to_a_worker_keeps_what_its_file_states(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii.gz", 2, 1))
    message = json.loads(json.dumps(volume_message(volume, tmp_path, 0)))
    assert volume.geometry.nifti is not None
    labels = Segmentation((volume.voxels > 0).astype(np.uint8), volume_of(message).geometry, LABELS)
    write_segmentation(labels, tmp_path / "result.nii.gz")
    assert in_slicer(tmp_path / "result.nii.gz").matches(in_slicer(tmp_path / "a.nii.gz"), 1e-6)


def test_labels_on_another_grid_do_not_take_the_place_of_the_image(tmp_path: Path) -> None:
    geometry = read_volume(save(tmp_path / "a.nii.gz", 2, 1)).geometry
    moved = replace(geometry, origin=(1.0, 2.0, 3.0))
    labels = Segmentation(np.ones(moved.shape, np.uint8), moved, LABELS)
    write_segmentation(labels, tmp_path / "result.nii.gz")
    assert in_slicer(tmp_path / "result.nii.gz").matches(moved, 1e-3)
    assert read_grid(tmp_path / "result.nii.gz")[1].matches(moved, 1e-3)


@pytest.mark.parametrize("version", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("order", "<>")
def test_types_and_byte_orders(tmp_path: Path, version: type, kind: str, order: str) -> None:
    voxels = RANDOM.integers(0, 100, (4, 5, 6)).astype(kind)
    header = version.header_class(endianness=order)
    header.set_data_dtype(order + kind)
    nib.save(version(voxels, SFORM, header), tmp_path / "a.nii")
    found, _ = read_grid(tmp_path / "a.nii")
    assert found.dtype == np.dtype(kind)
    assert found.dtype.isnative
    assert np.array_equal(found, voxels.T)


@pytest.mark.parametrize(
    ("slope", "intercept", "kind"),
    [
        (0.1, -5.0, np.float32),
        (1.0, -1024.0, np.float32),
        (1.0, 0.0, np.int16),
        (0.0, 7.0, np.int16),
        (float("nan"), 0.0, np.int16),
        (float("inf"), 1.0, np.int16),
        (float("nan"), float("nan"), np.int16),
    ],
)
def test_slope_and_intercept(tmp_path: Path, slope: float, intercept: float, kind: type) -> None:
    path = rewrite(save(tmp_path / "a.nii"), 112, "<2f", slope, intercept)
    found, _ = read_grid(path)
    assert found.dtype == kind
    assert np.allclose(found, np.asarray(nib.load(path).dataobj).T, rtol=1e-6)


@pytest.mark.parametrize("intercept", [float("nan"), float("inf")])
def test_a_slope_whose_intercept_was_lost_is_refused(tmp_path: Path, intercept: float) -> None:
    """As nibabel refuses it: a CT would be off by 1024."""
    path = rewrite(save(tmp_path / "a.nii"), 112, "<2f", 1.0, intercept)
    with pytest.raises(InputError, match=rf"the slope of its values, but {intercept} as the intercept"):
        read_volume(path)
    with pytest.raises(nib.spatialimages.HeaderDataError):
        nib.load(path).get_fdata()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_packed_or_not_whatever_its_name(tmp_path: Path, name: str) -> None:
    content = save(tmp_path / "plain.nii").read_bytes()
    (tmp_path / name).write_bytes(content if name.endswith("gz") else gzip.compress(content))
    assert np.array_equal(read_grid(tmp_path / name)[0], VOXELS.T)


def test_a_notice_states_how_far_apart_sform_and_qform_are(tmp_path: Path) -> None:
    moved = SFORM.copy()
    moved[:3, 3] += [12, 16, 0]
    volume = read_volume(save(tmp_path / "a.nii", 2, 1, other=moved))
    apart, slicer = volume.notices
    assert "sform and the qform of a.nii place its voxels up to 20 mm apart. The sform was used" in apart
    assert "show a.nii up to 20 mm from this place, by its qform" in slicer
    known = {"matrix": "sform", "sform_code": 2, "qform_code": 1, "qform_apart_mm": 20.0, "slicer_apart_mm": 20.0}
    assert volume.reading == known | {"voxels_sha256": hashlib.sha256(VOXELS.T.astype("<f4").tobytes()).hexdigest()}


def test_a_notice_states_how_far_the_spacing_is_from_the_only_matrix(tmp_path: Path) -> None:
    """0.5 mm in the matrix, 1 mm in pixdim: the last of 9 x 8 x 7 voxels is at (4, 3.5, 3) or twice that."""
    path = save(tmp_path / "a.nii", 1, 0, matrix=np.diag([0.5, 0.5, 0.5, 1]), other=np.eye(4))
    volume = read_volume(path)
    assert volume.geometry.spacing == (0.5, 0.5, 0.5)
    assert volume.reading["pixdim_apart_mm"] == pytest.approx(np.linalg.norm([4, 3.5, 3]), abs=1e-3)
    assert "sform and the pixdim of a.nii" in volume.notices[0]


def test_rounded_statements_do_not_contradict_each_other(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii", other=SFORM.round(4)))
    assert volume.notices == ()


@pytest.mark.parametrize(("unit", "written", "factor"), [("meter", "meters", 1000.0), ("micron", "micrometers", 0.001)])
def test_units_other_than_millimeters(tmp_path: Path, unit: str, written: str, factor: float) -> None:
    image = nib.Nifti1Image(VOXELS, SFORM)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    geometry = volume.geometry
    assert in_slicer(tmp_path / "a.nii").matches(geometry)
    (notice,) = volume.notices
    assert f"The lengths in a.nii are in {written} and were converted to mm" in notice
    assert np.allclose(geometry.spacing, factor * np.array([0.8, 0.9, 2.5]))
    assert np.allclose(geometry.origin, factor * np.array([11, -22, 33]))


@pytest.mark.parametrize(
    ("step", "units", "words"),
    [
        (1.0, ("mm", None), "it holds 3 images, and does not state that they are over time"),  # contrasts, by nibabel
        (0.0, ("mm", "sec"), "it holds 3 images, and does not state that they are over time"),
        (2.5, ("mm", "sec"), "so it is a series over time"),
    ],
)
def test_several_images_are_over_time_only_where_the_header_states_a_step_and_its_unit(
    tmp_path: Path, step: float, units: tuple[str, str | None], words: str
) -> None:
    """A file of T1, T2 and FLAIR has four dimensions, too, and no times."""
    image = nib.Nifti1Image(RANDOM.random((6, 7, 8, 3)).astype(np.float32), np.eye(4))
    image.header.set_xyzt_units(*units)
    image.header["pixdim"][4] = step
    nib.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=rf"a\.nii\.gz has 4 dimensions.*{words}\. Choose one of its frames"):
        read_volume(tmp_path / "a.nii.gz")
    times = [0, 2500, 5000] if step and units[1] else [None] * 3
    assert [moment.ms for moment in frame_moments(tmp_path / "a.nii.gz")] == times


@pytest.mark.parametrize("row", [[0.0] * 4, [float("nan")] * 4, [1.0, 0.0, 0.0, float("inf")]])
def test_a_matrix_that_places_nothing_is_refused(tmp_path: Path, row: list[float]) -> None:
    path = rewrite(save(tmp_path / "a.nii"), 280, "<4f", *row)
    with pytest.raises(InputError, match=r"The sform of a\.nii is not a valid matrix"):
        read_volume(path)


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (np.zeros((4, 5), np.int16), "2 dimensions"),
        (np.zeros((4, 5, 6, 3), np.int16), "4 dimensions"),
        (np.zeros((4, 5, 6, 1, 3), np.int16), "3 components"),
        (np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "3 components"),
        (np.zeros((4, 5, 6), np.complex64), "not grayscale"),
    ],
)
def test_what_is_not_a_scalar_volume_is_refused(tmp_path: Path, voxels: np.ndarray, words: str) -> None:
    nib.save(nib.Nifti1Image(voxels, SFORM), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=words):
        read_volume(tmp_path / "a.nii.gz")


def test_a_packed_file_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz")
    rewrite(path, path.stat().st_size - 8, "<I", 1)
    with pytest.raises(InputError, match=r"a\.nii\.gz cannot be read as an image \(its checksum does not match"):
        read_nifti(path)


@pytest.mark.parametrize(
    "name",
    [
        "other/cord_t2star_oblique_thick",
        "heads/head_a_t1",
        "heads/head_b_t1",
        "heads/head_t2_oblique",
        "heads/stroke_t1_stripped_oblique",
        "ct/ct_abdomen_3mm",
        "mr_body_small",
        "other/orientations/PIR",
    ],
)
def test_real_files(shared_data: Path, name: str) -> None:
    path = shared_data / f"{name}.nii.gz"
    volume = read_volume(path)
    assert same_places(volume, path)
    assert np.allclose(volume.voxels, np.asarray(nib.load(path).dataobj).T, rtol=1e-6)


@pytest.mark.parametrize("ending", ["hdr", "img"])
def test_a_pair_of_header_and_voxels_is_refused_with_the_remedy(tmp_path: Path, ending: str) -> None:
    """ITK takes another matrix of them than the standard defines."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32))
    sitk.WriteImage(image, str(tmp_path / "a.hdr"))
    with pytest.raises(InputError, match=r"Convert it to a single NIfTI or NRRD"):
        read_volume(tmp_path / f"a.{ending}")


def test_a_nifti_2_that_was_transferred_as_text_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", version=nib.Nifti2Image)
    read_volume(path)
    path.write_bytes(path.read_bytes().replace(b"n+2\0\r\n\x1a\n", b"n+2\0\n\n\x1a\n", 1))
    with pytest.raises(InputError, match="changed where a transfer as text changes a file"):
        read_volume(path)
