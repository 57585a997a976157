"""The network of a configuration in nnU-Net v2's plans, as family and arguments of a card.

Plans from before nnU-Net 2.4 state the network's sizes, later ones its class and the arguments of its constructor
(class names and arguments of the package dynamic-network-architectures).
"""

from __future__ import annotations

import math
import re
from typing import Any

from ..core.i18n import tr as _
from ..core.schema import FieldError, conform
from .fields import COUNT, COUNTS, OBJECT, SIZES, TEXT, Schema, object_of, unsupported

Size = tuple[int, ...]  # k, j, i, or without k in two dimensions

OLD_ARCHITECTURE = {
    "UNet_class_name": TEXT,
    "UNet_base_num_features": COUNT,
    "unet_max_num_features": COUNT,
    "conv_kernel_sizes": SIZES,
    "pool_op_kernel_sizes": SIZES,
    "n_conv_per_stage_encoder": COUNTS,
    "n_conv_per_stage_decoder": COUNTS,
}
ARCHITECTURE = {"network_class_name": TEXT, "arch_kwargs": OBJECT}
UNET: dict[str, Schema] = {
    "features_per_stage": COUNTS,
    "kernel_sizes": SIZES,
    "strides": SIZES,
    "n_conv_per_stage_decoder": COUNTS,
    "conv_bias": {"type": "boolean"},
}
STYLE: dict[str, Schema] = {
    "norm_op_kwargs": {"type": ["object", "null"], "properties": {"eps": {"type": "number", "exclusiveMinimum": 0}}},
    "nonlin_kwargs": {"type": ["object", "null"], "properties": {"negative_slope": {"type": "number"}}},
    "nonlin_first": {"type": ["boolean", "null"]},
}
# Class -> family, and the argument for how much a stage of the encoder holds.
UNETS = {
    "PlainConvUNet": ("plain_conv_unet", "n_conv_per_stage"),
    "ResidualEncoderUNet": ("residual_encoder_unet", "n_blocks_per_stage"),
}
# Further arguments that a network may be made with; all others must be off.
FIXED: dict[str, tuple[Any, ...]] = {
    "conv_op": ("Conv2d", "Conv3d"),
    "block": ("BasicBlockD",),
    "deep_supervision": (True, False),
}
TRAINING_ONLY = ("dropout_op", "dropout_op_kwargs")
NORMS = {"InstanceNorm2d": "instance", "InstanceNorm3d": "instance", "BatchNorm2d": "batch", "BatchNorm3d": "batch"}
ACTIVATIONS = {"LeakyReLU": "leaky_relu", "ReLU": "relu", "SiLU": "silu", "GELU": "gelu"}
# Slim UNETRV2's trainers bring their network and their patch size along, whatever the plans say.
SLIM_TRAINERS: dict[str, tuple[int, dict[str, Any]]] = {
    "SlimUNETRV2_128Trainer": (128, {"first_kernel": 4, "slices": [64, 32, 16, 8]}),
    "SlimUNETRV2_96Trainer": (96, {"first_kernel": 2, "slices": [16, 8, 4, 2]}),
}
# nnU-Net's own trainer that replaces the norm of the plans, and how.
BATCH_NORM_TRAINER = "nnUNetTrainerBN"
BATCH_NORM = {"norm_op": "torch.nn.BatchNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
TRANSFORMER_TRAINER = r"(nnUNet)?_Primus\w*|AbstractPrimus"  # its networks are in no plans
# nnU-Net's other own trainers, of version 2.8.1: they change training alone.
PLAIN_TRAINER = (
    r"nnUNet_Trainer_BS8|nnUNetTrainer(_?(\d+epochs?|1500ep|\den\d|NoDA|DA5|(DA)?Segord0|ord0|noDummy2DDA|NoMirroring"
    r"|onlyMirror01|warmup|CosAnneal|Adan|(Vanilla)?Adam|CELoss|DiceLoss|DiceCELoss_noSmooth|(Dice)?TopK10Loss(LS01)?"
    r"|NoDeepSupervision|probabilisticOversampling|0(33|10)|Benchmark|noDataLoading))*"
)


def is_known_trainer(trainer: str) -> bool:
    """Return whether LightSeg knows which network this class builds."""
    known = trainer in SLIM_TRAINERS or trainer == BATCH_NORM_TRAINER
    return known or re.fullmatch(PLAIN_TRAINER, trainer, re.IGNORECASE) is not None


def read_network(rules: dict[str, Any], trainer: str, where: str) -> tuple[str, dict[str, Any], Size]:
    """Family, arguments but for channels and classes, and patch size [k, j, i] or [j, i] of the configuration `rules`.

    Args:
        trainer: nnU-Net's class that trained the network.
        where: the configuration's name in complaints.

    Raises:
        FieldError: for the first field that does not fit.
        ModelError: for a network that LightSeg does not have.
    """
    if trainer in SLIM_TRAINERS:
        side, arguments = SLIM_TRAINERS[trainer]
        return "slim_unetrv2", dict(arguments), (side, side, side)
    if re.fullmatch(TRANSFORMER_TRAINER, trainer):
        unsupported(_("The trainer '{trainer}' builds a network of the family Primus").format(trainer=trainer))
    name, arguments, where = _architecture(rules, where)
    if name.rsplit(".", 1)[-1] not in UNETS:
        unsupported(_("The network has the class '{name}'").format(name=name))
    family, depth = UNETS[name.rsplit(".", 1)[-1]]
    arguments = _for_every_stage(arguments, depth)
    arguments = conform(arguments, object_of({**UNET, depth: COUNTS, "norm_op": TEXT, "nonlin": TEXT}), where)
    arguments = conform(arguments, {"type": "object", "properties": STYLE}, where)
    style = _style(arguments | BATCH_NORM if trainer == BATCH_NORM_TRAINER else arguments)
    stated = (*UNET, depth, "n_stages", "norm_op", "norm_op_kwargs", "nonlin", "nonlin_kwargs", "nonlin_first")
    _check_details({name: value for name, value in arguments.items() if name not in (*stated, *TRAINING_ONLY)})
    patch_size: Size = rules["patch_size"]
    _check_sizes(arguments, depth, patch_size, where)
    return family, {name: _as_lists(arguments[name]) for name in (*UNET, depth)} | style, patch_size


def _for_every_stage(arguments: dict[str, Any], depth: str) -> dict[str, Any]:
    """Return the arguments with one number of convolutions or blocks for every stage."""
    features = arguments.get("features_per_stage")
    stages = len(features) if isinstance(features, list) else 0
    counts = {depth: stages, "n_conv_per_stage_decoder": stages - 1}
    single = {name: [arguments[name]] * n for name, n in counts.items() if isinstance(arguments.get(name), int)}
    return arguments | single


def _architecture(rules: dict[str, Any], where: str) -> tuple[str, dict[str, Any], str]:
    """Return class, constructor arguments and their field in the plans, of new and old plans."""
    if "architecture" in rules:
        new = conform(rules["architecture"], object_of(ARCHITECTURE), f"{where}.architecture")
        return new["network_class_name"], new["arch_kwargs"], f"{where}.architecture.arch_kwargs"
    old = conform(rules, object_of(OLD_ARCHITECTURE), where)
    name = old["UNet_class_name"]
    stages = range(len(old["n_conv_per_stage_encoder"]))
    arguments = {
        "features_per_stage": [
            min(old["UNet_base_num_features"] * 2**stage, old["unet_max_num_features"]) for stage in stages
        ],
        "kernel_sizes": rules["conv_kernel_sizes"],
        "strides": rules["pool_op_kernel_sizes"],
        UNETS.get(name, ("", ""))[1]: rules["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": rules["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "InstanceNorm3d",
        "norm_op_kwargs": {"affine": True},
        "nonlin": "LeakyReLU",
    }
    return name, arguments, where


def _style(arguments: dict[str, Any]) -> dict[str, Any]:
    """Norm and activation, as far as they differ from nnU-Net's usual ones."""
    norm, activation = (arguments[name].rsplit(".", 1)[-1] for name in ("norm_op", "nonlin"))
    if norm not in NORMS or activation not in ACTIVATIONS:
        unsupported(
            _("The network uses norm_op = {norm} and nonlin = {activation}").format(
                norm=arguments["norm_op"], activation=arguments["nonlin"]
            )
        )
    of_norm = {"affine": False, **(arguments.get("norm_op_kwargs") or {})}
    of_activation = {"inplace": True, **(arguments.get("nonlin_kwargs") or {})}
    style = {
        "norm": NORMS[norm],
        "norm_eps": of_norm.pop("eps", 1e-5),
        "activation": ACTIVATIONS[activation],
        "negative_slope": of_activation.pop("negative_slope", 0.01),
        "nonlin_first": arguments.get("nonlin_first") or False,
    }
    del of_activation["inplace"]
    if of_norm != {"affine": True} or of_activation:
        unsupported(
            _("The network uses norm_op_kwargs = {norm} and nonlin_kwargs = {activation}").format(
                norm=of_norm, activation=of_activation
            )
        )
    usual = {"norm": "instance", "norm_eps": 1e-5, "activation": "leaky_relu", "negative_slope": 0.01}
    return {name: value for name, value in style.items() if value != usual.get(name, False)}


def _check_details(arguments: dict[str, Any]) -> None:
    """Check that no argument asks for what LightSeg's networks do not do.

    Raises:
        ModelError: for the first that does.
    """
    for name, value in arguments.items():
        short = value.rsplit(".", 1)[-1] if isinstance(value, str) else value
        if short not in FIXED.get(name, (None, False)):
            unsupported(_("The network uses {name} = {value}").format(name=name, value=value))


def _check_sizes(arguments: dict[str, Any], depth: str, patch_size: Size, where: str) -> None:
    """Check that the lists of the plans have an entry for every stage.

    Raises:
        FieldError: for the first that does not.
    """
    stages = len(arguments["features_per_stage"])
    lengths = {"kernel_sizes": stages, "strides": stages, depth: stages, "n_conv_per_stage_decoder": stages - 1}
    for name, length in lengths.items():
        if len(arguments[name]) != length:
            raise FieldError(
                _("{where}.{name} must be a list of {length}").format(where=where, name=name, length=length)
            )
    for name in ("kernel_sizes", "strides"):
        if any(len(size) != len(patch_size) for size in arguments[name]):
            raise FieldError(
                _("{where}.{name} must have as many dimensions as the patch_size").format(where=where, name=name)
            )
    reductions = map(math.prod, zip(*arguments["strides"], strict=True))
    if any(side % reduction for side, reduction in zip(patch_size, reductions, strict=True)):
        raise FieldError(
            _("{where}.strides must divide the patch_size {patch_size}").format(
                where=where, patch_size=" x ".join(map(str, patch_size))
            )
        )


def _as_lists(value: Any) -> Any:
    """Tuples as JSON has them."""
    return [_as_lists(entry) for entry in value] if isinstance(value, tuple) else value
