"""Plans that are wrong, or ask for what LightSeg cannot do, are refused by the name of the field."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from LightSegLib.core.errors import ModelError
from nnunet_models import OLD_ARCHITECTURE, PLAIN_CONV_UNET, make_plans
from nnunet_settings import read, unet


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"previous_stage": "3d_lowres"}, "second stage of a cascade"),
        ({"preprocessor_name": "MyPreprocessor"}, "preprocessor 'MyPreprocessor'"),
        ({"normalization_schemes": ["MyNormalization"]}, "Channel 0 .* 'MyNormalization'"),
        ({"resampling_fn_data": "my_resampling"}, "resampling_fn_data of the model is 'my_resampling'"),
        # nnU-Net hands it spacings in the place of `is_seg` and `num_threads`, and itself fails to run it
        ({"resampling_fn_data": "resample_torch_simple", "resampling_fn_data_kwargs": {}}, "'resample_torch_simple'"),
        (
            {"resampling_fn_probabilities": "my_resampling"},
            "resampling_fn_probabilities of the model is 'my_resampling'",
        ),
        ({"resampling_fn_data_kwargs": {"order": 2}}, "resampling_fn_data of the model is .*order"),
        ({"resampling_fn_data_kwargs": {"order": True}}, "resampling_fn_data of the model is .*order"),
        ({"resampling_fn_data_kwargs": {"order_z": 2}}, "resampling_fn_data of the model is .*order_z"),
        ({"resampling_fn_data_kwargs": {"is_seg": True}}, "resampling_fn_data of the model is .*is_seg"),
        (
            {"resampling_fn_data_kwargs": {"force_separate_z": "yes"}},
            "resampling_fn_data of the model is .*force_separate_z",
        ),
        ({"resampling_fn_data_kwargs": {"separate_z_anisotropy_threshold": 2}}, "is .*separate_z_anisotropy_threshold"),
        ({"resampling_fn_data_kwargs": {"sigma": 1}}, "resampling_fn_data of the model is .*sigma"),
        (
            {"resampling_fn_data": "resample_torch_fornnunet", "resampling_fn_data_kwargs": {"mode": "bicubic"}},
            "'resample_torch_fornnunet' with the arguments .*bicubic",
        ),
        (
            {
                "resampling_fn_data": "resample_torch_fornnunet",
                "resampling_fn_data_kwargs": {"aniso_axis_mode": "area"},
            },
            "'resample_torch_fornnunet' with the arguments .*area",
        ),
        ({"resampling_fn_data": "no_resampling_hack"}, "'no_resampling_hack' with the arguments .*order"),
        ({"resampling_fn_probabilities_kwargs": {"order": 3}}, "resamples its results with cubic splines"),
        (
            {"resampling_fn_probabilities_kwargs": {"order": 1, "order_z": 3}},
            "resamples its results with cubic splines",
        ),
        ({"architecture": {**PLAIN_CONV_UNET, "network_class_name": "my.package.Mamba"}}, "'my.package.Mamba'"),
        ({"architecture": unet(norm_op="torch.nn.GroupNorm")}, "norm_op = torch.nn.GroupNorm"),
        ({"architecture": unet(norm_op_kwargs={"eps": 1e-5})}, "norm_op_kwargs"),
        ({"architecture": unet(nonlin_kwargs={"approximate": "tanh"})}, "nonlin_kwargs"),
        ({"architecture": unet(squeeze_excitation=True)}, "squeeze_excitation = True"),
    ],
)
def test_what_lightseg_cannot_run_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words + r".*which LightSeg does not support\. Choose another"):
        read(make_plans(**changes))


def test_readers_and_label_managers_of_unknown_behavior_are_named() -> None:
    for field, words in (("image_reader_writer", "images read by 'My'"), ("label_manager", "label manager 'My'")):
        with pytest.raises(ModelError, match=words):
            read({**make_plans(), field: "My"})


@pytest.mark.parametrize("field", ["configurations", "transpose_forward", "image_reader_writer"])
def test_a_field_that_the_plans_lack_is_named(field: str) -> None:
    plans = make_plans()
    del plans[field]
    with pytest.raises(ModelError, match=f"plans.{field} is missing"):
        read(plans)


@pytest.mark.parametrize(
    ("old", "field"),
    [
        *[(False, name) for name in ("patch_size", "spacing", "normalization_schemes", "use_mask_for_norm")],
        *[(False, name) for name in ("resampling_fn_data", "resampling_fn_probabilities")],
        *[(False, name) for name in ("resampling_fn_data_kwargs", "resampling_fn_probabilities_kwargs")],
        *[(True, name) for name in OLD_ARCHITECTURE if name != "num_pool_per_axis"],
    ],
)
def test_a_field_that_the_configuration_lacks_is_named(old: bool, field: str) -> None:
    plans = make_plans(old=old)
    del plans["configurations"]["3d_fullres"][field]
    with pytest.raises(ModelError, match=rf"plans\.configurations\.3d_fullres\.{field} is missing"):
        read(plans)


@pytest.mark.parametrize(
    "field", ["features_per_stage", "strides", "n_conv_per_stage", "conv_bias", "norm_op", "nonlin"]
)
def test_an_argument_that_the_network_lacks_is_named(field: str) -> None:
    architecture = copy.deepcopy(unet())
    del architecture["arch_kwargs"][field]
    with pytest.raises(ModelError, match=rf"3d_fullres\.architecture\.arch_kwargs\.{field} is missing"):
        read(make_plans(architecture=architecture))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spacing": [3.0, "1.5", 1.5]}, r"spacing\[1\] must be a number"),
        ({"spacing": [3.0, 0.0, 1.5]}, r"spacing\[1\] must be at least 0\.0001"),
        ({"normalization_schemes": []}, "normalization_schemes must have one entry per channel, 1 in all"),
        ({"spacing": [1.5, 1.25]}, "spacing must have as many entries as the patch_size"),
        ({"resampling_fn_data_kwargs": [3]}, "resampling_fn_data_kwargs must be a JSON object"),
        ({"patch_size": [8, 16, 15]}, "strides must divide the patch_size 8 x 16 x 15"),
        ({"architecture": unet(strides=[[1, 1, 1]])}, "strides must be a list of 2"),
        ({"architecture": unet(kernel_sizes=[[3, 3], [3, 3]])}, "kernel_sizes must have as many dimensions"),
        ({"architecture": "PlainConvUNet"}, "architecture must be a JSON object"),
        ({"inherits_from": "3d_lowres"}, r"configurations\.3d_lowres is missing"),
        ({"inherits_from": 3}, r"configurations\.3 is missing"),
    ],
)
def test_a_field_of_the_plans_that_makes_no_sense_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read(make_plans(**changes))


def test_intensities_that_the_plans_lack_are_named() -> None:
    plans = make_plans()
    del plans["foreground_intensity_properties_per_channel"]["0"]["std"]
    with pytest.raises(ModelError, match=r"plans\.foreground_intensity_properties_per_channel\.0\.std is missing"):
        read(plans)
