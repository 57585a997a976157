"""The models of the benchmark: nnU-Net v2 folders that need no download.

Speed does not depend on the weights, so they are random numbers from a seed; only, some channels of FLARE_SIZED are
made to distinguish labels by the image's brightness. So its labels have firm borders, as a trained model's have, and
can be compared between programs. Which precision is used does depend on them: "flare-trained" is the same network,
trained for some minutes on a phantom, so that bfloat16 and int8 are judged as for a model that people use.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from phantom import BRIGHTNESS, phantom
from torch import nn

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing"), str(REPOSITORY / "LightSeg")]

from LightSegLib.networks import build  # noqa: E402 (the path must be set first)
from LightSegLib.nnunet.plans import settings_from_plans  # noqa: E402
from LightSegLib.training.loss import drawn_loss  # noqa: E402
from nnunet_models import PLAIN_CONV_UNET, make_plans, nnunet_names, write_model  # noqa: E402

SPACING = (1.5, 1.5, 1.5)  # mm
CLIP, MEAN, STD = (-1024.0, 1000.0), 0.0, 300.0  # HU, of nnU-Net's CTNormalization


class Model(NamedTuple):
    """Features of the stages, voxels of the patch [k, j, i], labels besides the background, convolutions of a stage."""

    features: tuple[int, ...]
    patch: tuple[int, int, int]
    labels: int = len(BRIGHTNESS) - 1
    convolutions: int = 2


FLARE_SIZED = Model((32, 64, 128, 256), (96, 128, 128))  # as wholebody-tumor-ct-flare24
# The same patch, so that as much of the volume is kept, in less time. Of many labels features are kept instead (see
# `networks.linear_head`): so there must be as many as there are.
THIN = Model((8, 8), FLARE_SIZED.patch)
MODELS = {
    "flare-sized": FLARE_SIZED,
    "flare-trained": FLARE_SIZED,
    "thin": THIN,
    "thin-2": THIN._replace(labels=2),
    "thin-117": Model((FLARE_SIZED.features[0], 8), FLARE_SIZED.patch, labels=117, convolutions=1),
    "small": Model((8, 16, 32), (64, 64, 64)),
    "tiny": Model((4, 8), (32, 32, 32)),
}
FIRMNESS = 20.0
TRAINING_CT, CROP, STEPS, RATE = (230, 256, 256), (48, 64, 64), 300, 2e-3
MOST_NOISE = 0.3  # standard deviation, in the unit of `normalized`


def write_benchmark_model(parent: Path, name: str) -> Path:
    """Write one of MODELS below `parent`; the folder that nnU-Net and LightSeg take."""
    model = MODELS[name]
    plans, dataset = _plans(name, model), _dataset(model.labels)
    torch.manual_seed(0)
    folder = write_model(parent, plans, dataset)
    file = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    network = network_of(folder)
    if name == "flare-sized":
        find_labels(network, model.patch)
    if name == "flare-trained":
        train(network)
    torch.save(checkpoint | {"network_weights": nnunet_names(network.state_dict())}, file)
    return folder


def network_of(folder: Path) -> nn.Module:
    """The network of such a folder, plain and ready to run."""
    plans, dataset = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("plans", "dataset")
    )
    settings = settings_from_plans(plans, dataset, "3d_fullres", "nnUNetTrainer", (0, 1, 2))
    network = build(settings.network, settings.network_arguments)
    weights = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    network.load_state_dict({key: weights[key] for key in network.state_dict()})
    return network.eval()


def normalized(voxels: np.ndarray) -> np.ndarray:
    """HU as the networks take them, float32."""
    return ((np.clip(voxels, *CLIP).astype(np.float32) - MEAN) / STD).astype(np.float32)


def find_labels(network: Any, patch: tuple[int, int, int]) -> None:
    """Let the network find the label whose brightness is nearest, as far as a tile looks like a phantom's middle.

    Through the finest stages, one channel carries brightness and one its negative, of which the activations take a part
    each. In the last unit a channel per label begins to rise at the label's brightness; out of three of these, the head
    makes a tent that is 1 there and 0 from the next labels' brightness on. Its other weights stay, and are small
    beside FIRMNESS.
    """
    k, j, i = patch
    tile = normalized(phantom((2 * k, 2 * j, 2 * i), seed=1)[k // 2 :, j // 2 :, i // 2 :][:k, :j, :i])
    peaks = (normalized(np.array(BRIGHTNESS)) - tile.mean()) / tile.std()  # as instance norm makes them
    units = [*network.encoder.stages[0][0].convs, *network.decoder.stages[-1].convs]
    head = network.decoder.seg_layers[-1]
    with torch.no_grad():
        for number, unit in enumerate(units):
            positive = unit.conv.in_channels // 2 if number == 2 else 0  # skipped features come after those from below
            for channel, sign in enumerate([1] * len(peaks) if unit is units[-1] else [1, -1]):
                unit.conv.weight[channel] = 0
                unit.conv.weight[channel, positive, 1, 1, 1] = sign
                if number > 0:
                    unit.conv.weight[channel, positive + 1, 1, 1, 1] = -sign
        units[-1].norm.bias[: len(peaks)] = torch.from_numpy(-peaks)
        head.weight[:, : len(peaks)] = 0
        head.bias[0] += FIRMNESS
        order = np.argsort(peaks).tolist()
        for lower, upper in itertools.pairwise(order):
            step = FIRMNESS / (peaks[upper] - peaks[lower])
            for label, sign in ((upper, 1), (lower, -1)):
                head.weight[label, lower] += sign * step
                head.weight[label, upper] -= sign * step


def train(network: nn.Module) -> None:
    """Train on crops of a phantom with more or less noise; in bfloat16 where that is fast."""
    from LightSegLib.inference.backends.backend_choice import fast_backends
    from LightSegLib.inference.backends.precisions import BFLOAT16

    random = np.random.default_rng(0)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, a=0.01)
    voxels = phantom(TRAINING_CT, seed=3)
    order = np.argsort(BRIGHTNESS)
    levels = np.array(BRIGHTNESS)[order]
    labels = torch.from_numpy(order[np.digitize(voxels, (levels[1:] + levels[:-1]) / 2)])
    image = torch.from_numpy(normalized(voxels))
    network.to(memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.07)
    with torch.autocast("cpu", torch.bfloat16, enabled=BFLOAT16 in fast_backends(openvino=False)):
        for _step in range(STEPS):
            corner = [random.integers(0, n - side + 1) for n, side in zip(voxels.shape, CROP, strict=True)]
            crop = tuple(slice(low, low + side) for low, side in zip(corner, CROP, strict=True))
            tile, truth = image[crop][None, None], labels[crop].flatten()
            tile = tile + random.uniform(0, MOST_NOISE) * torch.randn(tile.shape)
            logits = network(tile.contiguous(memory_format=torch.channels_last_3d)).float()
            loss = drawn_loss(logits[0].flatten(1).T, truth, torch.ones(len(truth)))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 12)
            optimizer.step()
            schedule.step()
    network.eval()


def _plans(name: str, model: Model) -> dict[str, Any]:
    features, patch, stages = model.features, model.patch, len(model.features)
    arguments = {
        **PLAIN_CONV_UNET["arch_kwargs"],
        "n_stages": stages,
        "features_per_stage": list(features),
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [model.convolutions] * stages,
        "n_conv_per_stage_decoder": [model.convolutions] * (stages - 1),
    }
    resampling = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
    plans = make_plans(
        patch_size=list(patch),
        spacing=list(SPACING),
        architecture={**PLAIN_CONV_UNET, "arch_kwargs": arguments},
        resampling_fn_seg="resample_data_or_seg_to_shape",
        resampling_fn_seg_kwargs=resampling,
    )
    intensities = {"percentile_00_5": CLIP[0], "percentile_99_5": CLIP[1], "mean": MEAN, "std": STD}
    plans["foreground_intensity_properties_per_channel"]["0"] |= intensities
    return plans | {
        "dataset_name": f"Dataset900_{name.replace('-', '').title()}",
        "original_median_spacing_after_transp": list(SPACING),
        "original_median_shape_after_transp": [200, 256, 256],
    }


def _dataset(labels: int) -> dict[str, Any]:
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {f"organ {label}": label for label in range(1, labels + 1)},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }


def main(parent: str, name: str) -> None:
    """Write a model and add it to LightSeg's own; prints its folder and LightSeg's id of it, as JSON."""
    from LightSegLib.models.importing import import_model

    folder = write_benchmark_model(Path(parent), name)
    print(json.dumps({"folder": str(folder), "id": import_model(folder).id}))


if __name__ == "__main__":
    main(*sys.argv[1:])
