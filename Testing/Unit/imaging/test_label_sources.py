"""Labels from DICOM segmentations and structures: beside a label map, beside each other, and as a region."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import slices, world, write
from LightSegLib.catalog.card import Label
from LightSegLib.cli import main as cli
from LightSegLib.core.errors import InputError
from LightSegLib.evaluation.comparison import evaluate_folders
from LightSegLib.imaging.dicom_structures import within
from LightSegLib.imaging.geometry import Geometry, triple
from LightSegLib.imaging.label_sources import read_label_pair, read_volumes_ml, region_of
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.imaging.writers import source_of, write_segmentation
from rt_structures import structures
from scipy.spatial.transform import Rotation

LABELS = (Label(3, "Liver", (1, 2, 3)), Label(9, "Spleen", (4, 5, 6)))


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return read_volume(write(tmp_path / "series", slices()))


def labels_of(volume: Volume) -> np.ndarray:
    voxels = np.zeros(volume.geometry.shape, np.uint8)
    voxels[3:6, 4:9, 2:8] = 3
    voxels[8, 12:15, 10:13] = 9
    return voxels


def save(path: Path, voxels: np.ndarray, volume: Volume) -> Path:
    write_segmentation(Segmentation(voxels, volume.geometry, LABELS), path, source_of(path, volume))
    return path


def square(k: int, low: float, high: float) -> np.ndarray:
    """A square on slice k from column and row `low` to `high`."""
    data = slices()[k]
    return np.array([world(data, *corner) for corner in ((low, low), (high, low), (high, high), (low, high))])


# --- segmentations -----------------------------------------------------------------------------


def test_a_segmentation_is_compared_with_a_label_map(volume: Volume, tmp_path: Path) -> None:
    """Although it lacks the slices without labels, and numbers its segments from 1 on."""
    voxels = labels_of(volume)
    shifted = np.roll(voxels, 1, axis=2)
    for pair in ((tmp_path / "a.dcm", tmp_path / "b.nii.gz"), (tmp_path / "b.nii.gz", tmp_path / "a.dcm")):
        save(pair[0], voxels, volume)
        save(pair[1], shifted, volume)
        rows = evaluate_folders(*pair)
        assert [(row.label, row.name) for row in rows] == [(3, "Liver"), (9, "Spleen")]
        assert rows[0].dice == pytest.approx(5 / 6) and rows[1].dice == pytest.approx(2 / 3)
        assert rows[0].volume_ml == pytest.approx(90 * volume.geometry.voxel_volume_ml)


def test_two_segmentations_with_different_slices_are_compared(volume: Volume, tmp_path: Path) -> None:
    voxels = labels_of(volume)
    other = np.roll(voxels, 2, axis=0)
    rows = evaluate_folders(save(tmp_path / "a.dcm", voxels, volume), save(tmp_path / "b.dcm", other, volume))
    same = evaluate_folders(save(tmp_path / "a.nrrd", voxels, volume), save(tmp_path / "b.nrrd", other, volume))
    assert [(row.dice, row.hd95_mm, row.volume_ml) for row in rows] == [
        (row.dice, row.hd95_mm, row.volume_ml) for row in same
    ]


@pytest.mark.parametrize("ending", ["dcm", "seg.nrrd", "nii.gz"])
def test_the_volumes_of_a_file_have_the_names_of_its_labels(volume: Volume, tmp_path: Path, ending: str) -> None:
    """Also where someone drew a structure that the model does not know; NIfTI has no names of its own."""
    voxels, one = labels_of(volume), volume.geometry.voxel_volume_ml
    ml = read_volumes_ml(save(tmp_path / f"a.{ending}", voxels, volume), {3: "Liver"})
    assert ml == pytest.approx({"Liver": 90 * one, "label 9" if ending == "nii.gz" else "Spleen": 9 * one})


def test_folders_are_paired_by_name(volume: Volume, tmp_path: Path) -> None:
    for name in ("predictions", "labels"):
        (tmp_path / name).mkdir()
    save(tmp_path / "predictions" / "case.dcm", labels_of(volume), volume)
    save(tmp_path / "labels" / "case.nii.gz", labels_of(volume), volume)
    (tmp_path / "predictions" / "notes.txt").write_text("nothing")
    rows = evaluate_folders(tmp_path / "predictions", tmp_path / "labels")
    assert [(row.case, row.dice) for row in rows] == [("case", 1), ("case", 1)]


def test_a_segmentation_of_slices_that_are_not_there(volume: Volume, tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", labels_of(volume), volume)
    geometry = volume.geometry
    short = Geometry((8, *geometry.shape[1:]), geometry.spacing, geometry.origin, geometry.direction)
    save_plain(tmp_path / "short.nii.gz", np.zeros(short.shape, np.uint8), short)
    between = Geometry(geometry.shape, geometry.spacing, (0, 0, 0.7), geometry.direction)
    save_plain(tmp_path / "between.nii.gz", np.zeros(between.shape, np.uint8), between)
    for other in ("short.nii.gz", "between.nii.gz"):
        with pytest.raises(InputError, match=rf"a\.dcm has labels on slices or voxels that {other} does not have"):
            read_label_pair(path, tmp_path / other)


def save_plain(path: Path, voxels: np.ndarray, geometry: Geometry) -> None:
    write_segmentation(Segmentation(voxels, geometry, LABELS), path)


def test_uneven_slices_cannot_be_compared(tmp_path: Path) -> None:
    heights = np.cumsum(np.where(np.arange(12) < 6, 1.0, 1.7))
    volume = read_volume(write(tmp_path / "series", slices(position=lambda k: (0, 0, heights[k]))))
    voxels = np.ones(volume.geometry.shape, np.uint8) * 3
    path = save(tmp_path / "a.dcm", voxels, volume)
    with pytest.raises(InputError, match="are not evenly above one another"):
        read_label_pair(path, path)


def spoiled(path: Path, kind: str) -> None:
    data = pydicom.dcmread(path)
    if kind == "fewer positions than frames":
        data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:2]
    elif kind == "undescribed segment":
        data.SegmentSequence = data.SegmentSequence[:1]
    elif kind == "no position":
        del data.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    elif kind == "overlap":
        for group in data.PerFrameFunctionalGroupsSequence[2:]:
            group.PlanePositionSequence = data.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
        data.PixelData = b"\xff" * len(data.PixelData)
    elif kind == "cut":
        data.PixelData = data.PixelData[:20]
    data.save_as(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("fewer positions than frames", "it has 4 frames, but gives a position for 2 of them"),
        ("undescribed segment", "it has a frame of segment 2, which it does not describe"),
        ("no position", "a frame has no valid ImagePositionPatient"),
        ("overlap", "has segments that overlap"),
        ("cut", "it cannot be read"),
    ],
)
def test_segmentations_that_cannot_be_used(volume: Volume, tmp_path: Path, kind: str, words: str) -> None:
    path = save(tmp_path / "a.dcm", labels_of(volume), volume)
    spoiled(path, kind)
    with pytest.raises(InputError, match=words) as refused:
        region_of(path)
    assert "P1" not in str(refused.value)


# --- structures --------------------------------------------------------------------------------


def test_structures_are_compared_with_a_label_map(volume: Volume, tmp_path: Path) -> None:
    """A square with a hole, on two slices, and another one."""
    contours = {
        "Liver": [square(3, 1.5, 9.5), square(3, 3.5, 5.5), square(4, 1.5, 9.5)],
        "Spleen": [square(7, 10.5, 13.5)],
    }
    path = structures(tmp_path, contours)
    voxels = np.zeros(volume.geometry.shape, np.uint8)
    voxels[3:5, 2:10, 2:10] = 1
    voxels[3, 4:6, 4:6] = 0
    voxels[7, 11:14, 11:14] = 2
    for name in ("labels.nii.gz", "labels.nrrd"):
        write_segmentation(
            Segmentation(voxels, volume.geometry, (Label(1, "a", (0, 0, 0)), Label(2, "b", (0, 0, 0)))), tmp_path / name
        )
        rows = evaluate_folders(path, tmp_path / name)
        assert [(row.name, row.dice) for row in rows] == [("Liver", 1), ("Spleen", 1)]


def test_structures_that_do_not_fit(volume: Volume, tmp_path: Path) -> None:
    plain = save(tmp_path / "labels.seg.nrrd", labels_of(volume), volume)
    off = square(3, 1.5, 9.5) + np.array([0, 0, 0.7])
    with pytest.raises(InputError, match="has contours on slices that labels"):
        read_label_pair(plain, structures(tmp_path, {"Liver": [off]}))
    both = {"Liver": [square(3, 1.5, 9.5)], "Spleen": [square(3, 0.5, 12.5)]}
    with pytest.raises(InputError, match="has structures that overlap"):
        read_label_pair(plain, structures(tmp_path, both))
    with pytest.raises(InputError, match="have no grid of a whole image in common"):
        read_label_pair(save(tmp_path / "a.dcm", labels_of(volume), volume), tmp_path / "structures.dcm")
    with pytest.raises(InputError, match="it has no closed contours"):
        region_of(structures(tmp_path, {}))


def test_contours_without_an_area_and_contours_given_twice_change_nothing(volume: Volume, tmp_path: Path) -> None:
    """Planning systems leave single points and lines behind, also where one structure was edited twice."""
    liver = [square(3, 1.5, 9.5), square(4, 1.5, 9.5)]
    labels = save(tmp_path / "labels.seg.nrrd", labels_of(volume), volume)
    expected = read_label_pair(structures(tmp_path, {"Liver": liver}), labels).first.copy()
    assert np.count_nonzero(expected) == 2 * 8 * 8
    for extra in (
        liver[0][:1] + 0.37,
        liver[0][:2] + 0.37,
        liver[0][[0, 1, 0]] + 0.37,
        liver[0],
        liver[1][[2, 1, 0, 3]],
    ):
        found = read_label_pair(structures(tmp_path, {"Liver": [*liver, extra]}), labels).first
        np.testing.assert_array_equal(found, expected)
    far_away = structures(tmp_path, {"Liver": [*liver, liver[0][:1] + 50]})
    assert region_of(far_away).slices(volume.geometry)[0] == slice(3, 5)
    with pytest.raises(InputError, match="it has no closed contours"):
        region_of(structures(tmp_path, {"Liver": [liver[0][:2]]}))


def test_a_narrow_contour_is_on_the_slice_of_the_others(volume: Volume, tmp_path: Path) -> None:
    """Less wide than the slices' rounding, it would otherwise be taken for one along another axis."""
    narrow = square(4, 3, 8.6)
    narrow[:, 0] = narrow[:, 0].mean() + 0.02 * np.sign(narrow[:, 0] - narrow[:, 0].mean())
    narrow[0, 2] += 0.1  # mm, a fifteenth of a slice
    labels = save(tmp_path / "labels.seg.nrrd", labels_of(volume), volume)
    found = read_label_pair(structures(tmp_path, {"Liver": [square(3, 1.5, 9.5), narrow]}), labels).first
    assert np.count_nonzero(found[3]) == 64 and np.count_nonzero(found) == 64  # it has no voxel's center inside


