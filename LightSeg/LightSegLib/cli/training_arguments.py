"""The arguments of `lightseg train`: a flag for each option of a training, with its help text."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from ..training.options import TrainingOptions
from ..training.synthetic_options import SyntheticTrainingOptions
from . import values

TRAINING_HELP = {
    "card": "model whose card is the starting point: id, card file or model folder",
    "epochs": "passes over the training cases; with label maps, parts of the training",
    "batch_size": "patches per step",
    "patch_size": "voxels K,J,I of a patch",
    "learning_rate": "highest learning rate",
    "weight_decay": "of AdamW",
    "warmup_epochs": "epochs until the highest learning rate",
    "class_weight_exponent": "1 weighs classes by inverse frequency, 0 alike",
    "foreground_fraction": "share of patches that are centered on a label",
    "flip_axes": "array axes flipped at random, joined by commas; 2 swaps left and right",
    "augmentation": "strength of random rotation, scaling, noise and the like; 0 for none but flips",
    "ema_decay": "moving average of the weights, 0 for none",
    "validation_fraction": "share of the cases kept for validation; 0 trains on all, and measures no quality",
    "fold": "set part K of N of the cases aside instead, such as 2/5, for a cross-validation with one seed",
    "validate_every": "epochs between validations",
    "initial_weights": "start from the weights in this file",
    "seed": "seed of all random numbers",
    "bfloat16": "train in bfloat16 on the CPU, faster where the processor has AMX",
    "resume": "go on with an interrupted training in MODEL_FOLDER",
    "replace": "begin anew in place of the model or training in MODEL_FOLDER",
}
SYNTHESIS_HELP = {
    "settings": "what the values of the label maps are: a file, or the name of one that LightSeg has, such as brain "
    "(default: synthesis.json beside the label maps)",
    "images_per_epoch": "images made and learned from in one epoch",
    "hours": "pause after so many hours, 0 for never; --resume goes on",
    "voxels_per_class": "of each image, drawn at random for the objective",
    "validation_maps": "label maps kept for validation",
    "all_maps": "train on the label maps kept for validation, too, and measure no quality",
    "spacing": "mm of the network's grid",
    "margin": "mm around the structures that the network sees",
    "overlap": "mm beyond the middle that each half sees",
    "widths": "channels of the network's levels, joined by commas",
    "fine_channels": "channels of the network at full resolution",
    "residual_blocks": "more convolutions of the network at full and at half resolution",
    "border_channels": "train a border head of so many channels, for the network of --initial-weights; it places "
    "borders within the voxels of the grid",
    "whole_network": "with a border head, train the network with it",
    "prior_images": "label maps in random poses from which the prior is counted",
    "threads": "of the training; the images are made in a process beside it",
    "nice": "how far to step back behind other programs, 0 to 19",
}


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the data set, the model folder and all options of a training."""
    parser.add_argument(
        "dataset",
        type=values.path,
        nargs="?",
        metavar="DATASET",
        help="folder in nnU-Net's raw layout, or with images/ and labels/",
    )
    parser.add_argument(
        "--out", type=values.path, required=True, metavar="MODEL_FOLDER", help="where the model is written"
    )
    for name, default in vars(TrainingOptions()).items():
        _add_option(parser, name, default, TRAINING_HELP)
    synthesis = parser.add_argument_group("training on label maps")
    synthesis.add_argument("--synthesize", metavar="LABELMAPS", help="folder of label maps to make images from")
    for name, default in vars(SyntheticTrainingOptions()).items():
        if name not in vars(TrainingOptions()):
            _add_option(synthesis, name, default, SYNTHESIS_HELP)
    synthesis.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the synthesis, such as noise=0,0.1",
    )
    synthesis.add_argument(
        "--preview", action="store_true", help="write preview.png with images as the training sees them, and stop"
    )


def _add_option(parser: argparse._ActionsContainer, name: str, default: object, helps: Mapping[str, str]) -> None:
    """The flag of one field of a training's options; what is not given is not in the result."""
    flag = f"--{name.replace('_', '-')}"
    if name == "device":
        parser.add_argument(flag, type=values.device, default=argparse.SUPPRESS, help="auto, cpu, cuda, cuda:N or mps")
    elif isinstance(default, bool):
        parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=helps[name])
    else:
        text = helps[name] + ("" if default in ("", None) else f" (default: {_words(default)})")
        kinds = {"patch_size": values.size, "flip_axes": values.axes, "widths": values.counts, "fold": values.fold}
        parser.add_argument(flag, type=kinds.get(name, type(default)), default=argparse.SUPPRESS, help=text)


def _words(value: object) -> str:
    """Return a default value as it is typed on the command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
