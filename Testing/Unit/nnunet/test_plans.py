"""nnU-Net's plans become the settings of a card, as nnU-Net itself would run them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from LightSegLib.catalog.card import Inference, Normalization, Preprocessing, Resampling
from LightSegLib.core.errors import ModelError
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.processing.preprocess import prepare
from LightSegLib.networks import build
from nnunet_models import CONFIGURATION_2D, DATASET, INTENSITIES, OLD_ARCHITECTURE, make_plans
from nnunet_settings import read, unet


def test_the_winner_of_flare24_is_read_as_its_authors_describe_it() -> None:
    """Old plans, a configuration that inherits, and labels whose numbers are text. Expected: README of the model."""
    six_stages = {
        "UNet_base_num_features": 32,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": [2] * 6,
        "n_conv_per_stage_decoder": [2] * 5,
        "pool_op_kernel_sizes": [[1, 1, 1], *[[2, 2, 2]] * 4, [1, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3]] * 6,
    }
    plans = make_plans(old=True, patch_size=[96, 128, 128], spacing=[3.0, 2.0, 2.0], **six_stages)
    plans["configurations"]["3d_fullres_S4D2W32"] = {
        "inherits_from": "3d_fullres",
        "n_conv_per_stage_encoder": [2] * 4,
        "n_conv_per_stage_decoder": [2] * 3,
        "pool_op_kernel_sizes": [[1, 1, 1], *[[2, 2, 2]] * 3],
        "conv_kernel_sizes": [[3, 3, 3]] * 4,
    }
    dataset = {"labels": {"background": "0", "tumor": "1"}, "channel_names": {"0": "CT"}}

    settings = read(plans, dataset, "3d_fullres_S4D2W32", "nnUNetTrainer_Epoch2000_Lr1e3")

    assert settings.network == "plain_conv_unet"
    assert settings.network_arguments == {
        "in_channels": 1,
        "classes": 2,
        "features_per_stage": [32, 64, 128, 256],
        "kernel_sizes": [[3, 3, 3]] * 4,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [2, 2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2, 2],
        "conv_bias": True,
    }
    assert settings.modality == "CT" and settings.channels == ("CT",)
    assert settings.preprocessing == Preprocessing(
        orientation="input",
        crop="nonzero",
        spacing=(2.0, 2.0, 3.0),  # along i, j, k
        normalization=(Normalization("ct", -900.0, 619.0, -52.25, 268.75),),
        resampling=Resampling("cubic", "anisotropic", "nearest"),
        normalize_first=True,
    )
    results = Resampling("linear", "anisotropic", "nearest")
    assert settings.inference == Inference((96, 128, 128), 0.5, (0, 1, 2), pad_to_patch=True, resampling=results)
    (tumor,) = settings.labels
    assert (tumor.value, tumor.name) == (1, "tumor")
    assert tumor.terminology is not None and tumor.terminology.type.value == "108369006"  # SNOMED CT: neoplasm


def test_old_and_new_plans_of_one_network_say_the_same() -> None:
    assert read(make_plans(old=True)) == read(make_plans())
    assert read().network_arguments["features_per_stage"] == [4, 6]  # 8 is cut to unet_max_num_features


def test_residual_encoders_count_blocks_instead_of_convolutions() -> None:
    arguments = {k: v for k, v in unet(n_blocks_per_stage=[1, 3])["arch_kwargs"].items() if k != "n_conv_per_stage"}
    name = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    new = read(make_plans(architecture={"network_class_name": name, "arch_kwargs": arguments}))
    old = {**OLD_ARCHITECTURE, "UNet_class_name": "ResidualEncoderUNet", "n_conv_per_stage_encoder": [1, 3]}
    assert new == read(make_plans(old=True, **old))
    assert new.network == "residual_encoder_unet"
    assert new.network_arguments["n_blocks_per_stage"] == [1, 3] and "n_conv_per_stage" not in new.network_arguments


def test_the_nearest_configuration_of_a_chain_decides() -> None:
    plans = make_plans()
    plans["configurations"]["finer"] = {"inherits_from": "3d_fullres", "spacing": [2.0, 1.0, 1.0], "batch_size": 1}
    plans["configurations"]["finest"] = {"inherits_from": "finer", "patch_size": [4, 8, 8]}
    settings = read(plans, configuration="finest")
    assert settings.preprocessing.spacing == (1.0, 1.0, 2.0)
    assert settings.inference.patch_size == (4, 8, 8)


def test_a_circle_of_configurations_is_refused() -> None:
    plans = make_plans(inherits_from="b")
    plans["configurations"]["b"] = {"inherits_from": "3d_fullres"}
    with pytest.raises(ModelError, match=r"configurations\.b\.inherits_from is circular \(3d_fullres -> b\)"):
        read(plans)


@pytest.mark.parametrize(
    ("scheme", "masked", "expected"),
    [
        ("ZScoreNormalization", False, Normalization("zscore")),
        ("ZScoreNormalization", True, Normalization("zscore", masked=True)),
        ("CTNormalization", True, Normalization("ct", -900.0, 619.0, -52.25, 268.75)),
        ("NoNormalization", False, Normalization("none")),
        ("RescaleTo01Normalization", False, Normalization("minmax")),
        ("RGBTo01Normalization", False, Normalization("ct", 0.0, 255.0, 0.0, 255.0)),
    ],
)
def test_every_normalization_of_nnunet_is_known(scheme: str, masked: bool, expected: Normalization) -> None:
    settings = read(make_plans(normalization_schemes=[scheme], use_mask_for_norm=[masked]))
    assert settings.preprocessing.normalization == (expected,)


def test_intensities_are_those_of_the_channel_also_under_their_old_name() -> None:
    plans = make_plans(normalization_schemes=["CTNormalization"] * 2, use_mask_for_norm=[False] * 2)
    del plans["foreground_intensity_properties_per_channel"]
    plans["foreground_intensity_properties_by_modality"] = {"0": INTENSITIES, "1": {**INTENSITIES, "mean": 7}}
    settings = read(plans, {**DATASET, "channel_names": {"1": "late CT", "0": "CT"}})
    assert settings.channels == ("CT", "late CT")
    assert [rule.mean for rule in settings.preprocessing.normalization] == [-52.25, 7.0]


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (
            "to_shape",
            {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
            "cubic anisotropic nearest",
        ),
        ("to_shape", {"order": 1, "order_z": 1, "force_separate_z": True}, "linear always linear"),
        ("to_shape", {"order": 0, "order_z": 3, "force_separate_z": False}, "nearest never cubic"),
        ("to_shape", {}, "cubic never nearest"),  # its signature has order=3, order_z=0, force_separate_z=False
        ("to_shape", {"separate_z_anisotropy_threshold": 3.0, "force_separate_z": None}, "cubic anisotropic nearest"),
        ("torch", {"is_seg": False, "force_separate_z": False}, "linear never nearest"),  # of nnU-Net's planner
        ("torch", {"is_seg": False, "force_separate_z": None}, "linear anisotropic nearest"),
        ("torch", {}, "linear anisotropic nearest"),  # its signature has force_separate_z=None
        ("torch", {"mode": "nearest-exact", "aniso_axis_mode": "linear"}, "nearest anisotropic linear"),
        # Without a separate axis torch's function does not pass its mode on.
        ("torch", {"mode": "nearest-exact", "force_separate_z": False}, "linear never nearest"),
        ("torch", {"num_threads": 8, "memefficient_seg_resampling": True}, "linear anisotropic nearest"),
    ],
)
def test_the_way_of_resampling_is_taken_over(function: str, arguments: object, expected: str) -> None:
    name = {"to_shape": "resample_data_or_seg_to_shape", "torch": "resample_torch_fornnunet"}[function]
    plans = make_plans(resampling_fn_data=name, resampling_fn_data_kwargs=arguments)
    assert read(plans).preprocessing.resampling == Resampling(*expected.split())
    if "cubic" not in expected:
        plans = make_plans(resampling_fn_probabilities=name, resampling_fn_probabilities_kwargs=arguments)
        assert read(plans).inference.resampling == Resampling(*expected.split())


def test_a_model_without_resampling_keeps_the_spacing() -> None:
    unsampled = {"resampling_fn_data": "no_resampling_hack", "resampling_fn_data_kwargs": {}}
    assert read(make_plans(**unsampled)).preprocessing.spacing is None
    results = {"resampling_fn_probabilities": "no_resampling_hack", "resampling_fn_probabilities_kwargs": {}}
    assert read(make_plans(**unsampled, **results)).preprocessing.spacing is None
    with pytest.raises(ModelError, match="does not resample its results, although it resamples its images"):
        read(make_plans(**results))


def test_a_configuration_of_slices_keeps_the_distance_between_them() -> None:
    """As nnU-Net's preprocessor, which puts the image's own spacing before the two of the plans."""
    plans = make_plans(**CONFIGURATION_2D)
    plans["configurations"]["2d"] = plans["configurations"].pop("3d_fullres")
    plans["transpose_forward"] = [1, 0, 2]
    settings = read(plans, configuration="2d", mirror_axes=(0, 1))
    assert settings.preprocessing.spacing == (1.25, 1.5, None)  # along i, j, k
    assert settings.preprocessing.transpose == (1, 0, 2)
    assert settings.inference.patch_size == (1, 16, 24)
    assert settings.inference.mirror_axes == (1, 2)
    assert read(plans, configuration="2d", mirror_axes=(0,)).inference.mirror_axes == (1,)  # nnUNetTrainer_onlyMirror01
    assert settings.network_arguments["strides"] == [[1, 1], [2, 2]]
    network = build(settings.network, settings.network_arguments).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 1, 16, 24)).shape == (2, 3, 1, 16, 24)
    with pytest.raises(ModelError, match="inference_allowed_mirroring_axes must be below 2"):
        read(plans, configuration="2d", mirror_axes=(0, 1, 2))


def test_old_and_new_plans_of_one_network_of_slices_say_the_same() -> None:
    slices = {"pool_op_kernel_sizes": [[1, 1], [2, 2]], "conv_kernel_sizes": [[3, 3], [3, 3]]}
    shapes = {name: CONFIGURATION_2D[name] for name in ("patch_size", "spacing")}
    assert read(make_plans(old=True, **shapes, **slices), mirror_axes=(0, 1)) == read(
        make_plans(**CONFIGURATION_2D), mirror_axes=(0, 1)
    )


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO", "SimpleITKIOWithReorient", "NibabelIOWithReorient"])
@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_the_network_sees_the_axes_that_nnunet_would_show_it(reader: str, transpose: tuple[int, ...]) -> None:
    """Expected: by hand from an image stored with i to the left, j to the back and k downwards."""
    plans = make_plans(normalization_schemes=["NoNormalization"], spacing=[1.0, 1.0, 1.0])
    plans |= {"transpose_forward": list(transpose), "image_reader_writer": reader}
    stored = np.random.default_rng(0).normal(10, 1, (4, 5, 6)).astype(np.float32)
    geometry = Geometry((4, 5, 6), direction=(1.0, 0, 0, 0, 1.0, 0, 0, 0, -1.0))
    preprocessing = read(plans).preprocessing
    array = prepare([Volume(stored, geometry)], preprocessing).array[0]
    to_superior_anterior_right = stored[::-1, ::-1, ::-1]
    expected = to_superior_anterior_right if reader.endswith("WithReorient") else stored
    assert np.array_equal(array, expected.transpose(transpose))
    # axes that are named by their directions must not be moved a second time
    assert preprocessing.transpose == (transpose if preprocessing.orientation == "input" else (0, 1, 2))


def test_the_spacing_belongs_to_the_transposed_axes() -> None:
    plans = make_plans(spacing=[0.5, 2.0, 1.0])
    plans["transpose_forward"] = [2, 0, 1]
    preprocessing = read(plans).preprocessing
    assert preprocessing.transpose == (2, 0, 1)
    assert preprocessing.spacing == (1.0, 2.0, 0.5)  # along the new i, j, k


def test_flips_that_were_not_trained_are_not_averaged() -> None:
    assert read(mirror_axes=None).inference.mirror_axes == ()
    assert read(mirror_axes=(0, 2)).inference.mirror_axes == (0, 2)


def test_norms_and_activations_of_the_plans_become_those_of_the_network() -> None:
    unusual = unet(
        norm_op="torch.nn.modules.batchnorm.BatchNorm3d",
        norm_op_kwargs={"eps": 1e-3, "affine": True},
        nonlin_kwargs={"negative_slope": 0.2, "inplace": True},
        dropout_op="torch.nn.Dropout3d",  # training alone knows it
        dropout_op_kwargs={"p": 0.2},
        nonlin_first=True,
        n_conv_per_stage=2,
    )
    arguments = read(make_plans(architecture=unusual)).network_arguments
    expected = {
        "norm": "batch",
        "norm_eps": 1e-3,
        "negative_slope": 0.2,
        "nonlin_first": True,
        "n_conv_per_stage": [2, 2],
    }
    assert expected.items() <= arguments.items() and "activation" not in arguments
    build("plain_conv_unet", arguments)
    assert not set(read(make_plans()).network_arguments) & {"norm", "norm_eps", "negative_slope", "nonlin_first"}