def test_pixels_in_a_polygon_are_those_that_matplotlib_finds() -> None:
    from matplotlib.path import Path as Outline

    random = np.random.default_rng(0)
    j, i = np.mgrid[:30, :40]
    for _ in range(20):
        polygon = random.uniform(-5, 45, (12, 2))  # with crossings, partly outside
        turns = np.array([_windings(polygon, point) for point in np.c_[i.ravel(), j.ravel()]])
        np.testing.assert_array_equal(within(polygon, (30, 40)), (turns % 2 == 1).reshape(30, 40))
    convex = np.array([[3.2, 4.1], [30.7, 6.3], [25.4, 28.2], [5.5, 20.9]])
    expected = Outline(convex).contains_points(np.c_[i.ravel(), j.ravel()]).reshape(30, 40)
    np.testing.assert_array_equal(within(convex, (30, 40)), expected)


def _windings(polygon: np.ndarray, point: np.ndarray) -> int:
    """Turns of the polygon around a point, by the sum of angles."""
    away = polygon - point
    angles = np.arctan2(away[:, 1], away[:, 0])
    steps = np.diff(np.append(angles, angles[0]))
    return round(float(((steps + np.pi) % (2 * np.pi) - np.pi).sum() / (2 * np.pi)))


# --- a region ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.dcm", "a.nii.gz", "a.seg.nrrd"])
def test_a_region_is_the_box_around_the_labels(volume: Volume, tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, labels_of(volume), volume)
    assert region_of(path).slices(volume.geometry) == (slice(3, 9), slice(4, 15), slice(2, 13))
    save(path, np.zeros(volume.geometry.shape, np.uint8), volume)
    with pytest.raises(InputError, match="has no labels, so it is not a region"):
        region_of(path)


