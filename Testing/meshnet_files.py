"""Small MeshNets as TensorFlow.js stores them, made of seeded numbers, and MeshNet computed with numpy alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import erf

ACTIVATIONS = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x / 2 * (1 + erf(x / np.sqrt(2))),
}


def layer(kind: str, name: str, before: str | None, **config: Any) -> dict[str, Any]:
    """A layer of a topology that follows the one called `before`."""
    inbound = [[[before, 0, 0, {}]]] if before else []
    return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": inbound}


def convolution(
    name: str, before: str, filters: int, dilation: int, kernel: int = 3, bias: bool = True
) -> dict[str, Any]:
    return layer(
        "Conv3D", name, before, filters=filters, kernel_size=[kernel] * 3, strides=[1, 1, 1], padding="same",
        data_format="channels_last", dilation_rate=[dilation] * 3, activation="linear", use_bias=bias,
    )  # fmt: skip


def write_meshnet(
    folder: Path,
    dilations: Sequence[int] = (1, 2, 1),
    activation: str = "elu",
    channels: int = 4,
    classes: int = 3,
    instance_norm: bool = False,
    shards: int = 2,
    seed: int = 0,
) -> Path:
    """The path of model.json of a small network; its shards are beside it."""
    random = np.random.default_rng(seed)
    layers = [layer("InputLayer", "input", None, batch_input_shape=[None, 256, 256, 256, 1])]
    weights: list[tuple[str, np.ndarray]] = []
    width = 1
    ending = "_gn" if instance_norm else ""
    for number, dilation in enumerate(dilations):
        name = f"conv_{number}{ending}"
        layers.append(convolution(name, layers[-1]["name"], channels, dilation, bias=not instance_norm))
        layers.append(layer("Activation", f"activation_{number}", name, activation=activation))
        weights.append((f"{name}/kernel", random.normal(size=(3, 3, 3, width, channels)) / np.sqrt(27 * width)))
        if not instance_norm:
            weights.append((f"{name}/bias", random.normal(size=channels) / 4))
        width = channels
    layers.append(convolution("output", layers[-1]["name"], classes, 1, kernel=1))
    weights += [
        ("output/kernel", random.normal(size=(1, 1, 1, width, classes))),
        ("output/bias", random.normal(size=classes)),
    ]
    content = b"".join(array.astype("<f4").tobytes() for _, array in weights)
    cuts = [len(content) * n // shards for n in range(shards + 1)]
    names = [f"group1-shard{n + 1}of{shards}.bin" for n in range(shards)]
    for name, start, stop in zip(names, cuts, cuts[1:], strict=False):
        (folder / name).write_bytes(content[start:stop])
    entries = [{"name": name, "shape": list(array.shape), "dtype": "float32"} for name, array in weights]
    topology = {"model_config": {"class_name": "Functional", "config": {"name": "model", "layers": layers}}}
    path = folder / "model.json"
    text = {
        "format": "layers-model",
        "modelTopology": topology,
        "weightsManifest": [{"paths": names, "weights": entries}],
    }
    path.write_text(json.dumps(text), encoding="utf-8")
    return path


def read_arrays(path: Path) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The layers of a model.json and its arrays by name, read without any of LightSeg."""
    content = json.loads(path.read_text(encoding="utf-8"))
    layers = content["modelTopology"]["model_config"]["config"]["layers"]
    arrays = {}
    for group in content["weightsManifest"]:
        floats = np.frombuffer(b"".join((path.parent / name).read_bytes() for name in group["paths"]), "<f4")
        for entry in group["weights"]:
            count = int(np.prod(entry["shape"]))
            arrays[entry["name"]], floats = floats[:count].reshape(entry["shape"]), floats[count:]
        assert floats.size == 0
    return layers, arrays


def computed_with_numpy(path: Path, volume: np.ndarray) -> np.ndarray:
    """Logits [classes, D, H, W] of a volume [D, H, W] by the layers of a model.json, in float64."""
    layers, arrays = read_arrays(path)
    features = volume[..., None].astype(np.float64)
    for entry in layers:
        config = entry["config"]
        if entry["class_name"] == "Conv3D":
            features = _convolved(features, arrays[f"{config['name']}/kernel"], config["dilation_rate"][0])
            if config["use_bias"]:
                features += arrays[f"{config['name']}/bias"]
            if config["name"].endswith("_gn"):
                mean, variance = features.mean((0, 1, 2)), features.var((0, 1, 2))
                features = (features - mean) / np.sqrt(variance + 1e-5)
        elif entry["class_name"] == "Activation":
            features = ACTIVATIONS[config["activation"]](features)
    return np.moveaxis(features, -1, 0)


def _convolved(features: np.ndarray, kernel: np.ndarray, dilation: int) -> np.ndarray:
    """With zeros around: one product of matrices for each place in the kernel."""
    reach = dilation * (kernel.shape[0] // 2)
    d, h, w, _ = features.shape
    padded = np.pad(features, [(reach, reach)] * 3 + [(0, 0)])
    total = np.zeros((d, h, w, kernel.shape[-1]))
    for a, b, c in np.ndindex(*kernel.shape[:3]):
        part = padded[a * dilation :, b * dilation :, c * dilation :][:d, :h, :w]
        total += part @ kernel[a, b, c].astype(np.float64)
    return total
