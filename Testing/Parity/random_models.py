"""Small nnU-Net v2 models that have learned nothing and yet are sure: of any number of labels, in a second.

Their convolutions blur and mix channels at random, and the last layer gives a voxel the label whose typical voxel has
the most similar features. The typical voxels are some of an image, so that each label occurs there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from LightSegLib.catalog.card import OuterResampling
from LightSegLib.imaging.geometry import triple
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.processing.outer_resampling import resample_outside
from LightSegLib.inference.processing.preprocess import prepare
from LightSegLib.networks import build
from LightSegLib.nnunet.plans import settings_from_plans
from nnunet_models import make_checkpoint, nnunet_names
from torch import Tensor, nn
from trained_models import CHECKPOINT, complete_plans

LARGEST_LOGIT = 300.0  # nnU-Net's sums in halves would round larger ones to whole numbers
BACKGROUND = 0.5  # share of the image
MOST_VOXELS = 30_000  # of these, whose features are compared
MIDDLE = 56  # voxels along each axis of an image that are looked at
STRIDE = 8  # of the deepest stage at most
NATIVE = [3.0, 3.0, 3.0]
BLUR = torch.tensor([0.25, 0.5, 0.25])


@dataclass(frozen=True)
class Described:
    """What a program expects of a model; see `run_totalsegmentator.describe`."""

    task: str
    folder: str
    trainer: str
    configuration: str
    labels: Sequence[str]
    spacing: list[float] | None


def write_random_model(
    parent: Path, known: Described, volume: Volume, small: Sequence[str] = (), seed: int = 0, **changes: Any
) -> Path:
    """Write a model of one fold below `parent`, and return its folder with plans.json.

    Args:
        parent: the folder of weights.
        known: names and labels.
        volume: in which each label occurs.
        small: labels that are in small parts of it, those of them that the model has.
        seed: of the weights.
        changes: to the plans' configuration.
    """
    plans = complete_plans(
        known.configuration, spacing=(known.spacing or NATIVE)[::-1], **{"patch_size": [32, 32, 32], **changes}
    )
    plans["dataset_name"] = known.folder
    schemes = plans["configurations"][known.configuration]["normalization_schemes"]
    dataset = {
        "channel_names": {"0": "CT" if schemes == ["CTNormalization"] else "MRI"},
        "labels": {name: value for value, name in enumerate(("background", *known.labels))},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    settings = settings_from_plans(plans, dataset, known.configuration, known.trainer, None)
    torch.manual_seed(seed)
    network = build(settings.network, settings.network_arguments).eval()
    blurring(network)
    steps = replace(settings.preprocessing, orientation="RAS", outer_resampling=_outer(known.spacing))
    outer = resample_outside([volume], steps)
    image = torch.from_numpy(prepare([volume] if outer is None else outer.volumes, steps).array)
    sides = [min(MIDDLE, length // STRIDE * STRIDE) for length in image.shape[1:]]
    starts = [(length - side) // 2 for length, side in zip(image.shape[1:], sides, strict=True)]
    middle = (slice(None), *(slice(start, start + side) for start, side in zip(starts, sides, strict=True)))
    decide(network, image[middle], [1 + n for n, name in enumerate(known.labels) if name in small], seed)
    model = parent / known.folder / f"{known.trainer}__nnUNetPlans__{known.configuration}"
    (model / "fold_0").mkdir(parents=True)
    checkpoint = make_checkpoint(plans, dataset, known.configuration, known.trainer)
    torch.save(checkpoint | {"network_weights": nnunet_names(network.state_dict())}, model / "fold_0" / CHECKPOINT)
    for name, content in (("plans", plans), ("dataset", dataset)):
        (model / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return model


def _outer(spacing: Sequence[float] | None) -> OuterResampling | None:
    return None if spacing is None else OuterResampling(triple(spacing), whole_numbers=True)


def blurring(network: nn.Module, roughness: float = 0.02) -> None:
    """Make each kernel a blur, nearly, so that labels are blobs; channels are mixed at random."""
    blur = torch.einsum("k,j,i->kji", BLUR, BLUR, BLUR)
    for module in network.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            inputs = module.weight.shape[1 if isinstance(module, nn.Conv3d) else 0]
            mixture = torch.randn(module.weight.shape[:2])[:, :, None, None, None] / math.sqrt(inputs)
            kernel = blur if module.weight.shape[2:] == blur.shape else torch.ones(module.weight.shape[2:])
            module.weight.data = mixture * (kernel + roughness * torch.randn(module.weight.shape))


@torch.inference_mode()
def decide(network: nn.Module, image: Tensor, small: Sequence[int], seed: int) -> None:
    """Set the last layer for an image [1, k, j, i]; small: labels that get the smallest parts of it."""
    last: nn.Conv3d = network.decoder.seg_layers[-1]  # type: ignore[union-attr, index, assignment]
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0][0].double()))
    network(image[None])
    hook.remove()
    features = seen[0].flatten(1).T  # [voxels, channels]
    rng = np.random.default_rng(seed)
    sample = features[rng.choice(len(features), min(len(features), MOST_VOXELS), replace=False)]
    center, scale = sample.mean(0), sample.std(0) + 1e-6
    typical = ((sample[rng.choice(len(sample), last.out_channels, replace=False)] - center) / scale).clone()
    typical[0] = 0  # the background is what is usual
    weight, bias = 2 * typical, -typical.square().sum(1)
    logits = ((sample - center) / scale) @ weight.T + bias
    bias[0] += torch.quantile(logits[:, 1:].amax(1) - logits[:, 0], BACKGROUND)
    order = by_extent(((features - center) / scale @ weight.T + bias).argmax(1).reshape(seen[0].shape[1:]), len(bias))
    for label, other in zip(small, order, strict=False):
        weight[[label, other]], bias[[label, other]] = weight[[other, label]], bias[[other, label]]
        order = [{label: other, other: label}.get(n, n) for n in order]
    factor = LARGEST_LOGIT / logits.abs().max()
    weight, bias = factor * weight / scale, factor * (bias - weight @ (center / scale))
    last.weight.data = weight.float()[:, :, None, None, None]
    last.bias.data = bias.float()  # type: ignore[union-attr]


def by_extent(labels: Tensor, count: int, least: int = 20) -> list[int]:
    """Labels [k, j, i] but the background, those in the smallest box first, of those with `least` voxels."""
    sizes = {}
    for label in range(1, count):
        places = (labels == label).nonzero()
        if len(places) >= least:
            sizes[label] = math.prod((places.amax(0) - places.amin(0) + 1).tolist())
    return sorted(sizes, key=lambda label: sizes[label])