def test_a_region_of_structures(volume: Volume, tmp_path: Path) -> None:
    path = structures(tmp_path, {"Liver": [square(3, 2, 9), square(5, 3, 7)]})
    assert region_of(path).slices(volume.geometry) == (slice(3, 6), slice(2, 10), slice(2, 10))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.seg.nrrd"])
def test_a_region_of_labels_of_the_same_image_is_exact_whatever_its_grid(tmp_path: Path, name: str) -> None:
    """NIfTI holds positions as float32, so that they are a little beside those of the image."""
    box = (slice(10, 20), slice(15, 30), slice(20, 45))
    for seed in range(12):
        random = np.random.default_rng(seed)
        turned = Rotation.from_euler("xyz", random.uniform(-15, 15, 3), degrees=True).as_matrix()
        spacing, origin = triple(random.uniform(0.4, 3, 3)), triple(random.uniform(-250, 250, 3))
        geometry = Geometry((24, 31, 46), spacing, origin, tuple(map(float, turned.ravel())))
        voxels = np.zeros(geometry.shape, np.uint8)
        voxels[box] = 3
        save_plain(tmp_path / name, voxels, geometry)
        assert region_of(tmp_path / name).slices(geometry) == box


def test_a_region_of_thick_slices_covers_all_of_them(tmp_path: Path) -> None:
    """Slices of 5 mm, numbered from 0 at 0 mm: slice 5 covers 22.5 to 27.5 mm, slices 5 to 7 cover 22.5 to 37.5 mm."""
    axial = (slice(0, 40), slice(0, 40))
    for last, fine, thick in ((5, slice(23, 28), slice(8, 10)), (7, slice(23, 38), slice(8, 13))):
        voxels = np.zeros((20, 40, 40), np.uint8)
        voxels[5 : last + 1] = 3
        save_plain(tmp_path / "a.nrrd", voxels, Geometry(voxels.shape, (1, 1, 5)))
        region = region_of(tmp_path / "a.nrrd")
        assert region.slices(Geometry((100, 40, 40))) == (fine, *axial)
        assert region.slices(Geometry((34, 40, 40), (1, 1, 3))) == (thick, *axial)


