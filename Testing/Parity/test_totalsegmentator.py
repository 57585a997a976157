"""The same labels as TotalSegmentator's own program, for the same weights and the same file, in full precision.

Each task is one whose surroundings of nnU-Net are of another kind; the weights are random.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from generated_volumes import hounsfield, magnetic_resonance, write
from totalsegmentator_comparison import SideBySide, TotalSegmentator

Compare = Callable[..., SideBySide]

FAST = {"fast": True}


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT of an imaginary body, with thick slices."""
    shape, spacing = (30, 70, 64), (1.7, 1.7, 5.0)
    return write(tmp_path_factory.mktemp("ct") / "ct.nii.gz", hounsfield(shape, spacing), spacing)


@pytest.fixture(scope="module")
def long_ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT of more than what a structure and 20 mm around it take."""
    shape, spacing = (60, 64, 56), (4.0, 4.0, 6.0)
    return write(tmp_path_factory.mktemp("ct") / "long_ct.nii.gz", hounsfield(shape, spacing), spacing)


@pytest.fixture(scope="module")
def mr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MR of an imaginary body, with thick sagittal slices."""
    shape, spacing = (60, 64, 20), (5.0, 1.8, 1.8)
    return write(tmp_path_factory.mktemp("mr") / "mr.nii.gz", magnetic_resonance(shape, spacing), spacing)


@pytest.fixture(scope="module")
def real_ct(shared_data: Path) -> Path:
    return shared_data / "ct" / "ct_abdomen_3mm.nii.gz"


def on_another_grid(image: Path, out: Path, spacing: tuple[float, ...], axes: str = "LPS", tilt: float = 0.0) -> Path:
    """The same CT with other voxels, axes that run in other directions, and tilted about the first by some degrees."""
    source = sitk.ReadImage(str(image))
    turn = sitk.VersorTransform((1.0, 0.0, 0.0), np.deg2rad(tilt))
    grid = sitk.ResampleImageFilter()
    grid.SetReferenceImage(source)
    grid.SetOutputSpacing(spacing)
    sizes = zip(source.GetSize(), source.GetSpacing(), spacing, strict=True)
    grid.SetSize([int(size * own / new) for size, own, new in sizes])
    direction = np.reshape(turn.GetMatrix(), (3, 3)) @ np.reshape(source.GetDirection(), (3, 3))
    grid.SetOutputDirection(direction.ravel().tolist())
    grid.SetDefaultPixelValue(-1000)
    sitk.WriteImage(sitk.DICOMOrient(grid.Execute(source), axes), str(out), True)
    return out


# --- one model -------------------------------------------------------------------------------------


def test_a_generated_ct(compare_whole: Compare, totalsegmentator: TotalSegmentator, ct: Path) -> None:
    card = totalsegmentator.make("total-ct-fast", ct)
    compare_whole("total, fast: generated, 1.7 x 1.7 x 5 mm", card, ct, "total", FAST).check(labels=20)


@pytest.mark.slow
def test_a_ct_with_vertebrae_at_half_a_voxel(
    compare_whole: Compare, totalsegmentator: TotalSegmentator, ct: Path
) -> None:
    card = totalsegmentator.make("vertebrae-body-ct", ct)
    compare_whole("vertebrae_body: generated", card, ct, "vertebrae_body").check(labels=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "grid"),
    [
        ("3 mm, as the model has it", None),
        ("1.9 x 2.3 x 4.1 mm", {"spacing": (1.9, 2.3, 4.1)}),
        ("axes along S, A, L", {"spacing": (2.0, 2.2, 3.7), "axes": "SAL"}),
        ("tilted by 5 degrees", {"spacing": (2.5, 2.5, 2.5), "tilt": 5.0}),
    ],
)
def test_a_real_ct_on_several_grids(
    compare_whole: Compare,
    totalsegmentator: TotalSegmentator,
    real_ct: Path,
    tmp_path: Path,
    case: str,
    grid: dict[str, Any] | None,
) -> None:
    card = totalsegmentator.make("total-ct-fast", real_ct)
    image = real_ct if grid is None else on_another_grid(real_ct, tmp_path / "ct.nii.gz", **grid)
    compare_whole(f"total, fast: {case}", card, image, "total", FAST).check(labels=20)


