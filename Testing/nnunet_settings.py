"""What the tests of nnU-Net's files share: the settings of plans and data set, and variants of both."""

from __future__ import annotations

from typing import Any

from LightSegLib.nnunet.plans import Settings, settings_from_plans
from nnunet_models import DATASET, PLAIN_CONV_UNET, make_plans

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