def test_a_region_between_two_slices_is_not_called_outside(tmp_path: Path) -> None:
    voxels = np.zeros((20, 40, 40), np.uint8)
    voxels[3] = 3
    save_plain(tmp_path / "a.nrrd", voxels, Geometry(voxels.shape))
    with pytest.raises(InputError, match="is thinner than a voxel and has no voxel's center inside"):
        region_of(tmp_path / "a.nrrd").slices(Geometry((10, 40, 40), (1, 1, 5)))
    with pytest.raises(InputError, match="is outside the volume"):
        region_of(tmp_path / "a.nrrd").slices(Geometry((10, 40, 40), (1, 1, 5), (0, 0, 50)))


def test_a_region_of_contours_with_rounded_coordinates_has_all_their_slices(tmp_path: Path) -> None:
    """Planning systems write two decimals; the slices are at -312.345, -311.095, ... mm."""
    heights = -312.345 + 1.25 * np.arange(12)
    volume = read_volume(write(tmp_path / "series", slices(position=lambda k: (0, 0, heights[k]))))
    corners = [(1.0, 2.0), (9.0, 2.0), (9.0, 8.0), (1.0, 8.0)]
    drawn = [np.array([(x, y, z) for x, y in corners]).round(2) for z in heights[3:9]]
    assert region_of(structures(tmp_path, {"Liver": drawn})).slices(volume.geometry)[0] == slice(3, 9)