@pytest.mark.slow
def test_a_small_real_ct(compare_whole: Compare, totalsegmentator: TotalSegmentator, shared_data: Path) -> None:
    image = shared_data / "ct" / "torso_small_3mm.nii.gz"
    compare_whole("total, fast: torso", totalsegmentator.make("total-ct-fast", image), image, "total", FAST).check()


@pytest.mark.slow
def test_a_real_mr(compare_whole: Compare, totalsegmentator: TotalSegmentator, shared_data: Path) -> None:
    image = shared_data / "mr_body_small.nii.gz"
    card = totalsegmentator.make("total-mr-fast", image)
    compare_whole("total_mr, fast", card, image, "total_mr", FAST).check(labels=10)


# --- labels that change after the network ----------------------------------------------------------


@pytest.mark.slow
def test_a_body_whose_trunk_is_one_piece(compare_whole: Compare, totalsegmentator: TotalSegmentator, ct: Path) -> None:
    card = totalsegmentator.make("body-ct-fast", ct)
    compare_whole("body, fast: generated", card, ct, "body", FAST).check(labels=1)


@pytest.mark.slow
def test_vertebrae_that_are_numbered(compare_whole: Compare, totalsegmentator: TotalSegmentator, ct: Path) -> None:
    card = totalsegmentator.make("vertebrae-pp-ct", ct)
    compare_whole("vertebrae_pp: generated", card, ct, "vertebrae_pp").check(labels=5)


# --- several models --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_ct_in_five_parts(compare_whole: Compare, totalsegmentator: TotalSegmentator, ct: Path) -> None:
    compare_whole("total in five parts: generated", totalsegmentator.make("total-ct", ct), ct, "total").check(labels=20)


@pytest.mark.slow
def test_an_mr_in_two_parts(compare_whole: Compare, totalsegmentator: TotalSegmentator, mr: Path) -> None:
    card = totalsegmentator.make("total-mr", mr)
    compare_whole("total_mr in two parts: generated", card, mr, "total_mr").check(labels=10)


@pytest.mark.slow
def test_some_structures_of_a_ct(compare_whole: Compare, totalsegmentator: TotalSegmentator, ct: Path) -> None:
    wanted = ("liver", "spleen")
    card = totalsegmentator.make("total-ct", ct, wanted)
    compare_whole(
        "total, liver and spleen: generated", card, ct, "total", {"roi_subset": list(wanted)}, {"structures": wanted}
    ).check(labels=2, share=0.003)  # two organs are a small part of a body


@pytest.mark.slow
def test_some_structures_of_an_mr(compare_whole: Compare, totalsegmentator: TotalSegmentator, mr: Path) -> None:
    wanted = ("liver", "spleen")
    card = totalsegmentator.make("total-mr", mr, wanted)
    compare_whole(
        "total_mr, liver and spleen: generated",
        card,
        mr,
        "total_mr",
        {"roi_subset": list(wanted)},
        {"structures": wanted},
    ).check(labels=2, share=0.003)


# --- a crop by another model -----------------------------------------------------------------------


@pytest.mark.slow
def test_vessels_within_a_rough_liver(
    compare_whole: Compare, totalsegmentator: TotalSegmentator, long_ct: Path
) -> None:
    card = totalsegmentator.make("liver-vessels-ct", long_ct, ("liver",))
    found = compare_whole("liver_vessels: generated", card, long_ct, "liver_vessels")
    found.check(labels=1)
    inside = sitk.GetArrayFromImage(found.exact).any(axis=(1, 2))
    assert not inside.all(), "the crop should be a part of the image"


@pytest.mark.slow
def test_muscles_in_two_parts_within_a_rough_neck(
    compare_whole: Compare, totalsegmentator: TotalSegmentator, ct: Path
) -> None:
    card = totalsegmentator.make("headneck-muscles-ct", ct, ("clavicula_left", "vertebrae_C1"))
    compare_whole("headneck_muscles in two parts: generated", card, ct, "headneck_muscles").check(labels=5)
