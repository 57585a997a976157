"""Small models as nnU-Net v2 leaves them on disk: plans.json, dataset.json and a checkpoint per fold.

The contents follow nnU-Net's documentation and the files that it writes: the names that its U-Nets give one tensor
several times over, the optimizer's state, and the training log with numpy's numbers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from LightSegLib.networks import build
from LightSegLib.nnunet.plans import settings_from_plans

INTENSITIES = {
    "max": 3603.9,
    "mean": -52.25,
    "median": 40.0,
    "min": -1380.0,
    "percentile_00_5": -900.0,
    "percentile_99_5": 619.0,
    "std": 268.75,
}
DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "tumor": 2},
    "numTraining": 20,
    "file_ending": ".nii.gz",
}
OLD_ARCHITECTURE = {
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 4,
    "unet_max_num_features": 6,
    "n_conv_per_stage_encoder": [2, 1],
    "n_conv_per_stage_decoder": [1],
    "num_pool_per_axis": [0, 1, 1],
    "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2]],
    "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3]],
}
PLAIN_CONV_UNET = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 2,
        "features_per_stage": [4, 6],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2]],
        "n_conv_per_stage": [2, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}


UNET_2D = {
    **PLAIN_CONV_UNET,
    "arch_kwargs": {
        **PLAIN_CONV_UNET["arch_kwargs"],  # type: ignore[dict-item]
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3], [3, 3]],
        "strides": [[1, 1], [2, 2]],
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
    },
}
CONFIGURATION_2D = {"patch_size": [16, 24], "spacing": [1.5, 1.25], "architecture": UNET_2D}


def make_plans(old: bool = False, **changes: Any) -> dict[str, Any]:
    """Plans of a tiny CT model whose configuration 3d_fullres has these changes; `old` in the form before 2.4."""
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    rules = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8, 16, 16],
        "median_image_size_in_voxels": [40.0, 60.0, 61.0],
        "spacing": [3.0, 1.5, 1.25],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "batch_dice": True,
        **(OLD_ARCHITECTURE if old else {"architecture": PLAIN_CONV_UNET}),
        **changes,
    }
    return copy.deepcopy(
        {
            "dataset_name": "Dataset042_Tiny",
            "plans_name": "nnUNetPlans",
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": {"3d_fullres": rules},
            "experiment_planner_used": "ExperimentPlanner",
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
        }
    )


def nnunet_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A U-Net's tensors under all the names that nnU-Net writes for each of them."""
    named = {}
    for key, tensor in state.items():
        again = [key]
        for module, number in (("conv", 0), ("norm", 1)):
            if f".{module}." in key:
                again.append(key.replace(f".{module}.", f".all_modules.{number}."))
        for name in again:
            named[name] = tensor
            if name.startswith("encoder."):
                named[f"decoder.{name}"] = tensor
    return named


def make_checkpoint(
    plans: dict[str, Any],
    dataset: dict[str, Any] = DATASET,
    configuration: str = "3d_fullres",
    trainer: str = "nnUNetTrainer",
    fold: int | str = 0,
) -> dict[str, Any]:
    """What nnU-Net v2 saves of a network with seeded random weights."""
    settings = settings_from_plans(plans, dataset, configuration, trainer, None)
    mirror_axes = (0, 1) if settings.inference.patch_size[0] == 1 else (0, 1, 2)
    torch.manual_seed(0 if fold == "all" else int(fold))
    state = build(settings.network, settings.network_arguments).state_dict()
    return {
        "network_weights": nnunet_names(state) if settings.network.endswith("unet") else state,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(8)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": {"scale": 65536.0, "growth_factor": 2.0},
        "logging": {"mean_fg_dice": [np.float64(0.5)], "dice_per_class_or_region": [[np.float32(0.5)]], "lrs": [0.01]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1000,
        "init_args": {
            "plans": plans,
            "configuration": configuration,
            "fold": fold,
            "dataset_json": dataset,
            "device": torch.device("cuda"),
        },
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": mirror_axes,
    }


def write_model(
    parent: Path,
    plans: dict[str, Any] | None = None,
    dataset: dict[str, Any] = DATASET,
    configuration: str = "3d_fullres",
    trainer: str = "nnUNetTrainer",
    folds: Iterable[int | str] = (0,),
    checkpoint: str = "checkpoint_final.pth",
) -> Path:
    """Write a results folder DatasetNNN_Name/trainer__plans__configuration below `parent`; returns the inner one."""
    plans = make_plans() if plans is None else plans
    model = parent / plans["dataset_name"] / f"{trainer}__{plans['plans_name']}__{configuration}"
    for fold in folds:
        (model / f"fold_{fold}").mkdir(parents=True)
        torch.save(make_checkpoint(plans, dataset, configuration, trainer, fold), model / f"fold_{fold}" / checkpoint)
        (model / f"fold_{fold}" / "progress.png").write_bytes(b"\x89PNG")
    (model / "plans.json").write_text(json.dumps(plans, indent=4), encoding="utf-8")
    (model / "dataset.json").write_text(json.dumps(dataset, indent=4), encoding="utf-8")
    (model / "dataset_fingerprint.json").write_text("{}", encoding="utf-8")
    return model
