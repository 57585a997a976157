"""The measures of agreement, against shapes whose answer is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.core.errors import InputError
from LightSegLib.evaluation.comparison import evaluate_folders, summarize
from LightSegLib.evaluation.metrics import dice, surface_agreement, surface_area


def box(start: int, size: int = 40, shape: int = 60) -> np.ndarray:
    """A cube of `size` voxels whose first voxel along i is `start`."""
    mask = np.zeros((shape,) * 3, bool)
    mask[10 : 10 + size, 10 : 10 + size, start : start + size] = True
    return mask


def sphere(radius: float, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)]
    return sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) <= radius**2


def test_dice_of_shifted_cubes() -> None:
    assert dice(box(10), box(18)) == pytest.approx(32 / 40)
    assert dice(box(10), box(10)) == 1
    assert dice(box(0, 5), box(30, 5)) == 0
    assert math.isnan(dice(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)))


def test_area_of_a_box_is_exact_between_its_edges() -> None:
    mask = np.zeros((20, 30, 40), bool)
    mask[5:15, 5:20, 5:30] = True  # 10 x 15 x 25 voxels
    area = surface_area(mask, (2.0, 1.0, 0.5))
    # flat corner points only: one row fewer than voxels on each face
    flat = area[6:15, 6:20, [5, 30]].sum() + area[6:15, [5, 20], 6:30].sum() + area[[5, 15], 6:20, 6:30].sum()
    assert flat == pytest.approx(2 * (9 * 14 * 2 * 1 + 9 * 24 * 2 * 0.5 + 14 * 24 * 1 * 0.5))
    # the contour cuts edges and corners half a voxel off
    assert area[5, 5, 10] == pytest.approx(math.hypot(0.5 * 2 * 0.5, 0.5 * 1 * 0.5))
    assert area[5, 5, 5] == pytest.approx(math.hypot(2 * 1, 2 * 0.5, 1 * 0.5) / 8)
    assert area.sum() == pytest.approx(area[5:16, 5:21, 5:31].sum())


def test_area_of_a_sphere() -> None:
    radius, spacing = 12.0, (0.5, 1.0, 0.8)
    area = surface_area(sphere(radius, spacing, (60, 30, 38)), spacing).sum()
    assert area == pytest.approx(4 * math.pi * radius**2, rel=0.1)  # stairs are longer than the slope


def test_cubes_three_millimeters_apart() -> None:
    # 20 mm cubes of 0.5 mm voxels, tolerance t between two grid points. Within t: of the four long faces all but the
    # last 3 mm - t, of the inner end face a rim of t where the other cube's long faces pass, of the outer one nothing.
    t = 1.25
    surface, hd95 = surface_agreement(box(6), box(12), (0.5, 0.5, 0.5), tolerance=t)
    assert hd95 == pytest.approx(3)
    near = 4 * 20 * (20 - 3 + t) + 20**2 - (20 - 2 * t) ** 2
    assert surface == pytest.approx(near / (6 * 20**2), abs=0.003)


def test_distances_follow_the_spacing_of_each_axis() -> None:
    a = np.zeros((40, 40, 40), bool)
    a[10:30, 10:30, 10:30] = True
    for axis, step in enumerate((2.5, 0.5, 1.5)):
        _, hd95 = surface_agreement(a, np.roll(a, 2, axis), (2.5, 0.5, 1.5))
        assert hd95 == pytest.approx(2 * step)


def test_spheres_inside_one_another() -> None:
    spacing, shape = (1.0, 0.5, 0.5), (40, 80, 80)
    inner, outer = sphere(10, spacing, shape), sphere(13, spacing, shape)
    surface, hd95 = surface_agreement(inner, outer, spacing)
    assert surface == 0
    assert hd95 == pytest.approx(3, abs=0.5)
    assert surface_agreement(inner, outer, spacing, tolerance=4)[0] == 1
    assert surface_agreement(outer, inner, spacing) == (surface, hd95)
    assert surface_agreement(inner, inner, spacing) == (1, 0)


def test_hd95_ignores_a_small_outlier_and_sees_a_large_one() -> None:
    a = box(10)
    speck = a.copy()
    speck[30, 30, 58] = True
    assert surface_agreement(a, speck, (1, 1, 1))[1] == 0
    slab = a.copy()
    slab[10:50, 10:50, 57] = True
    assert surface_agreement(a, slab, (1, 1, 1))[1] == 8  # its far face, corner points at 58 and 50


def test_hd95_goes_by_area_and_not_by_points() -> None:
    """Slices 4 mm thick: a point of a horizontal face represents 1 mm^2, one of an upright face for 4.

    A platform of 10 x 10 mm, one slice high, on a block of 10 slices of 20 x 20 mm: its upper face and the upper half
    of its rim, 100 + 80 of about 4160 mm^2, are 4 mm from the block, 121 of about 1700 points.
    """
    block = np.zeros((14, 24, 24), bool)
    block[2:12, 2:22, 2:22] = True
    platform = block.copy()
    platform[12, 7:17, 7:17] = True
    assert surface_agreement(block, platform, (4, 1, 1))[1] == 0


def test_empty_masks() -> None:
    nothing = np.zeros((60, 60, 60), bool)
    assert surface_agreement(nothing, box(10), (1, 1, 1)) == (0, math.inf)
    assert surface_agreement(box(10), nothing, (1, 1, 1)) == (0, math.inf)
    assert all(map(math.isnan, surface_agreement(nothing, nothing, (1, 1, 1))))


@pytest.fixture
def folders(write_image: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """Two cases on a 2 x 1 x 0.5 mm grid; label 2 is missed in the second, label 3 is in neither."""
    geometry = {"spacing": (0.5, 1.0, 2.0)}
    expected = np.zeros((20, 20, 20), np.uint8)
    expected[2:12, 2:12, 2:12] = 1  # 1000 voxels of 1 mm^3
    expected[14:16, 2:12, 2:12] = 2  # 200
    predicted = expected.copy()
    predicted[12, 2:12, 2:12] = 1  # 100 more
    write_image("labels/a.nii.gz", expected, **geometry)
    write_image("labels/b.nii.gz", expected, **geometry)
    write_image("labels/without prediction.nii.gz", expected, **geometry)
    write_image("predictions/a.seg.nrrd", predicted, **geometry)
    write_image("predictions/b.nrrd", np.where(expected == 1, 1, 0).astype(np.uint8), **geometry)
    return tmp_path / "predictions", tmp_path / "labels"


def test_folders_are_compared_case_by_case(folders: tuple[Path, Path]) -> None:
    rows = evaluate_folders(*folders, {1: "one"})
    assert [(row.case, row.label, row.name) for row in rows] == [
        ("a", 1, "one"),
        ("a", 2, "label 2"),
        ("b", 1, "one"),
        ("b", 2, "label 2"),
    ]
    assert rows[0].dice == pytest.approx(2 * 1000 / 2100)
    assert rows[0].hd95_mm == 2
    assert (rows[0].volume_ml, rows[0].volume_difference_ml) == pytest.approx((1.0, 0.1))
    assert (rows[3].dice, rows[3].hd95_mm, rows[3].volume_difference_ml) == pytest.approx((0, math.inf, -0.2))

    one, two = summarize(rows)
    assert (one.cases, one.missed, two.cases, two.missed) == (2, 0, 2, 1)
    assert one.mean["dice"] == pytest.approx((2000 / 2100 + 1) / 2)
    assert one.std["dice"] == pytest.approx((1 - 2000 / 2100) / 2)
    assert two.mean["dice"] == 0.5
    assert two.mean["hd95_mm"] == 0


def test_two_files_can_be_compared(folders: tuple[Path, Path]) -> None:
    rows = evaluate_folders(folders[0] / "b.nrrd", folders[1] / "a.nii.gz")
    assert rows[0].dice == 1


def test_hidden_files_of_macos_are_not_cases(folders: tuple[Path, Path]) -> None:
    """They are beside every file of a USB stick that was in a Mac."""
    before = evaluate_folders(*folders)
    for folder in folders:
        (folder / "._a.nii.gz").write_bytes(b"\0\5\x16\7Mac OS X")
    (folders[0] / ".DS_Store.nrrd").touch()
    assert [row.case for row in evaluate_folders(*folders)] == [row.case for row in before]


def test_a_prediction_without_an_expert_is_refused(folders: tuple[Path, Path]) -> None:
    (folders[0] / "b.nrrd").rename(folders[0] / "c.nrrd")
    with pytest.raises(InputError, match="first is c"):
        evaluate_folders(*folders)


def test_two_files_of_one_case_are_refused_on_either_side(folders: tuple[Path, Path]) -> None:
    """Which of them counts is not known: one would be lost, or the case counted twice."""
    for folder, name, words in (
        (folders[0], "b.nii.gz", r"predictions has two files of the case b, b\.nii\.gz and b\.nrrd\. Keep"),
        (folders[1], "a.nrrd", r"labels has two files of the case a, a\.nii\.gz and a\.nrrd\. Keep"),
    ):
        (folder / name).write_bytes(b"")
        with pytest.raises(InputError, match=words):
            evaluate_folders(*folders)
        (folder / name).unlink()


def test_grids_of_one_size_differ_in_their_place(write_image: Callable[..., Path]) -> None:
    """Moved by 3 and 4 mm; with slices of 5 in place of 4 mm, ten of which are 10 mm higher."""
    voxels = np.zeros((10, 10, 20), np.uint8)
    voxels[2:5] = 1
    first = write_image("first.nii.gz", voxels, spacing=(4, 4, 4))
    moved = write_image("moved.nii.gz", voxels, spacing=(4, 4, 4), origin=(3, 4, 0))
    with pytest.raises(
        InputError, match="20 x 10 x 10 voxels each, of which the first are 5 mm apart and the farthest 5"
    ):
        evaluate_folders(moved, first)
    thick = write_image("thick.nii.gz", voxels, spacing=(4, 4, 5))
    with pytest.raises(InputError, match="the first are 0 mm apart and the farthest 10 mm"):
        evaluate_folders(thick, first)


def test_files_that_do_not_compare_are_refused(
    folders: tuple[Path, Path], write_image: Callable[..., Path], tmp_path: Path
) -> None:
    predictions, labels = folders
    one = np.ones((20, 20, 20), np.uint8)
    for name, voxels, geometry, words in (
        ("shifted", one, {"spacing": (0.5, 1, 2), "origin": (5, 0, 0)}, "same grid"),
        ("smaller", one[:10], {"spacing": (0.5, 1, 2)}, "20 x 20 x 10"),
        ("image", one * np.float32(0.5), {"spacing": (0.5, 1, 2)}, "fractional"),
    ):
        other = write_image(f"{name}.nii.gz", voxels, **geometry)
        with pytest.raises(InputError, match=words):
            evaluate_folders(other, labels / "a.nii.gz")
    with pytest.raises(InputError, match="nowhere does not exist"):
        evaluate_folders(predictions / "nowhere", labels)
    with pytest.raises(InputError, match=r"missing\.nii\.gz does not exist"):
        evaluate_folders(predictions / "b.nrrd", labels / "missing.nii.gz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="does not contain images"):
        evaluate_folders(predictions, tmp_path / "empty")


def test_an_image_is_not_a_label_map(write_image: Callable[..., Path]) -> None:
    """Whichever of the two it is; many labels, high values and thin structures do not make an image of a label map."""
    noise = np.random.default_rng(0).normal(120, 20, (24, 24, 24)).clip(0, 255)
    image = write_image("image.nii.gz", noise.astype(np.uint8))
    numbers = np.arange(12**3).reshape(12, 12, 12) * 18  # pieces of two voxels along each axis
    many = write_image("many.nii.gz", numbers.repeat(2, 0).repeat(2, 1).repeat(2, 2).astype(np.uint16))
    for pair in ((image, many), (many, image)):
        with pytest.raises(InputError, match=r"image\.nii\.gz is an image, not a label map\. Choose"):
            evaluate_folders(*pair)
    some = np.random.default_rng(0).integers(0, 16, (24, 24, 24)).astype(np.uint8)
    assert len(evaluate_folders(write_image("some.nii.gz", some), write_image("same.nii.gz", some))) == 15


def test_names_of_files_come_before_those_of_a_model(folders: tuple[Path, Path]) -> None:
    labels = sitk.ReadImage(str(folders[0] / "a.seg.nrrd"))
    for key, text in {"Segment0_ID": "Segment_2", "Segment0_Name": "Liver", "Segment0_LabelValue": "2"}.items():
        labels.SetMetaData(key, text)
    sitk.WriteImage(labels, str(folders[0] / "a.seg.nrrd"))
    rows = evaluate_folders(folders[0] / "a.seg.nrrd", folders[1] / "a.nii.gz", {1: "Spleen", 2: "Other"})
    assert [row.name for row in rows] == ["Spleen", "Liver"]
    rows = evaluate_folders(folders[1] / "a.nii.gz", folders[0] / "a.seg.nrrd")
    assert [row.name for row in rows] == ["label 1", "Liver"]


def test_an_expert_agrees_with_himself(shared_data: Path) -> None:
    label = next(iter(sorted((shared_data / "hippocampus" / "labels").glob("*.nii.gz"))))
    rows = evaluate_folders(label, label)
    assert [row.label for row in rows] == [1, 2]
    assert all((row.dice, row.surface_dice, row.hd95_mm, row.volume_difference_ml) == (1, 1, 0, 0) for row in rows)
    assert 2 < sum(row.volume_ml for row in rows) < 5
