"""Small nnU-Net v2 models that have learned something, so that their logits are as decided as those of real models.

They distinguish bands of the smoothed intensities, which any image teaches in seconds. (Of a network that has learned
nothing, the classes are so close together that the last bits of a sum decide.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from LightSegLib.imaging.readers import read_volume
from LightSegLib.inference.processing.preprocess import prepare
from LightSegLib.networks import build
from LightSegLib.nnunet.plans import settings_from_plans
from nnunet_models import INTENSITIES, PLAIN_CONV_UNET, make_plans, nnunet_names, write_model
from scipy import ndimage
from torch import Tensor, nn

CHECKPOINT = "checkpoint_final.pth"
STEPS = 80
SIDE = 24  # longest of a patch to train with
VOXELS = 2 * SIDE**3  # of all patches of a step
SEGMENTATIONS = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
ARGUMENTS: dict[str, Any] = {
    **PLAIN_CONV_UNET["arch_kwargs"],  # type: ignore[dict-item]
    "features_per_stage": [8, 16],
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
}
UNET = {**PLAIN_CONV_UNET, "arch_kwargs": ARGUMENTS}
UNET_2D = {
    **PLAIN_CONV_UNET,
    "arch_kwargs": {
        **ARGUMENTS,
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "kernel_sizes": [[3, 3], [3, 3]],
        "strides": [[1, 1], [2, 2]],
    },
}
RESIDUAL_UNET = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "arch_kwargs": {
        **{name: value for name, value in ARGUMENTS.items() if name != "n_conv_per_stage"},
        "n_blocks_per_stage": [1, 2],
    },
    "_kw_requires_import": PLAIN_CONV_UNET["_kw_requires_import"],
}


def complete_plans(configuration: str = "3d_fullres", transpose: Sequence[int] = (0, 1, 2), **changes: Any) -> Any:
    """Plans with all that nnunetv2 reads; changes: to the configuration, except image_reader_writer."""
    reader = changes.pop("image_reader_writer", "SimpleITKIO")
    if not changes.get("old"):
        changes = {"architecture": UNET, **changes}
    plans = make_plans(
        resampling_fn_seg="resample_data_or_seg_to_shape", resampling_fn_seg_kwargs=SEGMENTATIONS, **changes
    )
    rules = plans["configurations"].pop("3d_fullres")
    channels = map(str, range(len(rules["normalization_schemes"])))
    return plans | {
        "foreground_intensity_properties_per_channel": dict.fromkeys(channels, INTENSITIES),
        "configurations": {configuration: rules},
        "image_reader_writer": reader,
        "transpose_forward": list(transpose),
        "transpose_backward": [int(axis) for axis in np.argsort(transpose)],
        "original_median_spacing_after_transp": [3.0, 1.5, 1.25],
        "original_median_shape_after_transp": [40, 60, 61],
    }


def write_trained_model(
    folder: Path, plans: dict[str, Any], dataset: dict[str, Any], images: Sequence[Path], folds: Sequence[int] = (0,)
) -> Path:
    """A results folder below `folder` whose networks, one per fold, were trained for some seconds on one case."""
    (configuration,) = plans["configurations"]
    model = write_model(folder, plans, dataset, configuration, folds=folds)
    settings = settings_from_plans(plans, dataset, configuration, "nnUNetTrainer", None)
    image = torch.from_numpy(prepare([read_volume(path) for path in images], settings.preprocessing).array)
    outputs, regions = settings.network_arguments["classes"], bool(settings.inference.regions)
    target = bands(image, outputs if regions else outputs - 1)
    for fold in folds:
        file = model / f"fold_{fold}" / CHECKPOINT
        checkpoint = torch.load(file, weights_only=False)
        torch.manual_seed(fold)
        network = build(settings.network, settings.network_arguments)
        train(network, image, target, settings.inference.patch_size, regions, np.random.default_rng(fold))
        checkpoint["network_weights"] = nnunet_names(network.state_dict())
        torch.save(checkpoint, file)
    return model


def bands(image: Tensor, count: int) -> Tensor:
    """For each voxel of an image [C, k, j, i] how many of `count` thresholds its surroundings exceed."""
    smooth = ndimage.gaussian_filter(image.mean(0).numpy(), 2)
    thresholds = np.quantile(smooth, np.linspace(0.6, 0.8, count))
    return torch.from_numpy(np.searchsorted(thresholds, smooth))


def train(
    network: nn.Module, image: Tensor, target: Tensor, patch: Sequence[int], regions: bool, rng: np.random.Generator
) -> None:
    """Learn the target [k, j, i], classes or how many nested regions are around a voxel, from patches of an image."""
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    patch = [min(side, SIDE) for side in patch]
    missing = [max(0, side - length) for side, length in zip(patch, target.shape, strict=True)]
    padding = [extra for side in reversed(missing) for extra in (side // 2, side - side // 2)]
    image, target = F.pad(image, padding), F.pad(target, padding)
    for _ in range(STEPS):
        images, targets = [], []
        for _ in range(VOXELS // math.prod(patch)):
            start = [rng.integers(length - side + 1) for length, side in zip(target.shape, patch, strict=True)]
            part = tuple(slice(first, first + side) for first, side in zip(start, patch, strict=True))
            images.append(image[(slice(None), *part)])
            targets.append(target[part])
        logits, wanted = network(torch.stack(images)), torch.stack(targets)
        if regions:
            inside = torch.stack([wanted > region for region in range(logits.shape[1])], dim=1)
            loss = F.binary_cross_entropy_with_logits(logits, inside.float())
        else:
            loss = F.cross_entropy(logits, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
