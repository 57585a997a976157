"""nnU-Net's own files become the settings of a card, or a sentence that names the field which stands in the way."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from LightSegLib.catalog.card import Card, Inference, Label, Normalization, Preprocessing, Resampling, Weights
from LightSegLib.core.errors import ModelError
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.processing.preprocess import prepare
from LightSegLib.networks import build
from LightSegLib.nnunet.network import is_known_trainer
from LightSegLib.nnunet.plans import Settings, complete, settings_from_plans
from LightSegLib.weights.checkpoint import Checkpoint
from nnunet_models import CONFIGURATION_2D, DATASET, INTENSITIES, OLD_ARCHITECTURE, PLAIN_CONV_UNET, make_plans

BRATS = {
    "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"},
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
    "regions_class_order": [1, 2, 3],
}


def read(
    plans: dict[str, Any] | None = None,
    dataset: Any = DATASET,
    configuration: str = "3d_fullres",
    trainer: str = "nnUNetTrainer",
    mirror_axes: tuple[int, ...] | None = (0, 1, 2),
) -> Settings:
    return settings_from_plans(make_plans() if plans is None else plans, dataset, configuration, trainer, mirror_axes)


def unet(**changes: Any) -> dict[str, Any]:
    """The architecture of the tiny U-Net with other arguments."""
    return {**PLAIN_CONV_UNET, "arch_kwargs": {**PLAIN_CONV_UNET["arch_kwargs"], **changes}}  # type: ignore[dict-item]


def mr_plans(channels: int, masked: bool = False) -> dict[str, Any]:
    return make_plans(
        normalization_schemes=["ZScoreNormalization"] * channels,
        use_mask_for_norm=[masked] * channels,
    )


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
    with pytest.raises(ModelError, match=r"configurations\.b\.inherits_from closes the circle 3d_fullres -> b"):
        read(plans)


def test_regions_are_painted_one_over_the_other() -> None:
    settings = read(mr_plans(4, masked=True), BRATS)
    assert settings.inference.regions == (1, 2, 3)
    assert settings.network_arguments["classes"] == 3 and settings.network_arguments["in_channels"] == 4
    assert [(label.value, label.name) for label in settings.labels] == [
        (1, "whole tumor without tumor core"),
        (2, "tumor core without enhancing tumor"),
        (3, "enhancing tumor"),
    ]
    assert settings.preprocessing.normalization == (Normalization("zscore", masked=True),) * 4
    assert settings.modality == "MR"


def test_regions_write_the_labels_of_their_class_order() -> None:
    """Kidney tumours as nnU-Net trains them: output 0 is the kidney with all in it, output 1 tumour and cyst."""
    labels = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2}
    settings = read(dataset={**DATASET, "labels": labels, "regions_class_order": [1, 3, 2]})
    assert settings.inference.regions == (1, 3, 2)
    assert [(label.value, label.name) for label in settings.labels] == [
        (1, "kidney without masses"),
        (2, "tumor"),
        (3, "masses without tumor"),
    ]


def test_the_ignore_label_has_no_output() -> None:
    labels = {"background": 0, "liver": 1, "tumor": 2, "ignore": 3}
    settings = read(dataset={**DATASET, "labels": labels})
    assert settings == read()
    assert settings.network_arguments["classes"] == 3


WHOLE = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
KIDNEY = {"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2}


@pytest.mark.parametrize(
    ("labels", "order", "outputs", "written"),
    [
        ({"background": 0, "liver": 1, "tumor": 2, "ignore": 3}, None, 3, [0, 1, 2]),
        ({"background": 0, "liver": [1], "tumor": [2]}, None, 3, [0, 1, 2]),  # lists of one are no regions
        ({"background": 0, "liver": [1], "tumor": [2], "ignore": 3}, [2, 1], 3, [0, 1, 2]),  # nor does an order count
        ({"background": "0", "liver": "1", "tumor": "2"}, None, 3, [0, 1, 2]),
        (WHOLE, [1, 2, 3], 3, [1, 2, 3]),
        (WHOLE | {"enhancing": [3], "ignore": 4}, [1, 2, 3], 3, [1, 2, 3]),
        (KIDNEY, [1, 3, 2], 3, [1, 3, 2]),
        (KIDNEY | {"ignore": 4}, [1, 3, 2], 3, [1, 3, 2]),
        ({"background": 0, "liver": [1, 1]}, [1], 1, [1]),  # a list of two is a region, whatever it holds
        ({"background": 0, "air": [0], "organ": [1, 2], "lesion": 2}, [1, 2], 2, [1, 2]),
        ({"background": 0, "one": [1, 2], "other": [2, 3]}, [1, 5], 2, [1, 5]),
    ],
)
def test_outputs_and_the_labels_they_write_are_those_of_nnunets_label_manager(
    labels: dict[str, Any], order: list[int] | None, outputs: int, written: list[int]
) -> None:
    """Expected: num_segmentation_heads of LabelManager of nnU-Net 2.8.1, and what its convert_logits_to_segmentation
    makes of a voxel where one output is 5 and the others are -5."""
    settings = read(dataset={**DATASET, "labels": labels, **({"regions_class_order": order} if order else {})})
    assert settings.network_arguments["classes"] == outputs
    assert list(settings.inference.regions or range(outputs)) == written
    assert {label.value for label in settings.labels} == set(written) - {0}


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (WHOLE, None),
        (WHOLE, [1, 2]),
        (WHOLE | {"ignore": 5}, [1, 2, 3]),
        (WHOLE | {"ignore": 3}, [1, 2, 3]),
        ({"liver": 1}, None),
        # of these nnU-Net makes outputs 0, 1 and 2 that are labels 0, 1 and 3, and writes them as 0, 1 and 2
        ({"background": 0, "liver": 1, "tumor": 3}, None),
    ],
)
def test_labels_that_nnunet_refuses_or_confuses_are_refused(labels: dict[str, Any], order: list[int] | None) -> None:
    with pytest.raises(ModelError, match=r"dataset\.(labels|regions_class_order)"):
        read(dataset={**DATASET, "labels": labels, **({"regions_class_order": order} if order else {})})


def test_the_older_name_of_the_channels_comes_first_as_in_nnunet() -> None:
    dataset = {**DATASET, "channel_names": {"0": "CT", "1": "PET"}, "modality": {"0": "CT"}}
    assert read(dataset=dataset).channels == ("CT",)


@pytest.mark.parametrize(("trainer", "side", "kernel"), [("128", 128, 4), ("96", 96, 2)])
def test_the_trainers_of_slim_unetrv2_impose_network_and_patch(trainer: str, side: int, kernel: int) -> None:
    plans = mr_plans(4)
    plans["configurations"]["3d_fullres"]["patch_size"] = [64, 160, 144]  # what nnU-Net planned for its own U-Net
    settings = read(plans, BRATS, trainer=f"SlimUNETRV2_{trainer}Trainer")
    assert settings.inference.patch_size == (side, side, side)
    slices = {4: [64, 32, 16, 8], 2: [16, 8, 4, 2]}[kernel]
    assert settings.network == "slim_unetrv2"
    assert settings.network_arguments == {"in_channels": 4, "classes": 3, "first_kernel": kernel, "slices": slices}


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
def test_every_normalisation_of_nnunet_is_known(scheme: str, masked: bool, expected: Normalization) -> None:
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
        ("to_shape", {}, "cubic never nearest"),  # its signature says order=3, order_z=0, force_separate_z=False
        ("to_shape", {"separate_z_anisotropy_threshold": 3.0, "force_separate_z": None}, "cubic anisotropic nearest"),
        ("torch", {"is_seg": False, "force_separate_z": False}, "linear never nearest"),  # of nnU-Net's planner
        ("torch", {"is_seg": False, "force_separate_z": None}, "linear anisotropic nearest"),
        ("torch", {}, "linear anisotropic nearest"),  # its signature says force_separate_z=None
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
    with pytest.raises(ModelError, match="results are not resampled, though its images are"):
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


@pytest.mark.parametrize(
    ("names", "modality"),
    [
        (["CT"], "CT"),
        (["ct"], "CT"),
        (["T2", "ADC"], "MR"),
        (["T1-weighted"], "MR"),
        (["FLAIR", "T1w", "t1gd", "T2w"], "MR"),
        (["MRI"], "MR"),
        (["PET_SUV"], "PT"),
        (["ultrasound"], "US"),
        (["CT", "PET"], "OT"),
        (["zscore"], "OT"),  # names a normalisation
        (["direct"], "OT"),
    ],
)
def test_the_modality_is_told_only_by_names_that_say_so(names: list[str], modality: str) -> None:
    dataset = {"labels": DATASET["labels"], "modality": dict(enumerate_as_text(names))}
    assert read(mr_plans(len(names)), dataset).modality == modality


def enumerate_as_text(names: list[str]) -> list[tuple[str, str]]:
    return [(str(number), name) for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"previous_stage": "3d_lowres"}, "second stage of a cascade"),
        ({"preprocessor_name": "MyPreprocessor"}, "preprocessor 'MyPreprocessor'"),
        ({"normalization_schemes": ["MyNormalization"]}, "Channel 0 .* 'MyNormalization'"),
        ({"resampling_fn_data": "my_resampling"}, "resampling_fn_data is 'my_resampling'"),
        # nnU-Net hands it spacings in the place of `is_seg` and `num_threads`, and itself fails to run it
        ({"resampling_fn_data": "resample_torch_simple", "resampling_fn_data_kwargs": {}}, "'resample_torch_simple'"),
        ({"resampling_fn_probabilities": "my_resampling"}, "resampling_fn_probabilities is 'my_resampling'"),
        ({"resampling_fn_data_kwargs": {"order": 2}}, "resampling_fn_data is .*order"),
        ({"resampling_fn_data_kwargs": {"order": True}}, "resampling_fn_data is .*order"),
        ({"resampling_fn_data_kwargs": {"order_z": 2}}, "resampling_fn_data is .*order_z"),
        ({"resampling_fn_data_kwargs": {"is_seg": True}}, "resampling_fn_data is .*is_seg"),
        ({"resampling_fn_data_kwargs": {"force_separate_z": "yes"}}, "resampling_fn_data is .*force_separate_z"),
        ({"resampling_fn_data_kwargs": {"separate_z_anisotropy_threshold": 2}}, "is .*separate_z_anisotropy_threshold"),
        ({"resampling_fn_data_kwargs": {"sigma": 1}}, "resampling_fn_data is .*sigma"),
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
        ({"resampling_fn_probabilities_kwargs": {"order": 3}}, "resampled by cubic splines"),
        ({"resampling_fn_probabilities_kwargs": {"order": 1, "order_z": 3}}, "resampled by cubic splines"),
        ({"architecture": {**PLAIN_CONV_UNET, "network_class_name": "my.package.Mamba"}}, "'my.package.Mamba'"),
        ({"architecture": unet(norm_op="torch.nn.GroupNorm")}, "norm_op = torch.nn.GroupNorm"),
        ({"architecture": unet(norm_op_kwargs={"eps": 1e-5})}, "norm_op_kwargs"),
        ({"architecture": unet(nonlin_kwargs={"approximate": "tanh"})}, "nonlin_kwargs"),
        ({"architecture": unet(squeeze_excitation=True)}, "squeeze_excitation = True"),
    ],
)
def test_what_lightseg_cannot_run_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words + r".*which LightSeg cannot run\. Choose another"):
        read(make_plans(**changes))


def test_readers_and_label_managers_of_unknown_behaviour_are_named() -> None:
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
        ({"spacing": [3.0, 0.0, 1.5]}, r"spacing\[1\] must be above 0"),
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel_names": None}, "dataset.channel_names must be a JSON object"),
        ({"channel_names": {}}, "dataset.channel_names must number the channels"),
        ({"channel_names": {"1": "CT"}}, "dataset.channel_names must number the channels"),
        ({"labels": {"0": "background", "1": "liver"}}, "dataset.labels.0 must be a whole number"),  # version 1
        ({"labels": {"liver": 1}}, "background of value 0"),
        ({"labels": {"background": 1, "liver": 0}}, "background of value 0"),
        ({"labels": {"background": 0}}, "must number the labels"),
        ({"labels": {"background": 0, "liver": 1, "tumor": 3}}, "must number the labels"),
        ({"labels": {"background": 0, "liver": 1, "tumor": 1}}, "must number the labels"),
        ({"labels": {"background": 0, "liver": []}}, "dataset.labels.liver must have at least one value"),
        ({"labels": {"background": 0, "liver": [1, "x"]}}, r"dataset.labels.liver\[1\] must be a whole number"),
        ({"labels": {"background": 0, "ignore": 1, "liver": 2}}, "dataset.labels.ignore must be the highest"),
        ({"labels": BRATS["labels"]}, "dataset.regions_class_order is missing"),
        ({"labels": BRATS["labels"], "regions_class_order": [1, 2]}, "one entry per region"),
        ({"labels": BRATS["labels"], "regions_class_order": [1, 2, 2]}, "must not have an entry twice"),
        ({"labels": BRATS["labels"], "regions_class_order": [0, 1, 2]}, r"regions_class_order\[0\] must be at least 1"),
    ],
)
def test_a_field_of_the_dataset_that_makes_no_sense_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read(dataset={**DATASET, **changes})


@pytest.mark.parametrize("missing", ["labels", "channel_names"])
def test_a_field_that_the_dataset_lacks_is_named(missing: str) -> None:
    with pytest.raises(ModelError, match=f"dataset.{missing} is missing"):
        read(dataset={name: value for name, value in DATASET.items() if name != missing})


def test_intensities_that_the_plans_lack_are_named() -> None:
    plans = make_plans()
    del plans["foreground_intensity_properties_per_channel"]["0"]["std"]
    with pytest.raises(ModelError, match=r"plans\.foreground_intensity_properties_per_channel\.0\.std is missing"):
        read(plans)


# --- self-describing models ----------------------------------------------------------------------


@pytest.fixture
def vague_card() -> Card:
    """What is known of a model before its weights are there."""
    return Card(
        id="heart-ct",
        title="Heart",
        version="1",
        description="Not much is known.",
        modality="CT",
        channels=("?",),
        network="plain_conv_unet",
        network_arguments={},
        preprocessing=Preprocessing(normalization=(Normalization("unknown"),)),
        inference=Inference((64, 64, 64)),
        labels=(Label(1, "?", (1, 2, 3)),),
        weights=Weights("checkpoint_final.pth"),
        licence="CC0-1.0",
        citation="None.",
        not_known=("The labels.",),
        self_describing=True,
    )


def test_a_checkpoint_fills_in_what_the_card_did_not_know(vague_card: Card) -> None:
    described = Checkpoint({}, "nnU-Net v2", make_plans(), DATASET, "3d_fullres", "nnUNetTrainer", (0, 1))
    card = complete(vague_card, described)
    settings = read(mirror_axes=(0, 1))
    assert (card.network_arguments, card.preprocessing) == (settings.network_arguments, settings.preprocessing)
    assert (card.inference, card.labels, card.channels) == (settings.inference, settings.labels, settings.channels)
    assert (card.id, card.title, card.weights) == (vague_card.id, vague_card.title, vague_card.weights)
    assert card.not_known == (
        "None of the labels in the weights file (Dataset042_Tiny) has the name of one that the model should have.",
    )
    agreeing = dataclasses.replace(vague_card, labels=settings.labels[:1])
    assert not complete(agreeing, described).unverified


def test_a_file_for_another_modality_is_refused(vague_card: Card) -> None:
    described = Checkpoint({}, "nnU-Net v2", make_plans(), DATASET, "3d_fullres", "nnUNetTrainer", ())
    with pytest.raises(ModelError, match=r"trained on CT \(Dataset042_Tiny\), but 'heart-ct' is for MR"):
        complete(dataclasses.replace(vague_card, modality="MR"), described)


def test_weights_that_do_not_describe_themselves_complete_nothing(vague_card: Card) -> None:
    with pytest.raises(ModelError, match="does not tell preprocessing and labels"):
        complete(vague_card, Checkpoint({}, "state dict"))


def test_a_file_of_another_network_is_not_taken_for_the_models_own(vague_card: Card) -> None:
    described = Checkpoint({}, "nnU-Net v2", make_plans(), DATASET, "3d_fullres", "nnUNetTrainer", ())
    card = dataclasses.replace(vague_card, network="slim_unetrv2")
    with pytest.raises(ModelError, match="holds a 'plain_conv_unet', but 'heart-ct' is a 'slim_unetrv2'"):
        complete(card, described)


def test_nnunets_batch_norm_trainer_replaces_the_norm_of_the_plans() -> None:
    """nnUNetTrainerBN: BatchNorm with eps 1e-5 and affine weights, whatever norm the plans name."""
    settings = read(
        make_plans(architecture=unet(norm_op_kwargs={"eps": 1e-3, "affine": True})), trainer="nnUNetTrainerBN"
    )
    assert settings.network_arguments["norm"] == "batch" and "norm_eps" not in settings.network_arguments
    assert (
        "encoder.stages.0.0.convs.0.norm.running_var"
        in build(settings.network, settings.network_arguments).state_dict()
    )


@pytest.mark.parametrize(
    "trainer", ["nnUNet_Primus_M_Trainer", "nnUNet_PrimusV3L_Trainer", "_Primus_S_96_BS1", "AbstractPrimus"]
)
def test_trainers_whose_networks_are_in_no_plans_are_named(trainer: str) -> None:
    with pytest.raises(ModelError, match=rf"The trainer '{trainer}' builds a network of the family Primus, which"):
        read(trainer=trainer)


# Of nnU-Net 2.8.1, those that take the plans' network, and that of batch norm.
TRAINERS = """
nnUNetTrainer nnUNet_Trainer_BS8 nnUNetTrainerBenchmark_5epochs nnUNetTrainerBenchmark_5epochs_noDataLoading
nnUNetTrainerDA5 nnUNetTrainerDA5ord0 nnUNetTrainerDA5Segord0 nnUNetTrainerDA5_10epochs nnUNetTrainerNoDA
nnUNetTrainer_DASegOrd0 nnUNetTrainer_DASegOrd0_NoMirroring nnUNetTrainer_noDummy2DDA nnUNetTrainerNoMirroring
nnUNetTrainer_onlyMirror01 nnUNetTrainer_onlyMirror01_1500ep nnUNetTrainer_onlyMirror01_DASegOrd0
nnUNetTrainer_warmup nnUNetTrainerCosAnneal nnUNetTrainerAdan nnUNetTrainerAdan1en3 nnUNetTrainerAdan3en4
nnUNetTrainerAdan1en1 nnUNetTrainerAdanCosAnneal nnUNetTrainerAdam nnUNetTrainerVanillaAdam
nnUNetTrainerVanillaAdam1en3 nnUNetTrainerVanillaAdam3en4 nnUNetTrainerAdam1en3 nnUNetTrainerAdam3en4
nnUNetTrainer_onlyMirror01_DA5 nnUNetTrainer_250epochs_NoMirroring nnUNetTrainer_8000epochs_NoMirroring
nnUNetTrainer_1epoch nnUNetTrainer_5epochs nnUNetTrainer_2000epochs nnUNetTrainerDiceLoss
nnUNetTrainerDiceCELoss_noSmooth nnUNetTrainerTopk10Loss nnUNetTrainerTopk10LossLS01 nnUNetTrainerDiceTopK10Loss
nnUNetTrainerCELoss nnUNetTrainerCELoss_5epochs nnUNetTrainerNoDeepSupervision nnUNetTrainerBN
nnUNetTrainer_probabilisticOversampling nnUNetTrainer_probabilisticOversampling_033
nnUNetTrainer_probabilisticOversampling_010
"""


@pytest.mark.parametrize("trainer", [*TRAINERS.split(), "SlimUNETRV2_96Trainer"])
def test_the_trainers_of_nnunet_are_known(trainer: str) -> None:
    assert is_known_trainer(trainer)


@pytest.mark.parametrize(
    "trainer", ["nnUNetTrainerUMambaBot", "nnUNetTrainerReLU", "nnUNetTrainerBN_100epochs", "", "Mine"]
)
def test_other_trainers_are_not(trainer: str) -> None:
    assert not is_known_trainer(trainer)


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
    told = {"norm": "batch", "norm_eps": 1e-3, "negative_slope": 0.2, "nonlin_first": True, "n_conv_per_stage": [2, 2]}
    assert told.items() <= arguments.items() and "activation" not in arguments
    build("plain_conv_unet", arguments)
    assert not set(read(make_plans()).network_arguments) & {"norm", "norm_eps", "negative_slope", "nonlin_first"}
