"""The same answer as nnU-Net's own program, for the same model folder and the same files, in full precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from comparison import EQUAL_VOXELS, Comparison, lightseg_answer, same_grid
from generated_volumes import OBLIQUE, hounsfield, magnetic_resonance, write
from nnunet_models import DATASET, OLD_ARCHITECTURE
from trained_models import RESIDUAL_UNET, UNET_2D, complete_plans, write_trained_model

Compare = Callable[..., Comparison]

ISOTROPIC = complete_plans(spacing=[4.0, 4.0, 4.0], patch_size=[40, 40, 40])
Z_SCORE = {"normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False]}
MR = {**DATASET, "channel_names": {"0": "MRI"}}


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An isotropic CT on an oblique grid."""
    shape, spacing = (60, 72, 64), (3.0, 3.0, 3.0)
    path = tmp_path_factory.mktemp("ct") / "ct.nii.gz"
    return write(path, hounsfield(shape, spacing), spacing, direction=OBLIQUE)


@pytest.fixture(scope="module")
def ct_model(ct: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two folds for isotropic CT."""
    return write_trained_model(tmp_path_factory.mktemp("model"), ISOTROPIC, DATASET, [ct], folds=(0, 1))


@pytest.fixture
def mr(tmp_path: Path) -> Path:
    """An MR with thick axial slices."""
    shape, spacing = (20, 72, 64), (1.0, 1.0, 5.0)
    return write(tmp_path / "mr.nii.gz", magnetic_resonance(shape, spacing), spacing)


# --- whole volumes of one kind ---------------------------------------------------------------------


def test_an_isotropic_ct(compare: Compare, ct: Path, ct_model: Path) -> None:
    compare("isotropic CT", ct_model, [ct]).check()


def test_a_real_isotropic_ct(compare: Compare, shared_data: Path, tmp_path: Path) -> None:
    image = shared_data / "ct" / "ct_abdomen_3mm.nii.gz"
    model = write_trained_model(tmp_path, ISOTROPIC, DATASET, [image])
    compare("isotropic CT, real", model, [image]).check()


def test_an_mr_with_thick_slices(compare: Compare, mr: Path, tmp_path: Path) -> None:
    plans = complete_plans(spacing=[4.0, 1.25, 1.2], patch_size=[16, 32, 32], **Z_SCORE)
    compare("anisotropic MR", write_trained_model(tmp_path, plans, MR, [mr]), [mr]).check()


def test_a_real_mr_with_thick_coronal_slices_that_are_brought_to_the_front(
    compare: Compare, shared_data: Path, tmp_path: Path
) -> None:
    every_fourth = sitk.ReadImage(str(shared_data / "mr_body_small.nii.gz"))[:, ::4, :]
    sitk.WriteImage(every_fourth, str(tmp_path / "mr.nii.gz"))
    plans = complete_plans(transpose=(1, 0, 2), spacing=[9.0, 3.5, 2.5], patch_size=[16, 16, 40], **Z_SCORE)
    compare(
        "anisotropic MR, real, coronal",
        write_trained_model(tmp_path, plans, MR, [tmp_path / "mr.nii.gz"]),
        [tmp_path / "mr.nii.gz"],
    ).check()


def test_an_mr_with_thick_sagittal_slices_that_are_brought_to_the_front(compare: Compare, tmp_path: Path) -> None:
    shape, spacing = (60, 64, 18), (5.0, 1.1, 1.0)
    image = write(tmp_path / "mr.nii.gz", magnetic_resonance(shape, spacing), spacing, direction=OBLIQUE)
    plans = complete_plans(transpose=(2, 0, 1), spacing=[4.0, 1.3, 1.2], patch_size=[16, 32, 32], **Z_SCORE)
    compare("anisotropic MR, sagittal", write_trained_model(tmp_path, plans, MR, [image]), [image]).check()


def test_a_coarse_axis_that_stays_last_and_along_which_images_are_interpolated_linearly(
    compare: Compare, tmp_path: Path
) -> None:
    shape, spacing = (60, 64, 18), (5.0, 1.1, 1.0)
    image = write(tmp_path / "mr.nii.gz", magnetic_resonance(shape, spacing), spacing)
    plans = complete_plans(
        spacing=[1.2, 1.3, 4.0],
        patch_size=[32, 32, 16],
        resampling_fn_data_kwargs={"is_seg": False, "order": 3, "order_z": 1, "force_separate_z": True},
        **Z_SCORE,
    )
    compare("coarse axis last, linear there", write_trained_model(tmp_path, plans, MR, [image]), [image]).check()


def test_a_target_that_alone_is_anisotropic(compare: Compare, tmp_path: Path) -> None:
    shape, spacing = (36, 64, 60), (1.0, 1.0, 2.0)
    image = write(tmp_path / "mr.nii.gz", magnetic_resonance(shape, spacing), spacing)
    plans = complete_plans(spacing=[4.5, 1.2, 1.3], patch_size=[16, 32, 32], **Z_SCORE)
    compare("anisotropic target", write_trained_model(tmp_path, plans, MR, [image]), [image]).check()


def test_an_image_smaller_than_the_patch(compare: Compare, tmp_path: Path) -> None:
    shape, spacing = (21, 60, 26), (3.0, 3.0, 3.0)
    image = write(tmp_path / "ct.nii.gz", hounsfield(shape, spacing), spacing)
    plans = complete_plans(spacing=[3.2, 3.1, 2.9], patch_size=[32, 32, 40])
    compare("smaller than the patch", write_trained_model(tmp_path, plans, DATASET, [image]), [image]).check()


def test_an_image_of_other_axes_for_a_network_that_sees_all_in_ras(compare: Compare, ct: Path, tmp_path: Path) -> None:
    """Programs such as MOOSE turn the image to RAS for nnU-Net, and the labels back."""
    stored = sitk.ReadImage(str(ct))
    plans = complete_plans(spacing=[3.7, 4.4, 4.0], patch_size=[32, 40, 40])
    files = {axes: tmp_path / f"{axes}.nii.gz" for axes in ("RAS", "PSL")}
    for axes, file in files.items():
        sitk.WriteImage(sitk.DICOMOrient(stored, axes), str(file))
    model = write_trained_model(tmp_path, plans, DATASET, [files["RAS"]])
    theirs = compare("turned to RAS", model, [files["RAS"]])
    theirs.check()
    ours = lightseg_answer(model, (0,), [files["PSL"]], tmp_path / "ours", orientation="RAS")
    assert same_grid(ours.labels, sitk.ReadImage(str(files["PSL"])))
    turned = sitk.GetArrayFromImage(sitk.DICOMOrient(ours.labels, "RAS"))
    assert (turned == theirs.exact.voxels).mean() >= EQUAL_VOXELS


# --- channels and labels ---------------------------------------------------------------------------


def test_overlapping_regions_from_two_channels_cropped_and_normalized_where_they_are_not_zero(
    compare: Compare, tmp_path: Path
) -> None:
    shape, spacing = (60, 64, 56), (1.5, 1.5, 1.5)
    images = []
    for channel, size in enumerate((0.6, 0.75)):
        voxels = magnetic_resonance(shape, spacing, seed=channel, size=size)
        voxels[28:34, 30:36, 26:32] = 0  # inside the head, so not outside of the mask
        images.append(write(tmp_path / f"channel {channel}.nii.gz", voxels, spacing))
    plans = complete_plans(
        spacing=[1.7, 1.6, 1.8],
        patch_size=[32, 32, 32],
        normalization_schemes=["ZScoreNormalization"] * 2,
        use_mask_for_norm=[True, True],
    )
    dataset = {
        **DATASET,
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]},
        "regions_class_order": [1, 2, 3],
    }
    compare("two channels, regions, mask", write_trained_model(tmp_path, plans, dataset, images), images).check()


def test_labels_with_an_ignored_one_and_images_that_are_reoriented_and_rescaled(
    compare: Compare, tmp_path: Path
) -> None:
    shape, spacing = (50, 60, 56), (2.0, 1.8, 2.2)
    first = magnetic_resonance(shape, spacing)
    second = (magnetic_resonance(shape, spacing, seed=1) / 1000).astype(np.float32)
    images = [
        write(tmp_path / f"{number}.nii.gz", voxels, spacing, direction=OBLIQUE)
        for number, voxels in enumerate((first, second))
    ]
    plans = complete_plans(
        image_reader_writer="SimpleITKIOWithReorient",
        spacing=[2.1, 2.0, 2.3],
        patch_size=[32, 32, 32],
        normalization_schemes=["RescaleTo01Normalization", "NoNormalization"],
        use_mask_for_norm=[False, False],
    )
    labels = {"background": 0, "liver": 1, "tumor": 2, "ignore": 3}
    dataset = {**DATASET, "channel_names": {"0": "T1", "1": "T2"}, "labels": labels}
    compare("ignore label, reoriented, 0 to 1", write_trained_model(tmp_path, plans, dataset, images), images).check()


# --- configurations, networks and folds ------------------------------------------------------------


def test_an_ensemble_of_two_folds(compare: Compare, ct: Path, ct_model: Path) -> None:
    compare("two folds", ct_model, [ct], folds=(0, 1)).check()


def test_flips_are_averaged_when_asked_for(compare: Compare, ct: Path, ct_model: Path) -> None:
    compare("mirrored", ct_model, [ct], mirror=True).check()


def test_the_2d_configuration_with_and_without_flips(compare: Compare, mr: Path, tmp_path: Path) -> None:
    plans = complete_plans("2d", spacing=[1.25, 1.2], patch_size=[40, 32], architecture=UNET_2D, **Z_SCORE)
    model = write_trained_model(tmp_path, plans, MR, [mr])
    compare("2D", model, [mr]).check()
    compare("2D, mirrored", model, [mr], mirror=True).check()


def test_the_low_resolution_of_plans_from_before_nnunet_2_4(compare: Compare, ct: Path, tmp_path: Path) -> None:
    sizes = {**OLD_ARCHITECTURE, "UNet_base_num_features": 8, "unet_max_num_features": 12}
    plans = complete_plans("3d_lowres", old=True, spacing=[5.0, 4.5, 4.5], patch_size=[24, 32, 32], **sizes)
    compare("3d_lowres, old plans", write_trained_model(tmp_path, plans, DATASET, [ct]), [ct]).check()


def test_a_residual_encoder_and_resampling_by_torch(compare: Compare, mr: Path, tmp_path: Path) -> None:
    arguments = {"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False}
    plans = complete_plans(
        spacing=[4.0, 1.25, 1.2],
        patch_size=[16, 32, 32],
        architecture=RESIDUAL_UNET,
        **{
            f"resampling_fn_{kind}{suffix}": value
            for kind in ("data", "probabilities")
            for suffix, value in (("", "resample_torch_fornnunet"), ("_kwargs", arguments))
        },
        **Z_SCORE,
    )
    compare("residual encoder, torch resampling", write_trained_model(tmp_path, plans, MR, [mr]), [mr]).check()


def test_a_model_that_takes_images_as_they_are(compare: Compare, ct: Path, tmp_path: Path) -> None:
    functions = {f"resampling_fn_{kind}": "no_resampling_hack" for kind in ("data", "probabilities")}
    kwargs = {f"{name}_kwargs": {} for name in functions}
    plans = complete_plans(spacing=[4.0, 4.0, 4.0], patch_size=[28, 32, 32], **functions, **kwargs)
    compare("no resampling", write_trained_model(tmp_path, plans, DATASET, [ct]), [ct]).check()