def test_a_region_of_oblique_contours_with_rounded_coordinates_covers_half_a_slice_beyond(tmp_path: Path) -> None:
    """Slices of 3 mm, turned by 20 degrees, with a kidney on either side; the file has one decimal."""
    turned = Rotation.from_euler("xyz", (20, 5, 0), degrees=True).as_matrix()
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = 15 * np.c_[np.cos(angle), np.sin(angle), np.zeros(24)]
    places = {name: [(x, 7, 3 * k) for k in range(6)] for name, x in (("Kidney_L", 60), ("Kidney_R", -60))}
    kidneys = {name: [np.add(circle, place) @ turned.T for place in own] for name, own in places.items()}
    rounded = {name: [points.round(1) for points in contours] for name, contours in kidneys.items()}
    corners = region_of(structures(tmp_path, rounded)).corners
    points, beyond = np.concatenate([*kidneys["Kidney_L"], *kidneys["Kidney_R"]]), 1.5 * np.abs(turned[:, 2])
    np.testing.assert_allclose(corners.min(axis=0), points.min(axis=0) - beyond, atol=0.15)
    np.testing.assert_allclose(corners.max(axis=0), points.max(axis=0) + beyond, atol=0.15)


def test_a_region_of_a_segmentation_on_one_slice(volume: Volume, tmp_path: Path) -> None:
    """Also where the file does not state how far slices are apart."""
    voxels = np.zeros(volume.geometry.shape, np.uint8)
    voxels[4, 3:7, 2:9] = 3
    path = save(tmp_path / "a.dcm", voxels, volume)
    box = (slice(4, 5), slice(3, 7), slice(2, 9))
    assert region_of(path).slices(volume.geometry) == box
    data = pydicom.dcmread(path)
    del data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    place = data.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    place[2] = round(float(place[2]) + 0.004, 3)  # as rounded
    data.save_as(path)
    assert region_of(path).slices(volume.geometry) == box


def test_a_region_from_a_file_on_the_command_line(
    volume: Volume, tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The result is a DICOM segmentation, whose labels are in the region and on the input's slices alone."""
    region = np.zeros(volume.geometry.shape, np.uint8)
    region[2:9, 3:17, 2:14] = 3
    path = save(tmp_path / "region.dcm", region, volume)
    out = tmp_path / "result.dcm"
    words = ("segment", tmp_path / "series", "--model", tiny_model, "--out", out, "--device", "cpu", "--roi", path)
    assert cli.main([*map(str, words), "--precision", "float32"]) == 0
    data = pydicom.dcmread(out)
    uids = {one.SOPInstanceUID for one in slices()}
    assert {one.ReferencedSOPInstanceUID for one in data.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == uids
    voxels = read_label_pair(out, save(tmp_path / "plain.nrrd", region, volume)).first
    assert not voxels[region == 0].any() and voxels.any()
    assert "P1" not in "".join(capfd.readouterr())
    for wrong in ("1,2,3", str(tmp_path / "missing.dcm")):
        words = ("segment", tmp_path / "series", "--model", tiny_model, "--out", out, "--roi", wrong)
        assert cli.main(list(map(str, words))) == 2
        assert "nor a file" in capfd.readouterr().err


def test_labels_of_another_head_are_no_region_without_a_word(
    tiny_model: Path, write_image: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Their file is far from the image, or beside it by more than half of what is labeled."""
    image = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    head, labels = write_image("head.nii.gz", image), np.ones((20, 20, 20), np.uint8)

    def run(*origin: float) -> tuple[int, str]:
        region = write_image("region.nii.gz", labels, origin=origin)
        words = ("segment", head, "--model", tiny_model, "--out", tmp_path / "out.nrrd", "--overwrite", "--roi", region)
        return cli.main([*map(str, words), "--device", "cpu"]), capfd.readouterr().err

    code, problem = run(0, 0, 500)
    assert code == 2 and "The labels of region.nii.gz are not where head is. Choose labels of this" in problem
    code, notice = run(0, 12, 0)
    assert code == 0 and "60% of the box around the labels of region.nii.gz are outside of head, and" in notice
    for inside in ((0, 0, 0), (0, 2, 0)):
        code, notice = run(*inside)
        assert code == 0 and "outside" not in notice
